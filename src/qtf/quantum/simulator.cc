#include "qtf/quantum/simulator.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/quantum/gate_program.h"
#include "qtf/quantum/layered.h"

namespace qtf::quantum {
namespace {

constexpr int64_t kBlock = kernels::kCircuitBlock;

template <class T>
kernels::TokenMatrix<const T> tokens_of(ConstMatrix<T> m, int64_t first) {
  return {m.data == nullptr ? nullptr : m.data + first * m.row_stride, m.row_stride, m.col_stride};
}

template <class T>
kernels::TokenMatrix<T> tokens_of(Matrix<T> m, int64_t first) {
  return {m.data == nullptr ? nullptr : m.data + first * m.row_stride, m.row_stride, 1};
}

template <class T>
void check_matrix(ConstMatrix<T> m, int64_t rows, int64_t columns, const char* what) {
  if (m.rows == rows && m.cols == columns) return;
  throw_input_error("simulator", "{} must be {} tokens × {} numbers, got {} × {}", what, rows, columns,
                    m.rows, m.cols);
}

void check_count(size_t got, int64_t wanted, const char* what) {
  if (static_cast<int64_t>(got) == wanted) return;
  throw_input_error("simulator", "{} must have {} numbers, got {}", what, wanted, got);
}

template <class T>
void check_finite(ConstMatrix<T> m, const char* what) {
  for (int64_t t = 0; t < m.rows; ++t) {
    for (int64_t i = 0; i < m.cols; ++i) {
      if (!std::isfinite(m(t, i))) {
        throw_input_error("simulator", "{} {} of token {} is {}, it must be finite", what, i, t, m(t, i));
      }
    }
  }
}

int64_t num_blocks(int64_t tokens) {
  return (tokens + kBlock - 1) / kBlock;
}

/// Runs job(blocks, scratch) on the pool's workers, or here.
template <class T, class Job>
void run_blocks(int64_t blocks, int64_t scratch, Workspace<T>& workspace, ThreadPool* pool, const Job& job) {
  const int workers = pool == nullptr || blocks <= 1 ? 1 : pool->size();
  if (workspace.threads.size() < static_cast<size_t>(workers)) {
    workspace.threads.resize(static_cast<size_t>(workers));
  }
  for (auto& memory : workspace.threads) {
    if (memory.size() < static_cast<size_t>(scratch)) memory.resize(static_cast<size_t>(scratch));
  }
  if (workers == 1) return job(Range{0, blocks}, workspace.threads[0].data());
  pool->parallel_for(blocks, [&](int worker, Range range) {
    job(range, workspace.threads[static_cast<size_t>(worker)].data());
  });
}

}  // namespace

template <class T>
struct Simulator<T>::Impl {
  Circuit circuit;
  std::vector<PauliString> observables;
  std::optional<LayeredForm> form;
  std::optional<LayeredWeights<T>> layered;
  std::optional<CompiledGates<T>> gates;
  bool prepared = false;
  // Where the fast path runs, the gates get their weights at the first call that needs them.
  std::vector<double> weights = {};
  std::mutex mutex = {};
  bool gates_prepared = false;

  const kernels::GateProgram<T>& gate_program() {
    const std::lock_guard lock(mutex);
    if (!gates_prepared) gates->prepare(weights);
    gates_prepared = true;
    return gates->kernel();
  }

  void check_inputs(ConstMatrix<T> x) const {
    if (!prepared) {
      throw_input_error("simulator", "prepare() must give the {} weights before the first call",
                        circuit.weights());
    }
    check_matrix(x, x.rows, circuit.inputs(), "x");
  }

  /// Says why a kernel found something that is not finite.
  [[noreturn]] void refuse(ConstMatrix<T> x, ConstMatrix<T> dy) const {
    check_finite(x, "input");
    check_finite(dy, "derivative");
    if (const auto& embedding = circuit.amplitude_embedding()) {
      for (int64_t t = 0; t < x.rows; ++t) {
        std::vector<double> row;
        for (int64_t i = 0; i < x.cols; ++i) row.push_back(static_cast<double>(x(t, i)));
        embedded_amplitudes(*embedding, circuit.qubits(), row);
      }
    }
    throw_input_error("simulator", "inputs times their scales are not finite; give smaller inputs");
  }
};

/// What vjp and states_vjp share; one of dy and lambda is given.
template <class T>
struct Simulator<T>::VjpCall {
  ConstMatrix<T> x, dy;
  const T* lambda = nullptr;
  Matrix<T> y, dx;

  int64_t scratch(const Impl& impl) const {
    return layered(impl) ? kernels::layered_scratch(impl.layered->kernel(), true)
                         : kernels::gates_scratch(impl.gates->kernel(), true);
  }
  int64_t sums(const Impl& impl) const {
    return layered(impl) ? kernels::layered_gradients(impl.layered->kernel())
                         : kernels::gates_gradients(impl.gates->kernel());
  }
  bool layered(const Impl& impl) const { return impl.layered && lambda == nullptr; }

  bool run(const Impl& impl, Range tokens, double* out, T* memory) const {
    const auto from = tokens_of(x, tokens.begin), d_from = tokens_of(dy, tokens.begin);
    const auto to = tokens_of(y, tokens.begin), d_to = tokens_of(dx, tokens.begin);
    if (!layered(impl)) {
      const T* d_states = lambda == nullptr ? nullptr : lambda + 2 * tokens.begin * impl.circuit.dimension();
      return kernels::gates_vjp(impl.gates->kernel(), tokens.size(), from, d_from, d_states, to, d_to, out,
                                memory);
    }
    return kernels::layered_vjp(impl.layered->kernel(), tokens.size(), from, d_from, to, d_to, out, memory);
  }
};

template <class T>
Simulator<T>::Simulator(Circuit circuit, std::vector<PauliString> observables, Path path)
    : impl_(new Impl{std::move(circuit), std::move(observables), {}, {}, {}}) {
  Impl& impl = *impl_;
  const int n = impl.circuit.qubits();
  if (impl.observables.empty()) {
    for (int w = 0; w < n; ++w) impl.observables.push_back(pauli_z(n, w));
  }
  for (const PauliString& pauli : impl.observables) {
    if ((pauli.x | pauli.z) >> n) {
      throw_input_error("simulator", "an observable acts on wires that a circuit of {} has not", n);
    }
  }
  if (path != Path::generic) impl.form = find_layers(impl.circuit, impl.observables);
  if (path == Path::layered && !impl.form) {
    throw_input_error("simulator",
                      "the circuit is no product state with layers of rotations; use Path::automatic");
  }
  impl.gates.emplace(impl.circuit, impl.observables);
  if (impl.form) impl.layered.emplace(*impl.form);
  check_memory(static_cast<double>(VjpCall{}.scratch(impl)) * sizeof(T), "a batch of this circuit");
  if (impl.circuit.weights() == 0) prepare({});
}

template <class T>
Simulator<T>::~Simulator() = default;
template <class T>
Simulator<T>::Simulator(Simulator&&) noexcept = default;
template <class T>
Simulator<T>& Simulator<T>::operator=(Simulator&&) noexcept = default;

template <class T>
const Circuit& Simulator<T>::circuit() const {
  return impl_->circuit;
}

template <class T>
const std::vector<PauliString>& Simulator<T>::observables() const {
  return impl_->observables;
}

template <class T>
Path Simulator<T>::path() const {
  return impl_->layered ? Path::layered : Path::generic;
}

template <class T>
void Simulator<T>::prepare(std::span<const T> weights) {
  check_count(weights.size(), this->weights(), "the circuit's weights");
  check_finite(ConstMatrix<T>(weights.data(), 1, static_cast<int64_t>(weights.size())), "weight");
  impl_->weights.assign(weights.begin(), weights.end());
  if (impl_->layered) impl_->layered->prepare(impl_->weights);
  impl_->gates_prepared = false;
  if (!impl_->layered) impl_->gate_program();
  impl_->prepared = true;
}

template <class T>
void Simulator<T>::forward(ConstMatrix<T> x, Matrix<T> y, Workspace<T>& workspace, ThreadPool* pool) const {
  const Impl& impl = *impl_;
  impl.check_inputs(x);
  check_matrix<T>(y, x.rows, outputs(), "y");
  const int64_t scratch = impl.layered ? kernels::layered_scratch(impl.layered->kernel(), false)
                                       : kernels::gates_scratch(impl.gates->kernel(), false);
  std::atomic<bool> finite = true;
  run_blocks(num_blocks(x.rows), scratch, workspace, pool, [&](Range blocks, T* memory) {
    const int64_t begin = blocks.begin * kBlock, count = std::min(blocks.end * kBlock, x.rows) - begin;
    const auto from = tokens_of(x, begin);
    const auto to = tokens_of(y, begin);
    const bool good = impl.layered
                          ? kernels::layered_forward(impl.layered->kernel(), count, from, to, memory)
                          : kernels::gates_forward<T>(impl.gates->kernel(), count, from, to, nullptr, memory);
    if (!good) finite = false;
  });
  if (!finite) impl.refuse(x, {});
}

template <class T>
void Simulator<T>::vjp(ConstMatrix<T> x, ConstMatrix<T> dy, Matrix<T> y, Matrix<T> dx, std::span<T> dweights,
                       Workspace<T>& workspace, ThreadPool* pool) const {
  check_matrix(dy, x.rows, outputs(), "dy");
  if (y.data != nullptr) check_matrix<T>(y, x.rows, outputs(), "y");
  run_vjp({x, dy, nullptr, y, dx}, dweights, workspace, pool);
}

template <class T>
void Simulator<T>::states_vjp(ConstMatrix<T> x, std::span<const std::complex<T>> lambda, Matrix<T> dx,
                              std::span<T> dweights, Workspace<T>& workspace, ThreadPool* pool) const {
  impl_->check_inputs(x);
  impl_->gate_program();
  check_count(lambda.size(), x.rows * impl_->circuit.dimension(), "the states' derivatives");
  run_vjp({x, {}, reinterpret_cast<const T*>(lambda.data()), {}, dx}, dweights, workspace, pool);
}

template <class T>
void Simulator<T>::run_vjp(const VjpCall& call, std::span<T> dweights, Workspace<T>& workspace,
                           ThreadPool* pool) const {
  const Impl& impl = *impl_;
  const ConstMatrix<T> x = call.x;
  impl.check_inputs(x);
  check_matrix<T>(call.dx, x.rows, inputs(), "dx");
  check_count(dweights.size(), weights(), "dweights");
  const int64_t blocks = num_blocks(x.rows), sums = call.sums(impl);
  if (blocks == 0) return;
  // Behind the blocks' sums, the weights' gradients in double.
  const auto needed = static_cast<size_t>(blocks * sums + weights());
  if (workspace.sums.size() < needed) workspace.sums.resize(needed);
  double* all = workspace.sums.data();
  std::atomic<bool> finite = true;
  run_blocks(blocks, call.scratch(impl), workspace, pool, [&](Range range, T* memory) {
    for (int64_t b = range.begin; b < range.end; ++b) {
      const Range tokens{b * kBlock, std::min((b + 1) * kBlock, x.rows)};
      if (!call.run(impl, tokens, all + b * sums, memory)) finite = false;
    }
  });
  if (!finite) impl.refuse(x, call.dy);
  for (int64_t b = 1; b < blocks; ++b) {
    for (int64_t i = 0; i < sums; ++i) all[i] += all[b * sums + i];
  }
  const std::span<double> total(all, static_cast<size_t>(sums));
  const std::span<double> d_weights(all + blocks * sums, dweights.size());
  std::ranges::fill(d_weights, 0.0);
  call.layered(impl) ? impl.layered->add_gradients(total, d_weights)
                     : impl.gates->add_gradients(total, d_weights);
  for (size_t i = 0; i < d_weights.size(); ++i) dweights[i] += static_cast<T>(d_weights[i]);
}

template <class T>
void Simulator<T>::states(ConstMatrix<T> x, std::span<std::complex<T>> out, Workspace<T>& workspace,
                          ThreadPool* pool) const {
  const Impl& impl = *impl_;
  impl.check_inputs(x);
  check_count(out.size(), x.rows * impl.circuit.dimension(), "the states");
  std::atomic<bool> finite = true;
  const kernels::GateProgram<T>& program = impl_->gate_program();
  const int64_t scratch = kernels::gates_scratch(program, false);
  run_blocks(num_blocks(x.rows), scratch, workspace, pool, [&](Range blocks, T* memory) {
    const int64_t begin = blocks.begin * kBlock, count = std::min(blocks.end * kBlock, x.rows) - begin;
    T* to = reinterpret_cast<T*>(out.data()) + 2 * begin * impl.circuit.dimension();
    if (!kernels::gates_forward<T>(program, count, tokens_of(x, begin), {}, to, memory)) finite = false;
  });
  if (!finite) impl.refuse(x, {});
}

template class Simulator<float>;
template class Simulator<double>;

}  // namespace qtf::quantum
