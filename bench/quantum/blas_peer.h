// The built-in peer of bench/quantum: the weights are shared by the batch, so the circuit after the embedding
// is one matrix for all tokens, and BLAS multiplies it.
#pragma once

#include <cstdint>
#include <vector>

namespace bench {

/// RY angles, one shared unitary, ⟨Z⟩ of every wire, in float, on one thread.
class SharedUnitary {
 public:
  SharedUnitary(int qubits, int64_t tokens);

  /// [2·2^n, 2^n] by rows, the real parts above the imaginary ones; to be filled before the first call.
  std::vector<float>& unitary() { return unitary_; }

  /// x [n, tokens] → y [n, tokens].
  void forward(const float* x, float* y);

  /// Derivatives of Σ dy·y: dx [n, tokens], and of the unitary, into d_unitary().
  void vjp(const float* x, const float* dy, float* y, float* dx);

  const std::vector<float>& d_unitary() const { return d_unitary_; }

 private:
  void encode(const float* x);

  int n_;
  int64_t size_, tokens_;
  std::vector<float> unitary_;  // [2·size, size]: re above im
  std::vector<float> signs_;    // [n, size]
  std::vector<float> cosine_, sine_, first_, last_, squares_, d_first_, d_unitary_;
};

}  // namespace bench
