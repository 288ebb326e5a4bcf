#include "qtf/quantum/gate_program.h"

#include <algorithm>

#include "qtf/base/error.h"

namespace qtf::quantum {
namespace {

Angle times(Angle angle, double factor) {
  angle.offset *= factor;
  angle.scale *= factor;
  return angle;
}

bool reads_input(const Angle& angle) {
  return angle.uses(Variable::Kind::input);
}

bool reads_weight(const Angle& angle) {
  return angle.uses(Variable::Kind::weight);
}

double value_or_one(Variable v, std::span<const double> weights) {
  return v.kind == Variable::Kind::weight ? weights[static_cast<size_t>(v.index)] : 1;
}

}  // namespace

void add_angle_gradient(const Angle& angle, double gradient, std::span<const double> weights,
                        std::span<double> d_weights) {
  const auto add = [&](Variable v, Variable other) {
    if (v.kind != Variable::Kind::weight) return;
    d_weights[static_cast<size_t>(v.index)] += gradient * angle.scale * value_or_one(other, weights);
  };
  add(angle.first, angle.second);
  add(angle.second, angle.first);
}

template <class T>
CompiledGates<T>::CompiledGates(const Circuit& circuit, std::span<const PauliString> observables)
    : qubits_(circuit.qubits()) {
  for (int w = 0; w < qubits_; ++w) {
    const auto bit = static_cast<int32_t>(wire_bit(qubits_, w));
    roles_.push_back({bit, false});
    masks_.push_back(bit);
  }
  for (const Operation& operation : circuit.operations()) add(operation);

  for (const PauliString& pauli : observables) {
    kernels::StepObservable o{0, {}, std::popcount(static_cast<uint64_t>(pauli.x & pauli.z))};
    for (int w = 0; w < qubits_; ++w) {
      const int64_t bit = wire_bit(qubits_, w);
      if (pauli.x & bit) o.flips ^= mask(w);
      if (pauli.z & bit) o.signs.bits ^= role(w).bits, o.signs.flip ^= role(w).flip;
    }
    observables_.push_back(o);
  }
  // Where every wire is 0, and then a mask for each wire that is 1.
  int32_t zero = 0;
  for (int w = 0; w < qubits_; ++w) zero ^= role(w).flip ? mask(w) : 0;
  for (int64_t k = 0; k < circuit.dimension(); ++k) {
    int32_t place = zero;
    for (int w = 0; w < qubits_; ++w) place ^= k & wire_bit(qubits_, w) ? mask(w) : 0;
    places_.push_back(place);
  }

  int sums = 0;
  for (MatrixSource& source : sources_) {
    if (source.sums < 0) continue;
    source.sums = sums;
    sums += 8;
  }
  for (kernels::CircuitStep& step : steps_) {
    if (step.kind == kernels::CircuitStep::Kind::matrix) {
      step.matrix_sums = sources_[static_cast<size_t>(step.number)].sums;
    }
  }
  for (const AlignedVector<T>& matrix : matrices_) matrix_pointers_.push_back(matrix.data());
  const auto& embedding = circuit.amplitude_embedding();
  kernel_ = {.qubits = qubits_,
             .inputs = circuit.inputs(),
             .features = embedding ? embedding->features : 0,
             .pad = embedding ? static_cast<T>(embedding->pad) : T{0},
             .normalize = embedding ? embedding->normalize : false,
             .steps = steps_.data(),
             .num_steps = static_cast<int>(steps_.size()),
             .matrices = matrix_pointers_.data(),
             .angles = step_angles_.data(),
             .num_angles = static_cast<int>(angles_.size()),
             .num_matrix_sums = sums,
             .observables = observables_.data(),
             .num_observables = static_cast<int>(observables_.size()),
             .places = places_.data()};
}

template <class T>
void CompiledGates<T>::rename_cnot(int control, int target) {
  kernels::Parity& to = roles_[static_cast<size_t>(target)];
  to.bits ^= role(control).bits;
  to.flip ^= role(control).flip;
  masks_[static_cast<size_t>(control)] ^= mask(target);
}

template <class T>
void CompiledGates<T>::add(const Operation& operation) {
  const std::vector<int>& wires = operation.wires;
  switch (operation.gate) {
    case Gate::identity:
      return;
    case Gate::pauli_x:
      roles_[static_cast<size_t>(wires[0])].flip ^= true;
      return;
    case Gate::cnot:
      return rename_cnot(wires[0], wires[1]);
    case Gate::swap:
      std::swap(roles_[static_cast<size_t>(wires[0])], roles_[static_cast<size_t>(wires[1])]);
      std::swap(masks_[static_cast<size_t>(wires[0])], masks_[static_cast<size_t>(wires[1])]);
      return;
    default:
      break;
  }
  const GateInfo& row = info(operation.gate);
  const std::span<const int> all(wires);
  const auto controls = static_cast<size_t>(row.controls);
  add_gate(row.controls > 0 ? row.base : operation.gate, all.subspan(controls), operation.angles,
           operation.matrix, all.first(controls));
}

/// A gate that is no mere renaming, with controls taken off it.
template <class T>
void CompiledGates<T>::add_gate(Gate gate, std::span<const int> wires, std::span<const Angle> angles,
                                const GateMatrix& matrix, std::span<const int> controls) {
  const GateInfo& row = info(gate);
  if (!row.pauli.empty()) return add_rotation(wires, row.pauli, angles[0], controls);
  const bool per_token = std::ranges::any_of(angles, reads_input);
  switch (gate) {
    case Gate::pauli_z:
      return add_phase(kPi, controls, wires);
    case Gate::s:
      return add_phase(kPi / 2, controls, wires);
    case Gate::s_dagger:
      return add_phase(-kPi / 2, controls, wires);
    case Gate::t:
      return add_phase(kPi / 4, controls, wires);
    case Gate::t_dagger:
      return add_phase(-kPi / 4, controls, wires);
    case Gate::phase_shift:
      return add_phase(angles[0], controls, wires);
    case Gate::ising_xy:
      add_rotation(wires, "XX", times(angles[0], -0.5), controls);
      return add_rotation(wires, "YY", times(angles[0], -0.5), controls);
    case Gate::pswap: {  // a phase where the two differ, then SWAP
      rename_cnot(wires[0], wires[1]);
      const int target = wires[1];
      add_phase(angles[0], controls, {&target, 1});
      rename_cnot(wires[0], wires[1]);
      return add({Gate::swap, {wires.begin(), wires.end()}});
    }
    case Gate::rot:
      if (!per_token) break;
      add_rotation(wires, "Z", angles[0], controls);
      add_rotation(wires, "Y", angles[1], controls);
      return add_rotation(wires, "Z", angles[2], controls);
    case Gate::u2:
    case Gate::u3: {
      if (!per_token) break;
      const bool three = gate == Gate::u3;
      add_phase(angles[three ? 2 : 1], controls, wires);
      add_rotation(wires, "Y", three ? angles[0] : Angle(kPi / 2), controls);
      return add_phase(angles[three ? 1 : 0], controls, wires);
    }
    default:
      break;
  }
  const bool weighted = std::ranges::any_of(angles, reads_weight);
  add_matrix({gate, {angles.begin(), angles.end()}, weighted ? 0 : -1, matrix}, wires, controls);
}

template <class T>
int CompiledGates<T>::add_angle(const Angle& angle, bool doubled) {
  angles_.push_back(angle);
  step_angles_.push_back({T{0}, T{0}, -1, -1, doubled});
  return static_cast<int>(angles_.size()) - 1;
}

template <class T>
kernels::CircuitStep CompiledGates<T>::controlled_step(std::span<const int> controls) const {
  kernels::CircuitStep step;
  for (int wire : controls) step.controls[step.num_controls++] = role(wire);
  return step;
}

template <class T>
void CompiledGates<T>::add_rotation(std::span<const int> wires, std::string_view pauli, const Angle& angle,
                                    std::span<const int> controls) {
  kernels::CircuitStep step = controlled_step(controls);
  step.kind = kernels::CircuitStep::Kind::rotation;
  for (size_t i = 0; i < wires.size(); ++i) {
    const char letter = pauli[pauli.size() == 1 ? 0 : i];
    if (letter != 'Z') step.flips ^= mask(wires[i]);
    if (letter == 'X') continue;
    step.signs.bits ^= role(wires[i]).bits;
    step.signs.flip ^= role(wires[i]).flip;
    step.num_y += letter == 'Y';
  }
  step.number = add_angle(angle, false);
  steps_.push_back(step);
}

template <class T>
void CompiledGates<T>::add_phase(const Angle& angle, std::span<const int> controls,
                                 std::span<const int> ones) {
  kernels::CircuitStep step = controlled_step(controls);
  step.kind = kernels::CircuitStep::Kind::phase;
  for (int wire : ones) step.controls[step.num_controls++] = role(wire);
  step.number = add_angle(angle, true);
  steps_.push_back(step);
}

template <class T>
void CompiledGates<T>::add_matrix(MatrixSource source, std::span<const int> wires,
                                  std::span<const int> controls) {
  if (wires.size() > static_cast<size_t>(kernels::kMaxStepWires)) {
    throw_input_error("simulator", "a matrix on {} wires; a batch takes at most {}", wires.size(),
                      kernels::kMaxStepWires);
  }
  kernels::CircuitStep step = controlled_step(controls);
  step.wires = static_cast<int>(wires.size());
  for (size_t i = 0; i < wires.size(); ++i) {
    step.masks[i] = mask(wires[i]);
    step.roles[i] = role(wires[i]);
  }
  step.number = static_cast<int>(sources_.size());
  sources_.push_back(std::move(source));
  matrices_.emplace_back(size_t{2} << (2 * wires.size()));
  steps_.push_back(step);
}

template <class T>
void CompiledGates<T>::prepare(std::span<const double> weights) {
  weights_.assign(weights.begin(), weights.end());
  for (size_t i = 0; i < angles_.size(); ++i) {
    const Angle& angle = angles_[i];
    kernels::StepAngle<T>& step = step_angles_[i];
    if (!reads_input(angle)) {
      step.offset = static_cast<T>(angle.value({}, weights));
      continue;
    }
    step.offset = static_cast<T>(angle.offset);
    step.scale = static_cast<T>(angle.scale * value_or_one(angle.first, weights) *
                                value_or_one(angle.second, weights));
    const auto column = [](Variable v) { return v.kind == Variable::Kind::input ? v.index : -1; };
    step.first = std::max(column(angle.first), column(angle.second));
    step.second = std::min(column(angle.first), column(angle.second));
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    const MatrixSource& source = sources_[i];
    const auto put = [&](std::span<const Complex> matrix) {
      for (size_t j = 0; j < matrix.size(); ++j) {
        matrices_[i][2 * j] = static_cast<T>(matrix[j].real());
        matrices_[i][2 * j + 1] = static_cast<T>(matrix[j].imag());
      }
    };
    const GateInfo& row = info(source.gate);
    std::array<double, 3> angles{};
    for (size_t j = 0; j < source.angles.size(); ++j) angles[j] = source.angles[j].value({}, weights);
    if (source.gate == Gate::unitary) {
      put(source.given);
    } else if (row.wires == 1) {
      put(one_wire_matrix(source.gate, angles.data()));
    } else {
      put(gate_matrix(source.gate, {angles.data(), source.angles.size()}, row.wires));
    }
  }
}

template <class T>
void CompiledGates<T>::add_gradients(std::span<double> sums, std::span<double> d_weights) const {
  for (size_t i = 0; i < angles_.size(); ++i) add_angle_gradient(angles_[i], sums[i], weights_, d_weights);
  for (const MatrixSource& source : sources_) {
    if (source.sums < 0) continue;
    const double* e = sums.data() + angles_.size() + static_cast<size_t>(source.sums);
    std::array<double, 3> angles{};
    for (size_t j = 0; j < source.angles.size(); ++j) angles[j] = source.angles[j].value({}, weights_);
    for (size_t a = 0; a < source.angles.size(); ++a) {
      const auto d = one_wire_derivative(source.gate, angles, static_cast<int>(a));
      double gradient = 0;
      for (size_t j = 0; j < 4; ++j) gradient += 2 * (e[2 * j] * d[j].real() + e[2 * j + 1] * d[j].imag());
      add_angle_gradient(source.angles[a], gradient, weights_, d_weights);
    }
  }
}

template class CompiledGates<float>;
template class CompiledGates<double>;

}  // namespace qtf::quantum
