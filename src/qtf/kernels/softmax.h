// Softmax and what the losses need of it. A row's result depends on that row's valid part only, so that a
// token gets the same bits whatever lies beside it. float and double.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// In place, for row i of a rows × width block with row stride ld: the first length = first + i + 1 scores
/// (at most width) become softmax(scale · score), the rest 0. log_sum_exp[i] = log Σ exp(scale · score).
/// entropy[i] = −Σ p·ln p of the row in nats, within rounding of [0, ln length]; null: not computed. Asking
/// for it changes no bit of the others.
template <class T>
void softmax_causal(int64_t rows, int64_t width, int64_t first, T scale, T* scores, int64_t ld,
                    T* log_sum_exp, T* entropy = nullptr);

/// In place: the same probabilities again from scores and the kept log_sum_exp (backward).
template <class T>
void softmax_causal_again(int64_t rows, int64_t width, int64_t first, T scale, T* scores, int64_t ld,
                          const T* log_sum_exp);

/// ds = scale · p · (dp - Σ p·dp) a row, over `dp` in place (the softmax' derivative).
template <class T>
void softmax_backward(int64_t rows, int64_t width, T scale, const T* p, T* dp, int64_t ld);

/// log Σ exp(x), shifted by the maximum.
template <class T>
T log_sum_exp(int64_t n, const T* x);

/// In place x = factor · softmax(x); returns log Σ exp(x).
template <class T>
T softmax_scaled(int64_t n, T factor, T* x);

/// y = factor · exp(x - shift). y may be x.
template <class T>
void exp_shifted(int64_t n, const T* x, T shift, T factor, T* y);

/// y = factor · (exp(x - x_shift) - exp(t - t_shift)): the derivative of KL(t ‖ x) by logits. y may be x.
template <class T>
void exp_difference(int64_t n, const T* x, T x_shift, const T* t, T t_shift, T factor, T* y);

/// Σ exp(t - t_shift) · ((t - t_shift) - (x - x_shift)): KL(t ‖ x) in nats of two rows of logits whose shifts
/// are their log_sum_exp.
template <class T>
T kl_divergence(int64_t n, const T* t, T t_shift, const T* x, T x_shift);

/// Index of the largest; the first of equals.
template <class T>
int64_t argmax(int64_t n, const T* x);

}  // namespace qtf::kernels
