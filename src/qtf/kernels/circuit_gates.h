// The generic path of the circuit simulator: gate by gate, for a batch of tokens. quantum/gate_program.h
// makes the programs that these loops run.
//
// CNOT, SWAP and X move no amplitudes: a wire's value is the parity of some bits of an amplitude's place in
// memory (and perhaps its opposite), and flipping a wire flips some bits of the place. So every step names
// the bits.
#pragma once

#include <cstdint>

#include "qtf/kernels/circuit_layers.h"

namespace qtf::kernels {

constexpr int kMaxStepWires = 6;
constexpr int kMaxStepControls = 4;

/// What a wire, or a product of Zs, is at a place: the parity of place & bits, or its opposite.
struct Parity {
  int32_t bits = 0;
  bool flip = false;
};

/// One gate.
struct CircuitStep {
  enum class Kind : int32_t {
    matrix,    ///< a matrix shared by all tokens, on `wires` wires
    rotation,  ///< exp(−i·angle/2·P) for a Pauli string P
    phase,     ///< e^{i·angle} where all controls are 1
  };
  Kind kind = Kind::matrix;
  int wires = 0;
  int32_t masks[kMaxStepWires] = {};  ///< matrix: bits that flip with each wire
  Parity roles[kMaxStepWires] = {};   ///< matrix: each wire's value
  int num_controls = 0;               ///< the step acts where all of these are 1
  Parity controls[kMaxStepControls] = {};
  int32_t flips = 0;     ///< rotation: bits that P flips
  Parity signs = {};     ///< rotation: P's sign at a place is that of this parity …
  int num_y = 0;         ///< … times i to this power
  int number = 0;        ///< of the matrix, or of the angle
  int matrix_sums = -1;  ///< of a one-wire matrix with weights: where its 8 sums begin, else -1
};

/// offset + scale·first·second, as the kernel reads it: a variable >= 0 is an input's column, -1 is 1, and
/// others are weights, already multiplied into `scale` here.
template <class T>
struct StepAngle {
  T offset, scale;
  int32_t first, second;  ///< columns of x, or -1
  bool doubled;           ///< of a phase: the cosine of the angle, not of its half
};

/// A Pauli string as bits of places.
struct StepObservable {
  int32_t flips;
  Parity signs;
  int num_y;
};

/// A circuit for the generic path. n qubits.
template <class T>
struct GateProgram {
  int qubits;
  int inputs;    ///< columns of x
  int features;  ///< amplitudes that x gives; 0: the state starts as |0…0⟩
  T pad;         ///< the other amplitudes
  bool normalize;
  const CircuitStep* steps;
  int num_steps;
  const T* const* matrices;  ///< each [2^k, 2^k][re, im]
  const StepAngle<T>* angles;
  int num_angles;
  int num_matrix_sums;  ///< numbers
  const StepObservable* observables;
  int num_observables;
  const int32_t* places;  ///< [2^n] where amplitude k of the last state lies
};

/// As layered_scratch.
template <class T>
int64_t gates_scratch(const GateProgram<T>& program, bool vjp);

/// As layered_forward. y.data or states may be null; states[t·2^n + k][re, im].
template <class T>
bool gates_forward(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x, TokenMatrix<T> y,
                   T* states, T* scratch);

/// What gates_vjp sums over tokens: for each angle ∂L/∂angle times the inputs in it; then, for each one-wire
/// matrix with weights, 8 numbers E[i, j][re, im] so that a change dM of it changes the loss by
/// 2·Σ Re E·Re dM + Im E·Im dM.
template <class T>
int64_t gates_gradients(const GateProgram<T>& program);

/// As layered_vjp; overwrites all of dx. Unless d_states is null, dy is not read and the loss is any real
/// function of the last states ψ, given by λ = ∂L/∂conj(ψ) as d_states[t·2^n + k][re, im]: dL = 2·Re⟨λ|dψ⟩.
template <class T>
bool gates_vjp(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x, TokenMatrix<const T> dy,
               const T* d_states, TokenMatrix<T> y, TokenMatrix<T> dx, double* gradients, T* scratch);

}  // namespace qtf::kernels
