// Compiles any circuit into the steps of the generic path (kernels/circuit_gates.h), by the gate table: Pauli
// rotations, phases and matrices, on wires that CNOT, SWAP and X only rename.
#pragma once

#include <array>

#include "qtf/base/aligned.h"
#include "qtf/kernels/circuit_gates.h"
#include "qtf/quantum/state.h"

namespace qtf::quantum {

/// A compiled circuit with its weights. float and double.
template <class T>
class CompiledGates {
 public:
  /// Throws InputError for a caller's matrix on more wires than a step takes.
  CompiledGates(const Circuit& circuit, std::span<const PauliString> observables);
  CompiledGates(const CompiledGates&) = delete;
  CompiledGates& operator=(const CompiledGates&) = delete;

  void prepare(std::span<const double> weights);

  const kernels::GateProgram<T>& kernel() const { return kernel_; }

  /// Adds to d_weights what follows from `sums`, which gates_vjp describes.
  void add_gradients(std::span<double> sums, std::span<double> d_weights) const;

 private:
  struct MatrixSource {
    Gate gate;
    std::vector<Angle> angles;
    int sums;  // where its gradients begin, or -1
    GateMatrix given;
  };

  void add(const Operation& operation);
  void add_gate(Gate gate, std::span<const int> wires, std::span<const Angle> angles,
                const GateMatrix& matrix, std::span<const int> controls);
  void add_rotation(std::span<const int> wires, std::string_view pauli, const Angle& angle,
                    std::span<const int> controls);
  void add_phase(const Angle& angle, std::span<const int> controls, std::span<const int> ones);
  void add_matrix(MatrixSource source, std::span<const int> wires, std::span<const int> controls);
  kernels::CircuitStep controlled_step(std::span<const int> controls) const;
  kernels::Parity role(int wire) const { return roles_[static_cast<size_t>(wire)]; }
  int32_t mask(int wire) const { return masks_[static_cast<size_t>(wire)]; }
  int add_angle(const Angle& angle, bool doubled);
  void rename_cnot(int control, int target);

  int qubits_;
  std::vector<double> weights_;
  std::vector<kernels::Parity> roles_;  // of every wire, while compiling
  std::vector<int32_t> masks_;
  std::vector<int32_t> places_;
  std::vector<kernels::CircuitStep> steps_;
  std::vector<Angle> angles_;
  std::vector<kernels::StepAngle<T>> step_angles_;
  std::vector<MatrixSource> sources_;
  std::vector<AlignedVector<T>> matrices_;
  std::vector<const T*> matrix_pointers_;
  std::vector<kernels::StepObservable> observables_;
  kernels::GateProgram<T> kernel_;
};

/// Adds gradient·∂angle/∂weight for every weight of the angle, inputs counted as 1.
void add_angle_gradient(const Angle& angle, double gradient, std::span<const double> weights,
                        std::span<double> d_weights);

}  // namespace qtf::quantum
