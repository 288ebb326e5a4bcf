// The fast path of the circuit simulator: circuits that are a product state followed by layers of shared
// rotations, for a batch of tokens. quantum/layered.h makes the plans that these loops run; how a circuit is
// brought into this form is written there and in docs/quantum.md.
//
// A vector holds one amplitude's real or imaginary part for as many tokens as it has lanes; one vector of
// tokens passes the whole circuit before the next begins, so that its state stays in cache.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// ψ ← R · D · P ψ, R a real RY on every wire (in tan form: off by its cosine), D diagonal and shared by all
/// tokens, P a permutation of amplitudes.
template <class T>
struct RotationLayer {
  const int32_t* source;  ///< [2^n] amplitude k comes from source[k]
  const T* diagonal;      ///< [2^n][re, im], times the product of all wires' cosines
  const T* tangents;      ///< [n] of the half angles, by bit: entry b belongs to the wire of bit b; |t| <= 1
};

/// A product state, rotation layers, expectation values of products of Z. Wire 0 is bit n-1.
template <class T>
struct LayeredCircuit {
  int qubits;
  int inputs;              ///< columns of x
  const int32_t* columns;  ///< [n] the column of x that a wire embeds, or -1 for none
  const T* input_scale;    ///< [n] a wire's angle is offset + scale · its input
  const T* input_offset;   ///< [n]
  /// [n][8] the wire's state is cos(angle/2)·u + sin(angle/2)·v: re, im of u0, u1, v0, v1.
  const T* wire_states;
  const RotationLayer<T>* layers;
  int num_layers;          ///< at least 1
  const int32_t* strings;  ///< [num_strings] bits of the last layer's index whose parity is the sign
  int num_strings;
  /// [(num_strings + 3) / 4][2^n]: for each four strings, bit i is string i's parity at the index.
  const uint8_t* patterns;
};

/// Numbers of a token-major, wire-major or any other matrix of tokens.
template <class T>
struct TokenMatrix {
  T* data;
  int64_t token_stride;
  int64_t column_stride;
};

/// Tokens whose weight gradients are summed before they go into a block's sums. Part of the results: another
/// number rounds differently.
constexpr int64_t kCircuitBlock = 128;

/// Numbers of T that layered_forward (vjp: layered_vjp) needs as scratch, aligned to 64 bytes.
template <class T>
int64_t layered_scratch(const LayeredCircuit<T>& circuit, bool vjp);

/// y[t, i] = ⟨Z-string i⟩ of token t. False if an input is not finite.
template <class T>
bool layered_forward(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                     TokenMatrix<T> y, T* scratch);

/// What layered_vjp sums over tokens, in this order: n·8 numbers, the gradients of wire_states (halves: a
/// small change of them changes the loss by twice the product); then for every layer n numbers, of its
/// rotations' angles (by bit), and 2^n numbers, Im(conj(λ)·ψ) of its source's amplitudes, from which the
/// gradient of every diagonal phase follows.
template <class T>
int64_t layered_gradients(const LayeredCircuit<T>& circuit);

/// For at most kCircuitBlock tokens: overwrites y (unless its data is null) as layered_forward does, dx with
/// Σ_i dy[t, i]·∂y[t, i]/∂x in every wire's column (others stay), and gradients with the sums over tokens.
/// False if an input or a derivative is not finite.
template <class T>
bool layered_vjp(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                 TokenMatrix<const T> dy, TokenMatrix<T> y, TokenMatrix<T> dx, double* gradients, T* scratch);

}  // namespace qtf::kernels
