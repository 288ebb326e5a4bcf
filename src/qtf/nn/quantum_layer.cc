#include "qtf/nn/quantum_layer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "qtf/kernels/vector.h"
#include "qtf/nn/norm.h"
#include "qtf/tensor/gemm.h"

namespace qtf::nn {

namespace {

constexpr int64_t kDropoutSite = -2;  // blocks have 0 and above, the embedding -1

/// The layer's weights as matrices.
template <class T>
struct Weights {
  explicit Weights(const QuantumLayer<T>& layer)
      : norm{.weight = layer.parameters + layer.at.norm,
             .weight_gradient = layer.at.norm,
             .epsilon = layer.epsilon},
        in(layer.parameters + layer.at.in_weight, layer.spec.qubits, layer.width),
        out(layer.parameters + layer.at.out_weight, layer.width, layer.spec.qubits),
        in_bias(layer.parameters + layer.at.in_bias),
        score(layer.parameters + layer.at.score_weight),
        gate(layer.parameters[layer.at.gate]),
        score_bias(layer.parameters[layer.at.score_bias]),
        signal(layer.parameters[layer.at.signal_weight]) {}

  Norm<T> norm;
  ConstMatrix<T> in, out;
  const T *in_bias, *score;
  T gate, score_bias, signal;
};

template <class T>
T sigmoid(T x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

/// The same numbers are dropped whichever other tokens are routed.
template <class T>
void drop_row(Dropout dropout, int64_t row, Matrix<T> one_row) {
  dropout.first_token = dropout.token_of(row), dropout.run_rows = 0;
  apply_dropout(dropout, kDropoutSite, one_row);
}

template <class T>
void gather(const QuantumSaved<T>& s, ConstMatrix<T> x) {
  const int64_t width = x.cols;
  for (size_t r = 0; r < s.routed.size(); ++r) {
    const auto to = static_cast<int64_t>(r) * width;
    std::copy_n(x.data + s.routed[r] * x.row_stride, width, s.routed_x + to);
    std::copy_n(s.normed + s.routed[r] * width, width, s.routed_normed + to);
    s.routed_stats[r] = s.stats[s.routed[r]];
  }
}

/// angles = π·tanh(pre), and tanh itself over `pre`.
template <class T>
void squash(int64_t n, T* pre, T* angles) {
  for (int64_t i = 0; i < n; ++i) {
    const T t = std::tanh(pre[i]);
    pre[i] = std::isfinite(t) ? t : T{0};
    angles[i] = static_cast<T>(std::numbers::pi) * pre[i];
  }
}

}  // namespace

template <class T>
void quantum_scores(const QuantumLayer<T>& layer, ConstMatrix<T> x, const T* signal, QuantumSaved<T>& s,
                    Arena& arena) {
  const Weights<T> w(layer);
  s.rows = x.rows, s.signal = signal;
  s.normed = arena.allocate<T>(x.rows * x.cols);
  s.stats = arena.allocate<T>(x.rows);
  s.scores = arena.allocate<T>(x.rows);
  norm_forward<T>(w.norm, x, {s.normed, x.rows, x.cols}, s.stats);
  for (int64_t i = 0; i < x.rows; ++i) {
    s.scores[i] =
        kernels::dot<T>(x.cols, w.score, s.normed + i * x.cols) + w.score_bias + w.signal * signal[i];
  }
}

template <class T>
void quantum_forward(const QuantumLayer<T>& layer, std::span<const int64_t> routed, const Dropout& dropout,
                     Matrix<T> x, QuantumSaved<T>& s, Arena& arena, const Measurement* measurement) {
  s.routed = routed;
  if (routed.empty()) return;
  const Weights<T> w(layer);
  const auto count = static_cast<int64_t>(routed.size());
  const int64_t width = x.cols, qubits = layer.spec.qubits;
  const auto matrix = [&](T*& data, int64_t cols) {
    data = arena.allocate<T>(count * cols);
    return Matrix<T>(data, count, cols);
  };
  matrix(s.routed_x, width);
  const Matrix<T> normed = matrix(s.routed_normed, width);
  matrix(s.routed_stats, 1);
  gather<T>(s, x);

  const Matrix<T> pre = matrix(s.squashed, qubits), angles = matrix(s.angles, qubits);
  gemm<T>(normed, w.in.transposed(), pre);
  for (int64_t r = 0; r < count; ++r) kernels::add<T>(qubits, w.in_bias, pre.row(r));
  squash<T>(count * qubits, s.squashed, s.angles);

  const Matrix<T> z = matrix(s.z, qubits), out = matrix(s.out, width);
  measurement ? layer.inner->measure(angles, *measurement, z) : layer.inner->forward(angles, z);
  gemm<T>(z, w.out.transposed(), out);

  const ArenaScope scope(arena);
  const Matrix<T> branch(arena.allocate<T>(width), 1, width);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = routed[static_cast<size_t>(r)];
    std::copy_n(out.row(r), width, branch.data);
    drop_row(dropout, row, branch);
    kernels::axpy<T>(width, sigmoid(s.scores[row]) * w.gate, branch.data, x.row(row));
  }
}

namespace {

/// Through the scaling of the branch: dout[R, D] by W_out·⟨Z⟩, and dscore[R]; adds the gate's gradient.
template <class T>
void scale_backward(const QuantumLayer<T>& layer, const Dropout& dropout, const QuantumSaved<T>& s,
                    ConstMatrix<T> dx, Matrix<T> dout, T* dscore, T* gradients) {
  const T gate = layer.parameters[layer.at.gate];
  for (int64_t r = 0; r < dout.rows; ++r) {
    const int64_t row = s.routed[static_cast<size_t>(r)];
    const Matrix<T> mine = dout.row_block(r, 1);
    std::copy_n(dx.data + row * dx.row_stride, dx.cols, mine.data);
    drop_row(dropout, row, mine);
    const T open = sigmoid(s.scores[row]), along = kernels::dot<T>(dx.cols, mine.data, s.out + r * dx.cols);
    gradients[layer.at.gate] += open * along;
    dscore[r] = gate * along * open * (1 - open);
    kernels::scale<T>(dx.cols, open * gate, mine.data);
  }
}

/// dz[R, Q] → dpre[R, Q], by the inner map and the squashing; adds the inner weights' gradient.
template <class T>
void inner_backward(const QuantumLayer<T>& layer, const QuantumSaved<T>& s, Matrix<T> dz, Matrix<T> dpre,
                    T* gradients, Arena& arena) {
  const ArenaScope scope(arena);
  // A gradient that is none reaches the residual by other ways; the simulator would refuse it.
  for (int64_t i = 0; i < dz.rows * dz.cols; ++i) dz.data[i] = std::isfinite(dz.data[i]) ? dz.data[i] : T{0};
  T* unused = arena.allocate<T>(layer.spec.weights());
  std::fill_n(unused, layer.spec.weights(), T{0});
  layer.inner->backward({s.angles, dz.rows, dz.cols}, dz, dpre,
                        layer.trains_inner ? gradients + layer.at.inner : unused);
  for (int64_t i = 0; i < dz.rows * dz.cols; ++i)
    dpre.data[i] *= static_cast<T>(std::numbers::pi) * (1 - s.squashed[i] * s.squashed[i]);
}

template <class T>
void score_backward(const QuantumLayer<T>& layer, const QuantumSaved<T>& s, const T* dscore,
                    Matrix<T> dnormed, T* gradients) {
  const Weights<T> w(layer);
  for (int64_t r = 0; r < dnormed.rows; ++r) {
    kernels::axpy<T>(dnormed.cols, dscore[r], w.score, dnormed.row(r));
    kernels::axpy<T>(dnormed.cols, dscore[r], s.routed_normed + r * dnormed.cols,
                     gradients + layer.at.score_weight);
    gradients[layer.at.score_bias] += dscore[r];
    gradients[layer.at.signal_weight] += dscore[r] * s.signal[s.routed[static_cast<size_t>(r)]];
  }
}

}  // namespace

template <class T>
void quantum_backward(const QuantumLayer<T>& layer, const Dropout& dropout, const QuantumSaved<T>& s,
                      Matrix<T> dx, T* gradients, Arena& arena) {
  if (s.routed.empty()) return;
  const ArenaScope scope(arena);
  const Weights<T> w(layer);
  const auto count = static_cast<int64_t>(s.routed.size());
  const int64_t width = dx.cols, qubits = layer.spec.qubits;
  const auto matrix = [&](int64_t cols) { return Matrix<T>(arena.allocate<T>(count * cols), count, cols); };
  const auto gradient = [&](int64_t offset, int64_t rows, int64_t cols) {
    return Matrix<T>(gradients + offset, rows, cols);
  };
  const ConstMatrix<T> normed(s.routed_normed, count, width), z(s.z, count, qubits);

  const Matrix<T> dout = matrix(width), dz = matrix(qubits), dpre = matrix(qubits), dnormed = matrix(width);
  T* dscore = arena.allocate<T>(count);
  scale_backward<T>(layer, dropout, s, dx, dout, dscore, gradients);
  gemm<T>(dout.transposed(), z, gradient(layer.at.out_weight, width, qubits), Into::accumulate);
  gemm<T>(dout, w.out, dz);
  inner_backward<T>(layer, s, dz, dpre, gradients, arena);
  gemm<T>(dpre.transposed(), normed, gradient(layer.at.in_weight, qubits, width), Into::accumulate);
  kernels::add_column_sums<T>(count, qubits, dpre.data, qubits, gradients + layer.at.in_bias);
  gemm<T>(dpre, w.in, dnormed);
  score_backward<T>(layer, s, dscore, dnormed, gradients);

  const Matrix<T> routed_dx = matrix(width);
  std::fill_n(routed_dx.data, count * width, T{0});
  norm_backward<T>(w.norm, dnormed, {s.routed_x, count, width}, s.routed_stats, routed_dx, gradients);
  for (int64_t r = 0; r < count; ++r)
    kernels::add<T>(width, routed_dx.row(r), dx.row(s.routed[static_cast<size_t>(r)]));
}

int64_t quantum_macs_routed(const InnerSpec& spec, int64_t width) {
  return 2 * spec.qubits * width;
}

int64_t quantum_macs_any(int64_t width) {
  return 2 * width;
}

#define QTF_INSTANTIATE_QUANTUM_LAYER(T)                                                              \
  template void quantum_scores<T>(const QuantumLayer<T>&, ConstMatrix<T>, const T*, QuantumSaved<T>&, \
                                  Arena&);                                                            \
  template void quantum_forward<T>(const QuantumLayer<T>&, std::span<const int64_t>, const Dropout&,  \
                                   Matrix<T>, QuantumSaved<T>&, Arena&, const Measurement*);          \
  template void quantum_backward<T>(const QuantumLayer<T>&, const Dropout&, const QuantumSaved<T>&,   \
                                    Matrix<T>, T*, Arena&);
QTF_INSTANTIATE_QUANTUM_LAYER(float)
QTF_INSTANTIATE_QUANTUM_LAYER(double)
#undef QTF_INSTANTIATE_QUANTUM_LAYER

}  // namespace qtf::nn
