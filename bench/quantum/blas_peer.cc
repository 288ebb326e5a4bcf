#include "blas_peer.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

// Compiled for what this processor has, as BLAS and our kernels are.
#define BENCH_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#if !defined(__x86_64__) || defined(__clang__)
#undef BENCH_CLONES
#define BENCH_CLONES
#endif

namespace {

/// Cosine and sine of x/2, each perhaps negated together.
BENCH_CLONES void half_angles(int64_t n, const float* x, float* cosine, float* sine) {
  for (int64_t i = 0; i < n; ++i) {
    const float half = 0.5F * x[i], turns = __builtin_rintf(half * 0.318309886F);
    const float y = std::fma(-turns, -8.742278e-8F, std::fma(-turns, 3.14159274F, half)), z = y * y;
    float s = std::fma(z, -2.5052108e-8F, 2.7557319e-6F);
    s = std::fma(z, s, -1.9841270e-4F);
    s = std::fma(z, s, 8.3333333e-3F);
    s = std::fma(z, s, -1.6666667e-1F);
    float c = std::fma(z, 2.0876757e-9F, -2.7557319e-7F);
    c = std::fma(z, c, 2.4801587e-5F);
    c = std::fma(z, c, -1.3888889e-3F);
    c = std::fma(z, c, 4.1666667e-2F);
    c = std::fma(z, c, -0.5F);
    sine[i] = std::fma(z * y, s, y);
    cosine[i] = std::fma(z, c, 1.0F);
  }
}

/// out[2k] = in[k]·c, out[2k+1] = in[k]·s for rows of tokens.
BENCH_CLONES void extend(int64_t rows, int64_t tokens, const float* c, const float* s, float* rows_of_state) {
  for (int64_t k = rows - 1; k >= 0; --k) {
    const float* in = rows_of_state + k * tokens;
    float *one = rows_of_state + (2 * k + 1) * tokens, *zero = rows_of_state + 2 * k * tokens;
    for (int64_t t = 0; t < tokens; ++t) {
      const float value = in[t];
      one[t] = value * s[t];
      zero[t] = value * c[t];
    }
  }
}

BENCH_CLONES void square(int64_t n, const float* re, const float* im, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = re[i] * re[i] + im[i] * im[i];
}

/// λ = diagonal ∘ ψ, in the place of ψ.
BENCH_CLONES void scale(int64_t n, const float* diagonal, float* re, float* im) {
  for (int64_t i = 0; i < n; ++i) {
    re[i] *= diagonal[i];
    im[i] *= diagonal[i];
  }
}

/// The derivative by one wire's angle, and its product with the others taken off the state's derivative:
/// rows [2k, 2k+1] of d become row k. before: the state without this wire.
BENCH_CLONES void contract(int64_t rows, int64_t tokens, const float* before, const float* c, const float* s,
                           float* d, float* dx) {
  for (int64_t t = 0; t < tokens; ++t) dx[t] = 0;
  for (int64_t k = 0; k < rows; ++k) {
    const float *zero = d + 2 * k * tokens, *one = d + (2 * k + 1) * tokens, *b = before + k * tokens;
    float* out = d + k * tokens;
    for (int64_t t = 0; t < tokens; ++t) {
      const float dz = zero[t], d1 = one[t];
      dx[t] += b[t] * (d1 * c[t] - dz * s[t]);
      out[t] = dz * c[t] + d1 * s[t];
    }
  }
}

}  // namespace

namespace bench {

SharedUnitary::SharedUnitary(int qubits, int64_t tokens)
    : n_(qubits),
      size_(int64_t{1} << qubits),
      tokens_(tokens),
      unitary_(static_cast<size_t>(2 * size_ * size_)) {
  for (int w = 0; w < n_; ++w) {
    for (int64_t k = 0; k < size_; ++k) signs_.push_back(k >> (n_ - 1 - w) & 1 ? -1.0F : 1.0F);
  }
  const auto state = static_cast<size_t>(size_ * tokens_);
  cosine_.resize(static_cast<size_t>(n_ * tokens_));
  sine_.resize(cosine_.size());
  first_.resize(2 * state);  // products of 1, 2, … wires, the whole state last
  last_.resize(2 * state);
  squares_.resize(state);
  d_first_.resize(state);
  d_unitary_.resize(unitary_.size());
}

void SharedUnitary::encode(const float* x) {
  half_angles(n_ * tokens_, x, cosine_.data(), sine_.data());
  float* state = first_.data();
  std::fill_n(state, tokens_, 1.0F);
  // Wire 0 first, so that it ends as the most significant bit; every product stays for the way back.
  for (int w = 0; w < n_; ++w) {
    const int64_t rows = int64_t{1} << w;
    float* next = state + rows * tokens_;
    std::copy_n(state, rows * tokens_, next);
    extend(rows, tokens_, cosine_.data() + w * tokens_, sine_.data() + w * tokens_, next);
    state = next;
  }
}

void SharedUnitary::forward(const float* x, float* y) {
  encode(x);
  const auto size = static_cast<int>(size_), tokens = static_cast<int>(tokens_);
  const float* state = first_.data() + (size_ - 1) * tokens_;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2 * size, tokens, size, 1, unitary_.data(), size,
              state, tokens, 0, last_.data(), tokens);
  square(size_ * tokens_, last_.data(), last_.data() + size_ * tokens_, squares_.data());
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n_, tokens, size, 1, signs_.data(), size,
              squares_.data(), tokens, 0, y, tokens);
}

void SharedUnitary::vjp(const float* x, const float* dy, float* y, float* dx) {
  forward(x, y);
  const auto size = static_cast<int>(size_), tokens = static_cast<int>(tokens_);
  const float* state = first_.data() + (size_ - 1) * tokens_;
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, size, tokens, n_, 1, signs_.data(), size, dy, tokens,
              0, squares_.data(), tokens);
  scale(size_ * tokens_, squares_.data(), last_.data(), last_.data() + size_ * tokens_);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, 2 * size, size, tokens, 2, last_.data(), tokens, state,
              tokens, 0, d_unitary_.data(), size);
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, size, tokens, 2 * size, 1, unitary_.data(), size,
              last_.data(), tokens, 0, d_first_.data(), tokens);
  for (int w = n_ - 1; w >= 0; --w) {
    const int64_t rows = int64_t{1} << w;
    contract(rows, tokens_, first_.data() + (rows - 1) * tokens_, cosine_.data() + w * tokens_,
             sine_.data() + w * tokens_, d_first_.data(), dx + w * tokens_);
  }
}

}  // namespace bench
