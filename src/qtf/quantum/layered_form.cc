#include <algorithm>
#include <bit>

#include "qtf/quantum/layered.h"

namespace qtf::quantum {
namespace {

/// A one-wire gate as RZ(first), RY(middle), RZ(last) up to a global phase.
struct Euler {
  Angle first, middle, last;
  bool rotates = true;  ///< false: only RZ(first)
};

std::optional<Euler> euler_angles(const Operation& operation) {
  const std::vector<Angle>& a = operation.angles;
  const auto z = [](Angle angle) { return Euler{angle, 0, 0, false}; };
  const auto x = [](Angle angle) { return Euler{kPi / 2, angle, -kPi / 2}; };
  switch (operation.gate) {
    case Gate::identity:
      return z(0);
    case Gate::pauli_z:
      return z(kPi);
    case Gate::s:
      return z(kPi / 2);
    case Gate::s_dagger:
      return z(-kPi / 2);
    case Gate::t:
      return z(kPi / 4);
    case Gate::t_dagger:
      return z(-kPi / 4);
    case Gate::rz:
    case Gate::phase_shift:
      return z(a[0]);
    case Gate::hadamard:
      return Euler{kPi, kPi / 2, 0};
    case Gate::pauli_x:
      return x(kPi);
    case Gate::sx:
      return x(kPi / 2);
    case Gate::rx:
      return x(a[0]);
    case Gate::pauli_y:
      return Euler{0, kPi, 0};
    case Gate::ry:
      return Euler{0, a[0], 0};
    case Gate::rot:
      return Euler{a[0], a[1], a[2]};
    case Gate::u3:
      return Euler{a[2], a[0], a[1]};
    case Gate::u2:
      return Euler{a[1], kPi / 2, a[0]};
    default:
      return std::nullopt;
  }
}

/// Walks over a circuit's gates and sorts them into the form.
class Finder {
 public:
  Finder(int qubits, int inputs) : n_(qubits), rows_(identity()) {
    form_.qubits = n_, form_.inputs = inputs;
    form_.wires.resize(static_cast<size_t>(n_));
  }

  /// False if the gate has no place in the form.
  bool add(const Operation& operation) {
    switch (operation.gate) {
      case Gate::cnot:
        row(operation.wires[1]) ^= row(operation.wires[0]);
        permuted_ = true;
        return true;
      case Gate::swap:
        std::swap(row(operation.wires[0]), row(operation.wires[1]));
        permuted_ = true;
        return true;
      case Gate::cz:
        return add_cz(operation.wires[0], operation.wires[1]);
      case Gate::multi_rz:
      case Gate::ising_zz:
        return add_phase(operation.wires, operation.angles[0]);
      default:
        break;
    }
    if (operation.wires.size() != 1) return false;
    return in_product() ? add_to_wire(operation) : add_to_layer(operation);
  }

  std::optional<LayeredForm> finish(std::span<const PauliString> observables) {
    if (form_.layers.empty()) start_layer();
    for (const PauliString& pauli : observables) {
      if (pauli.x != 0) return std::nullopt;
      form_.strings.push_back(mask(pauli.z));
    }
    // A layer costs a pass over all wires; one that rotates few is cheaper gate by gate.
    int64_t rotations = 0;
    for (const auto& layer : form_.layers) {
      rotations += std::ranges::count_if(layer.angles, [](const auto& a) { return a.has_value(); });
    }
    const auto layers = static_cast<int64_t>(form_.layers.size());
    if (layers > 1 && 3 * rotations < layers * n_) return std::nullopt;
    return std::move(form_);
  }

 private:
  std::vector<int32_t> identity() const {
    std::vector<int32_t> rows;
    for (int w = 0; w < n_; ++w) rows.push_back(static_cast<int32_t>(wire_bit(n_, w)));
    return rows;
  }

  int32_t& row(int wire) { return rows_[static_cast<size_t>(wire)]; }

  /// Bits of the last layer's index whose parity is that of `wires`, as bits of logical wires.
  int32_t mask(int64_t wires) const {
    int32_t bits = 0;
    for (int w = 0; w < n_; ++w) {
      if (wires & wire_bit(n_, w)) bits ^= rows_[static_cast<size_t>(w)];
    }
    return bits;
  }

  bool in_product() const { return form_.layers.empty() && !permuted_ && pending_.empty(); }

  bool add_to_wire(const Operation& operation) {
    LayeredForm::Wire& wire = form_.wires[static_cast<size_t>(operation.wires[0])];
    const bool reads = std::ranges::any_of(
        operation.angles, [](const Angle& angle) { return angle.uses(Variable::Kind::input); });
    if (!reads) {
      (wire.column < 0 ? wire.before : wire.after).push_back(operation);
      return true;
    }
    const bool rotation =
        operation.gate == Gate::rx || operation.gate == Gate::ry || operation.gate == Gate::rz;
    if (!rotation || wire.column >= 0) return false;
    const Angle& angle = operation.angles[0];
    if (angle.second.kind != Variable::Kind::none) return false;
    const int column = angle.first.index;
    if (std::ranges::any_of(form_.wires, [&](const auto& other) { return other.column == column; }))
      return false;
    wire.column = column, wire.axis = operation.gate;
    wire.offset = angle.offset, wire.scale = angle.scale;
    return true;
  }

  bool add_to_layer(const Operation& operation) {
    const auto euler = euler_angles(operation);
    if (!euler) return false;
    const int wire = operation.wires[0];
    if (!add_phase({wire}, euler->first)) return false;
    if (!euler->rotates) return true;
    return add_rotation(wire, euler->middle) && add_phase({wire}, euler->last);
  }

  bool add_cz(int a, int b) {
    return add_phase({a}, kPi / 2) && add_phase({b}, kPi / 2) && add_phase({a, b}, -kPi / 2);
  }

  bool add_phase(const std::vector<int>& wires, const Angle& angle) {
    if (angle.uses(Variable::Kind::input)) {
      return in_product() && wires.size() == 1 && add_to_wire({Gate::rz, wires, {angle}});
    }
    if (angle == Angle(0.0)) return true;
    if (in_product() && wires.size() == 1) return add_to_wire({Gate::rz, wires, {angle}});
    int64_t bits = 0;
    for (int w : wires) bits |= wire_bit(n_, w);
    // Before the layer's rotations if none of them touches these wires, else after.
    if (!form_.layers.empty() && !permuted_ && !(bits & rotated_)) {
      int32_t before = 0;
      for (int w : wires) before ^= rows_before_[static_cast<size_t>(w)];
      form_.layers.back().phases.push_back({before, angle});
    } else {
      pending_.push_back({mask(bits), angle});
    }
    return true;
  }

  bool add_rotation(int wire, const Angle& angle) {
    if (angle.uses(Variable::Kind::input)) return false;
    const int64_t bit = wire_bit(n_, wire);
    const bool blocked = std::ranges::any_of(pending_, [&](const auto& phase) { return phase.mask & bit; });
    if (form_.layers.empty() || permuted_ || (rotated_ & bit) || blocked) start_layer();
    form_.layers.back().angles[static_cast<size_t>(wire)] = angle;
    rotated_ |= bit;
    return true;
  }

  void start_layer() {
    LayeredForm::Layer layer{std::vector<int32_t>(size_t{1} << n_), std::move(pending_),
                             std::vector<std::optional<Angle>>(static_cast<size_t>(n_))};
    for (int32_t k = 0; k < int32_t{1} << n_; ++k) {
      int32_t to = 0;
      for (int w = 0; w < n_; ++w) {
        if (odd_parity(k & rows_[static_cast<size_t>(w)])) to |= static_cast<int32_t>(wire_bit(n_, w));
      }
      layer.source[static_cast<size_t>(to)] = k;
    }
    form_.layers.push_back(std::move(layer));
    rows_before_ = std::move(rows_);
    rows_ = identity();
    pending_.clear();
    permuted_ = false;
    rotated_ = 0;
  }

  int n_;
  LayeredForm form_;
  std::vector<int32_t> rows_;  // a logical wire's bit is the parity of these bits of the last layer's index
  std::vector<int32_t> rows_before_;         // the same before the last layer's permutation
  std::vector<LayeredForm::Phase> pending_;  // after the last layer's rotations
  bool permuted_ = false;
  int64_t rotated_ = 0;  // wires that the last layer rotates
};

}  // namespace

std::optional<LayeredForm> find_layers(const Circuit& circuit, std::span<const PauliString> observables) {
  if (circuit.amplitude_embedding()) return std::nullopt;
  Finder finder(circuit.qubits(), circuit.inputs());
  for (const Operation& operation : circuit.operations()) {
    if (!finder.add(operation)) return std::nullopt;
  }
  return finder.finish(observables);
}

}  // namespace qtf::quantum
