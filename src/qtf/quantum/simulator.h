// Batches of tokens through one circuit with shared weights: expectation values, and their vector-Jacobian
// products for inputs and weights by the adjoint method. The transformer's layer calls this; `State`
// (quantum/state.h) is the same for one token, gate by gate.
//
//   Simulator<float> circuit(layered_circuit({.qubits = 6, .layers = 2}));
//   Workspace<float> workspace;
//   circuit.prepare(weights);                       // after each update of the weights
//   circuit.forward(x, y, workspace);               // x [B, inputs], y [B, outputs]
//   circuit.vjp(x, dy, y, dx, dweights, workspace);
#pragma once

#include <complex>
#include <memory>

#include "qtf/base/aligned.h"
#include "qtf/base/thread_pool.h"
#include "qtf/quantum/state.h"
#include "qtf/tensor/matrix.h"

namespace qtf::quantum {

/// Which loops run a circuit.
enum class Path : uint8_t {
  automatic,  ///< layered where the circuit has that form, else generic
  layered,    ///< the fast path (quantum/layered.h)
  generic,    ///< gate by gate (quantum/gate_program.h)
};

/// Scratch of one caller, kept between calls so that they allocate nothing once the largest has been seen.
template <class T>
struct Workspace {
  std::vector<AlignedVector<T>> threads;  ///< a worker each
  std::vector<double> sums;               ///< weight gradients of every block of tokens
};

/// One circuit and its observables, compiled. float and double. Calls that are const may run at once on
/// different workspaces.
template <class T>
class Simulator {
 public:
  /// Without observables: Z of every wire. Throws InputError if `path` is layered and the circuit or an
  /// observable has not that form.
  explicit Simulator(Circuit circuit, std::vector<PauliString> observables = {}, Path path = Path::automatic);
  ~Simulator();
  Simulator(Simulator&&) noexcept;
  Simulator& operator=(Simulator&&) noexcept;

  const Circuit& circuit() const;
  const std::vector<PauliString>& observables() const;
  int inputs() const { return circuit().inputs(); }
  int weights() const { return circuit().weights(); }
  int outputs() const { return static_cast<int>(observables().size()); }
  /// The path that was taken.
  Path path() const;

  /// Reads the weights; forward, vjp and states use them until the next call. Throws InputError for a wrong
  /// number of them and for NaN or infinity.
  void prepare(std::span<const T> weights);

  /// y[t, i] = ⟨observable i⟩ of token t with inputs x[t, …]; overwrites y. With a pool its workers share the
  /// tokens. Results depend on the token alone. Throws InputError for wrong sizes, NaN or infinity.
  void forward(ConstMatrix<T> x, Matrix<T> y, Workspace<T>& workspace, ThreadPool* pool = nullptr) const;

  /// The vector-Jacobian product: overwrites y (unless its data is null) as forward does, overwrites
  /// dx[t, j] with Σ_i dy[t, i]·∂y[t, i]/∂x[t, j], and adds Σ_t Σ_i dy[t, i]·∂y[t, i]/∂w to dweights. Sums
  /// over tokens run in blocks of fixed size, in order: they do not depend on the pool. Throws like forward.
  void vjp(ConstMatrix<T> x, ConstMatrix<T> dy, Matrix<T> y, Matrix<T> dx, std::span<T> dweights,
           Workspace<T>& workspace, ThreadPool* pool = nullptr) const;

  /// Final states, out[t·2^n + k], wire 0 the most significant bit of k: for entropies, probabilities and
  /// kernels of every token. Always on the generic path. Throws like forward.
  void states(ConstMatrix<T> x, std::span<std::complex<T>> out, Workspace<T>& workspace,
              ThreadPool* pool = nullptr) const;

  /// vjp of any real function of the final states, whose derivative is given as λ = ∂L/∂conj(ψ):
  /// dL = Σ_t 2·Re⟨λ_t|dψ_t⟩. Overwrites dx, adds to dweights.
  void states_vjp(ConstMatrix<T> x, std::span<const std::complex<T>> lambda, Matrix<T> dx,
                  std::span<T> dweights, Workspace<T>& workspace, ThreadPool* pool = nullptr) const;

 private:
  struct Impl;
  struct VjpCall;
  void run_vjp(const VjpCall& call, std::span<T> dweights, Workspace<T>& workspace, ThreadPool* pool) const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qtf::quantum
