// The table of gates: one row a gate, from which matrices, derivatives, simulation, OpenQASM, drawings, help
// and tests follow. Semantics are PennyLane's: the first wire of a gate is the most significant bit of its
// matrix' index, and a rotation about a Pauli string P is exp(-i·angle·P/2).
#pragma once

#include <array>
#include <complex>
#include <cstdint>
#include <numbers>
#include <span>
#include <string_view>
#include <vector>

namespace qtf::quantum {

using Complex = std::complex<double>;

inline constexpr double kPi = std::numbers::pi;

/// A square matrix, row by row.
using GateMatrix = std::vector<Complex>;

enum class Gate : uint8_t {
  identity,
  hadamard,
  pauli_x,
  pauli_y,
  pauli_z,
  s,
  s_dagger,
  t,
  t_dagger,
  sx,
  rx,
  ry,
  rz,
  phase_shift,
  u2,
  u3,
  rot,
  cnot,
  cy,
  cz,
  ch,
  swap,
  iswap,
  siswap,
  ecr,
  crx,
  cry,
  crz,
  controlled_phase_shift,
  crot,
  ising_xx,
  ising_yy,
  ising_zz,
  ising_xy,
  pswap,
  multi_rz,
  toffoli,
  ccz,
  cswap,
  unitary,
};

/// One gate.
struct GateInfo {
  Gate gate;
  std::string_view name;    ///< PennyLane's
  std::string_view symbol;  ///< in drawings, on wires that are no controls
  std::string_view qasm;    ///< OpenQASM's name; empty: it has no form there
  /// What defines it for OpenQASM where stdgates.inc does not: "(parameters) wires { body }".
  std::string_view definition = {};
  int wires = 1;       ///< 0: as many as are given
  int parameters = 0;  ///< angles
  int controls = 0;    ///< its first wires; where all are 1, `base` acts on the others
  Gate base = Gate::identity;
  std::string_view pauli = {};  ///< it is exp(-i·angle·P/2) of this string; MultiRZ: of Z on every wire
  /// Entries are a constant plus a wave of this many radians a radian of angle: exact derivatives follow
  /// (gate_derivative). A half for rotations, 1 for phases.
  double frequency = 0.5;
  double frequency_of_later = 0.5;  ///< of the second and third angle
  /// Terms of the parameter-shift rule for expectation values: 2, or 4 where the generator has eigenvalue 0
  /// beside ±1/2.
  int shift_terms = 2;
  void (*matrix)(const double* angles, Complex* out) = nullptr;  ///< of rows that neither base nor pauli give
};

/// Every row, in the enumeration's order.
std::span<const GateInfo> gate_table();

const GateInfo& info(Gate gate);

/// The row of this PennyLane name, or nullptr.
const GateInfo* find_gate(std::string_view name);

/// The row of this OpenQASM name (stdgates.inc's aliases too), or nullptr.
const GateInfo* find_qasm_gate(std::string_view name);

/// The 2^wires × 2^wires matrix. `wires` matters for MultiRZ only. Not for Gate::unitary, whose matrix the
/// circuit holds.
GateMatrix gate_matrix(Gate gate, std::span<const double> angles, int wires);

/// ∂ matrix / ∂ angles[which], exact: entries are constants plus waves of one known frequency f, and
/// (U(a + π/2f) − U(a − π/2f))·f/2 is the derivative of such.
GateMatrix gate_derivative(Gate gate, std::span<const double> angles, int which, int wires);

/// gate_matrix of a gate on one wire, without allocation.
std::array<Complex, 4> one_wire_matrix(Gate gate, const double* angles);

/// gate_derivative of a gate on one wire, without allocation.
std::array<Complex, 4> one_wire_derivative(Gate gate, std::array<double, 3> angles, int which);

/// ‖U·U† − 1‖, the largest entry.
double unitarity_error(std::span<const Complex> matrix, int64_t dimension);

}  // namespace qtf::quantum
