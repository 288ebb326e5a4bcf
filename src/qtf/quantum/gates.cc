#include "qtf/quantum/gates.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"

namespace qtf::quantum {
namespace {

constexpr double kHalfRoot = std::numbers::sqrt2 / 2;
constexpr Complex kI{0, 1};

Complex phase(double angle) {
  return {std::cos(angle), std::sin(angle)};
}

void set(Complex* out, std::initializer_list<Complex> entries) {
  std::ranges::copy(entries, out);
}

/// diag(1, value).
template <int kEighths>
void phase_matrix(const double*, Complex* out) {
  set(out, {1, 0, 0, kEighths % 4 == 0 ? Complex(-1) : phase(kEighths * kPi / 4)});
}

/// U3(θ, φ, δ) = PhaseShift(φ)·RY(θ)·PhaseShift(δ).
void u3_matrix(const double* a, Complex* out) {
  const double c = std::cos(a[0] / 2), s = std::sin(a[0] / 2);
  set(out, {c, -phase(a[2]) * s, phase(a[1]) * s, phase(a[1] + a[2]) * c});
}

void u2_matrix(const double* a, Complex* out) {
  set(out, {kHalfRoot, -phase(a[1]) * kHalfRoot, phase(a[0]) * kHalfRoot, phase(a[0] + a[1]) * kHalfRoot});
}

/// Rot(φ, θ, ω) = RZ(ω)·RY(θ)·RZ(φ).
void rot_matrix(const double* a, Complex* out) {
  const double c = std::cos(a[1] / 2), s = std::sin(a[1] / 2), sum = (a[0] + a[2]) / 2,
               difference = (a[0] - a[2]) / 2;
  set(out, {phase(-sum) * c, -phase(difference) * s, phase(-difference) * s, phase(sum) * c});
}

/// The 2 × 2 block {a, b; b, a} between |01⟩ and |10⟩, and 1 elsewhere.
void exchange(Complex a, Complex b, Complex* out) {
  set(out, {1, 0, 0, 0, 0, a, b, 0, 0, b, a, 0, 0, 0, 0, 1});
}

constexpr GateInfo kGates[] = {
    {.gate = Gate::identity,
     .name = "Identity",
     .symbol = "I",
     .qasm = "id",
     .matrix =
         [](const double*, Complex* out) {
           set(out, {1, 0, 0, 1});
         }},
    {.gate = Gate::hadamard,
     .name = "Hadamard",
     .symbol = "H",
     .qasm = "h",
     .matrix =
         [](const double*, Complex* out) {
           set(out, {kHalfRoot, kHalfRoot, kHalfRoot, -kHalfRoot});
         }},
    {.gate = Gate::pauli_x,
     .name = "PauliX",
     .symbol = "X",
     .qasm = "x",
     .matrix =
         [](const double*, Complex* out) {
           set(out, {0, 1, 1, 0});
         }},
    {.gate = Gate::pauli_y,
     .name = "PauliY",
     .symbol = "Y",
     .qasm = "y",
     .matrix =
         [](const double*, Complex* out) {
           set(out, {0, -kI, kI, 0});
         }},
    {.gate = Gate::pauli_z, .name = "PauliZ", .symbol = "Z", .qasm = "z", .matrix = phase_matrix<4>},
    {.gate = Gate::s, .name = "S", .symbol = "S", .qasm = "s", .matrix = phase_matrix<2>},
    {.gate = Gate::s_dagger, .name = "Adjoint(S)", .symbol = "S†", .qasm = "sdg", .matrix = phase_matrix<-2>},
    {.gate = Gate::t, .name = "T", .symbol = "T", .qasm = "t", .matrix = phase_matrix<1>},
    {.gate = Gate::t_dagger, .name = "Adjoint(T)", .symbol = "T†", .qasm = "tdg", .matrix = phase_matrix<-1>},
    {.gate = Gate::sx,
     .name = "SX",
     .symbol = "√X",
     .qasm = "sx",
     .matrix =
         [](const double*, Complex* out) {
           constexpr Complex a{0.5, 0.5}, b{0.5, -0.5};
           set(out, {a, b, b, a});
         }},
    {.gate = Gate::rx, .name = "RX", .symbol = "RX", .qasm = "rx", .parameters = 1, .pauli = "X"},
    {.gate = Gate::ry, .name = "RY", .symbol = "RY", .qasm = "ry", .parameters = 1, .pauli = "Y"},
    {.gate = Gate::rz, .name = "RZ", .symbol = "RZ", .qasm = "rz", .parameters = 1, .pauli = "Z"},
    {.gate = Gate::phase_shift,
     .name = "PhaseShift",
     .symbol = "P",
     .qasm = "p",
     .parameters = 1,
     .frequency = 1,
     .matrix =
         [](const double* a, Complex* out) {
           set(out, {1, 0, 0, phase(a[0])});
         }},
    {.gate = Gate::u2,
     .name = "U2",
     .symbol = "U2",
     .qasm = "u2",
     .parameters = 2,
     .frequency = 1,
     .frequency_of_later = 1,
     .matrix = u2_matrix},
    {.gate = Gate::u3,
     .name = "U3",
     .symbol = "U3",
     .qasm = "u3",
     .parameters = 3,
     .frequency_of_later = 1,
     .matrix = u3_matrix},
    {.gate = Gate::rot,
     .name = "Rot",
     .symbol = "Rot",
     .qasm = "rot",
     .definition = "(phi, theta, omega) a { rz(phi) a; ry(theta) a; rz(omega) a; }",
     .parameters = 3,
     .matrix = rot_matrix},
    {.gate = Gate::cnot,
     .name = "CNOT",
     .symbol = "X",
     .qasm = "cx",
     .wires = 2,
     .controls = 1,
     .base = Gate::pauli_x},
    {.gate = Gate::cy,
     .name = "CY",
     .symbol = "Y",
     .qasm = "cy",
     .wires = 2,
     .controls = 1,
     .base = Gate::pauli_y},
    {.gate = Gate::cz,
     .name = "CZ",
     .symbol = "Z",
     .qasm = "cz",
     .wires = 2,
     .controls = 1,
     .base = Gate::pauli_z},
    {.gate = Gate::ch,
     .name = "CH",
     .symbol = "H",
     .qasm = "ch",
     .wires = 2,
     .controls = 1,
     .base = Gate::hadamard},
    {.gate = Gate::swap,
     .name = "SWAP",
     .symbol = "x",
     .qasm = "swap",
     .wires = 2,
     .matrix =
         [](const double*, Complex* out) {
           set(out, {1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1});
         }},
    {.gate = Gate::iswap,
     .name = "ISWAP",
     .symbol = "iSWAP",
     .qasm = "iswap",
     .definition = "a, b { s a; s b; h a; cx a, b; cx b, a; h b; }",
     .wires = 2,
     .matrix = [](const double*, Complex* out) { exchange(0, kI, out); }},
    {.gate = Gate::siswap,
     .name = "SISWAP",
     .symbol = "√iSWAP",
     .qasm = "siswap",
     .definition =
         "a, b { h a; h b; cx a, b; rz(-pi / 4) b; cx a, b; h a; h b; "
         "rx(pi / 2) a; rx(pi / 2) b; cx a, b; rz(-pi / 4) b; cx a, b; rx(-pi / 2) a; rx(-pi / 2) b; }",
     .wires = 2,
     .matrix = [](const double*, Complex* out) { exchange(kHalfRoot, kI * kHalfRoot, out); }},
    {.gate = Gate::ecr,
     .name = "ECR",
     .symbol = "ECR",
     .qasm = "ecr",
     .definition = "a, b { z a; cx a, b; sx b; rx(pi / 2) a; ry(pi / 2) a; rx(pi / 2) a; }",
     .wires = 2,
     .matrix =
         [](const double*, Complex* out) {
           const Complex r = kHalfRoot, i = kI * kHalfRoot;
           set(out, {0, 0, r, i, 0, 0, i, r, r, -i, 0, 0, -i, r, 0, 0});
         }},
    {.gate = Gate::crx,
     .name = "CRX",
     .symbol = "RX",
     .qasm = "crx",
     .wires = 2,
     .parameters = 1,
     .controls = 1,
     .base = Gate::rx,
     .shift_terms = 4},
    {.gate = Gate::cry,
     .name = "CRY",
     .symbol = "RY",
     .qasm = "cry",
     .wires = 2,
     .parameters = 1,
     .controls = 1,
     .base = Gate::ry,
     .shift_terms = 4},
    {.gate = Gate::crz,
     .name = "CRZ",
     .symbol = "RZ",
     .qasm = "crz",
     .wires = 2,
     .parameters = 1,
     .controls = 1,
     .base = Gate::rz,
     .shift_terms = 4},
    {.gate = Gate::controlled_phase_shift,
     .name = "ControlledPhaseShift",
     .symbol = "P",
     .qasm = "cp",
     .wires = 2,
     .parameters = 1,
     .controls = 1,
     .base = Gate::phase_shift,
     .frequency = 1},
    {.gate = Gate::crot,
     .name = "CRot",
     .symbol = "Rot",
     .qasm = "crot",
     .definition = "(phi, theta, omega) a, b { crz(phi) a, b; cry(theta) a, b; crz(omega) a, b; }",
     .wires = 2,
     .parameters = 3,
     .controls = 1,
     .base = Gate::rot,
     .shift_terms = 4},
    {.gate = Gate::ising_xx,
     .name = "IsingXX",
     .symbol = "XX",
     .qasm = "rxx",
     .definition = "(theta) a, b { h a; h b; cx a, b; rz(theta) b; cx a, b; h a; h b; }",
     .wires = 2,
     .parameters = 1,
     .pauli = "XX"},
    {.gate = Gate::ising_yy,
     .name = "IsingYY",
     .symbol = "YY",
     .qasm = "ryy",
     .definition = "(theta) a, b { rx(pi / 2) a; rx(pi / 2) b; cx a, b; rz(theta) b; cx a, b; "
                   "rx(-pi / 2) a; rx(-pi / 2) b; }",
     .wires = 2,
     .parameters = 1,
     .pauli = "YY"},
    {.gate = Gate::ising_zz,
     .name = "IsingZZ",
     .symbol = "ZZ",
     .qasm = "rzz",
     .definition = "(theta) a, b { cx a, b; rz(theta) b; cx a, b; }",
     .wires = 2,
     .parameters = 1,
     .pauli = "ZZ"},
    {.gate = Gate::ising_xy,
     .name = "IsingXY",
     .symbol = "XY",
     .qasm = "rxy",
     .definition = "(theta) a, b { h a; h b; cx a, b; rz(-theta / 2) b; cx a, b; h a; h b; rx(pi / 2) a; "
                   "rx(pi / 2) b; cx a, b; rz(-theta / 2) b; cx a, b; rx(-pi / 2) a; rx(-pi / 2) b; }",
     .wires = 2,
     .parameters = 1,
     .shift_terms = 4,
     .matrix = [](const double* a,
                  Complex* out) { exchange(std::cos(a[0] / 2), kI * std::sin(a[0] / 2), out); }},
    {.gate = Gate::pswap,
     .name = "PSWAP",
     .symbol = "PSWAP",
     .qasm = "pswap",
     .definition = "(phi) a, b { swap a, b; cx a, b; p(phi) b; cx a, b; }",
     .wires = 2,
     .parameters = 1,
     .frequency = 1,
     .matrix = [](const double* a, Complex* out) { exchange(0, phase(a[0]), out); }},
    {.gate = Gate::multi_rz,
     .name = "MultiRZ",
     .symbol = "ZZ",
     .qasm = "multirz",
     .wires = 0,
     .parameters = 1,
     .pauli = "Z"},
    {.gate = Gate::toffoli,
     .name = "Toffoli",
     .symbol = "X",
     .qasm = "ccx",
     .wires = 3,
     .controls = 2,
     .base = Gate::pauli_x},
    {.gate = Gate::ccz,
     .name = "CCZ",
     .symbol = "Z",
     .qasm = "ccz",
     .definition = "a, b, c { h c; ccx a, b, c; h c; }",
     .wires = 3,
     .controls = 2,
     .base = Gate::pauli_z},
    {.gate = Gate::cswap,
     .name = "CSWAP",
     .symbol = "x",
     .qasm = "cswap",
     .wires = 3,
     .controls = 1,
     .base = Gate::swap},
    {.gate = Gate::unitary, .name = "QubitUnitary", .symbol = "U", .qasm = "", .wires = 0},
};

struct Alias {
  std::string_view name;
  Gate gate;
};
constexpr Alias kQasmAliases[] = {{"CX", Gate::cnot},
                                  {"phase", Gate::phase_shift},
                                  {"u1", Gate::phase_shift},
                                  {"cphase", Gate::controlled_phase_shift},
                                  {"U", Gate::u3}};
constexpr Alias kAliases[] = {{"U1", Gate::phase_shift}, {"CPhase", Gate::controlled_phase_shift},
                              {"H", Gate::hadamard},     {"X", Gate::pauli_x},
                              {"Y", Gate::pauli_y},      {"Z", Gate::pauli_z}};

/// cos(angle/2) - i·sin(angle/2)·P.
GateMatrix pauli_rotation(std::string_view pauli, double angle, int wires) {
  const size_t size = size_t{1} << wires;
  GateMatrix out(size * size);
  for (size_t column = 0; column < size; ++column) {
    size_t row = column;
    Complex value = 1;
    for (int w = 0; w < wires; ++w) {
      const size_t bit = size_t{1} << (wires - 1 - w);
      const char p = pauli[pauli.size() == 1 ? 0 : static_cast<size_t>(w)];
      if (p != 'Z') row ^= bit;
      if (p == 'Z' && (column & bit)) value = -value;
      if (p == 'Y') value *= column & bit ? -kI : kI;
    }
    out[column * size + column] += std::cos(angle / 2);
    out[row * size + column] += -kI * std::sin(angle / 2) * value;
  }
  return out;
}

}  // namespace

std::span<const GateInfo> gate_table() {
  return kGates;
}

const GateInfo& info(Gate gate) {
  return kGates[static_cast<size_t>(gate)];
}

const GateInfo* find_gate(std::string_view name) {
  for (const GateInfo& row : kGates) {
    if (row.name == name) return &row;
  }
  for (const Alias& alias : kAliases) {
    if (alias.name == name) return &info(alias.gate);
  }
  return nullptr;
}

const GateInfo* find_qasm_gate(std::string_view name) {
  for (const GateInfo& row : kGates) {
    if (!row.qasm.empty() && row.qasm == name) return &row;
  }
  for (const Alias& alias : kQasmAliases) {
    if (alias.name == name) return &info(alias.gate);
  }
  return nullptr;
}

GateMatrix gate_matrix(Gate gate, std::span<const double> angles, int wires) {
  const GateInfo& row = info(gate);
  QTF_ASSERT(row.wires == 0 || row.wires == wires);
  QTF_ASSERT(static_cast<int>(angles.size()) == row.parameters && gate != Gate::unitary);
  const size_t size = size_t{1} << wires;
  if (row.controls > 0) {
    const GateMatrix base = gate_matrix(row.base, angles, wires - row.controls);
    const size_t inner = size_t{1} << (wires - row.controls), first = size - inner;
    GateMatrix out(size * size);
    for (size_t i = 0; i < first; ++i) out[i * size + i] = 1;
    for (size_t i = 0; i < inner; ++i) {
      for (size_t j = 0; j < inner; ++j) out[(first + i) * size + first + j] = base[i * inner + j];
    }
    return out;
  }
  if (!row.pauli.empty()) return pauli_rotation(row.pauli, angles[0], wires);
  GateMatrix out(size * size);
  row.matrix(angles.data(), out.data());
  return out;
}

GateMatrix gate_derivative(Gate gate, std::span<const double> angles, int which, int wires) {
  const double frequency = which == 0 ? info(gate).frequency : info(gate).frequency_of_later;
  std::vector<double> shifted(angles.begin(), angles.end());
  double& angle = shifted[static_cast<size_t>(which)];
  angle += kPi / (2 * frequency);
  GateMatrix out = gate_matrix(gate, shifted, wires);
  angle -= kPi / frequency;
  const GateMatrix below = gate_matrix(gate, shifted, wires);
  for (size_t i = 0; i < out.size(); ++i) out[i] = (out[i] - below[i]) * (frequency / 2);
  return out;
}

std::array<Complex, 4> one_wire_matrix(Gate gate, const double* angles) {
  const GateInfo& row = info(gate);
  QTF_ASSERT(row.wires == 1);
  std::array<Complex, 4> out;
  if (row.pauli.empty()) {
    row.matrix(angles, out.data());
    return out;
  }
  const double c = std::cos(angles[0] / 2), s = std::sin(angles[0] / 2);
  switch (row.pauli[0]) {
    case 'X':
      return {c, -kI * s, -kI * s, c};
    case 'Y':
      return {c, -s, s, c};
    default:
      return {Complex(c, -s), 0, 0, Complex(c, s)};
  }
}

std::array<Complex, 4> one_wire_derivative(Gate gate, std::array<double, 3> angles, int which) {
  const double frequency = which == 0 ? info(gate).frequency : info(gate).frequency_of_later;
  angles[static_cast<size_t>(which)] += kPi / (2 * frequency);
  std::array<Complex, 4> out = one_wire_matrix(gate, angles.data());
  angles[static_cast<size_t>(which)] -= kPi / frequency;
  const std::array<Complex, 4> below = one_wire_matrix(gate, angles.data());
  for (size_t i = 0; i < 4; ++i) out[i] = (out[i] - below[i]) * (frequency / 2);
  return out;
}

double unitarity_error(std::span<const Complex> matrix, int64_t dimension) {
  const auto n = static_cast<size_t>(dimension);
  double worst = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      Complex sum = i == j ? -1 : 0;
      for (size_t k = 0; k < n; ++k) sum += matrix[i * n + k] * std::conj(matrix[j * n + k]);
      const double error = std::abs(sum);
      if (std::isnan(error)) return error;
      worst = std::max(worst, error);
    }
  }
  return worst;
}

}  // namespace qtf::quantum
