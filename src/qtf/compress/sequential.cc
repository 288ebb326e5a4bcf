#include "qtf/compress/sequential.h"

#include <algorithm>

#include "qtf/compress/metric.h"
#include "qtf/kernels/softmax.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

namespace {

constexpr int64_t kRunRows = 1024;
constexpr int64_t kHeadRows = 128;

AlignedVector<double> scaled(AlignedVector<double> sum, double factor) {
  for (double& x : sum) x *= factor;
  return sum;
}

nn::Pass<float> pass_over(const std::vector<nn::Segment<float>>& segments, int64_t rows, int level = 0) {
  return {segments, rows, level, {}};
}

}  // namespace

AlignedVector<double> corrected_weight(ConstMatrix<float> w, const StageMoments& moments, double ridge) {
  const int64_t n = w.cols;
  AlignedVector<double> wide(static_cast<size_t>(w.rows * n)), target(wide.size());
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < n; ++j) wide[i * n + j] = static_cast<double>(w(i, j));
  const Matrix<double> result(target.data(), w.rows, n);
  gemm(ConstMatrix<double>(wide.data(), w.rows, n), ConstMatrix<double>(moments.cross.data(), n, n), result);
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += moments.inputs[i * n + i];
  const double added = ridge * trace / static_cast<double>(n);
  for (size_t i = 0; i < target.size(); ++i) {
    target[i] += added * wide[i];
    if (!moments.shortfall.empty()) target[i] += moments.shortfall[i];
  }
  Metric::from_matrix(ConstMatrix<double>(moments.inputs.data(), n, n), ridge).divide_right(result);
  return target;
}

SideBySide::SideBySide(const model::Transformer<float>& original, const model::Transformer<float>& compressed,
                       const Sequences& text, ThreadPool& pool)
    : original_(original),
      compressed_(compressed),
      text_(text),
      pool_(pool),
      x_(static_cast<size_t>(text.rows() * original.config().width)),
      other_x_(x_.size()),
      arenas_(static_cast<size_t>(pool.size())) {
  const int64_t width = original.config().width;
  pool.run([&](int w) {
    const SequenceRun share = share_of(text, {0, text.count(), 0, text.rows()}, w, pool.size());
    if (share.rows == 0) return;
    const auto segments = segments_of(text, share);
    const auto tokens = tokens_of(text, share);
    Arena& arena = arenas_[static_cast<size_t>(w)];
    original.embed(tokens, segments, {x_.data() + share.row * width, share.rows, width}, nullptr, 0, arena);
    compressed.embed(tokens, segments, {other_x_.data() + share.row * width, share.rows, width}, nullptr, 0,
                     arena);
  });
}

template <class Fill>
StageMoments SideBySide::collect(int64_t width, bool residual, const Fill& fill) {
  SecondMoment inputs(width);
  CrossMoment cross(width, width), shortfall(residual ? original_.config().width : 0, width);
  AlignedVector<float> buffer;
  for (const SequenceRun& run : runs_of(text_, kRunRows)) {
    const int64_t d = original_.config().width;
    buffer.resize(static_cast<size_t>(run.rows * (2 * width + (residual ? d : 0))));
    const Matrix<float> original(buffer.data(), run.rows, width);
    const Matrix<float> compressed(original.row(run.rows), run.rows, width);
    const Matrix<float> missing(compressed.row(run.rows), run.rows, residual ? d : 0);
    pool_.run([&](int w) {
      const SequenceRun share = share_of(text_, run, w, pool_.size());
      if (share.rows == 0) return;
      const auto part = [&](Matrix<float> m) { return m.row_block(share.row - run.row, share.rows); };
      fill(share, View{part(original), part(compressed), part(missing)}, arenas_[static_cast<size_t>(w)]);
    });
    MomentUpdates updates;
    updates.add(compressed, inputs);
    updates.add(original, compressed, cross);
    if (residual) updates.add(missing, compressed, shortfall);
    updates.run(pool_);
  }
  const double scale = 1 / static_cast<double>(text_.rows());
  return {inputs.matrix(scale), scaled(std::move(cross.sum), scale), scaled(std::move(shortfall.sum), scale)};
}

StageMoments SideBySide::stage(size_t block, Site site) {
  const nn::Block<float>& b = original_.blocks()[block];
  const bool residual = site == Site::attention_out || site == Site::down;
  const int64_t width = site == Site::down            ? b.down.in()
                        : site == Site::attention_out ? b.attention_out.in()
                                                      : original_.config().width;
  return collect(width, residual, [&](const SequenceRun& share, const View& view, Arena& arena) {
    fill(share, share.row, block, site, view, arena);
  });
}

void SideBySide::fill(const SequenceRun& share, int64_t row, size_t block, Site site, const View& view,
                      Arena& arena) {
  const ArenaScope scope(arena);
  const int64_t width = original_.config().width;
  const auto segments = segments_of(text_, share);
  const model::Transformer<float>* models[2] = {&original_, &compressed_};
  const Matrix<float> inputs[2] = {view.original, view.compressed};
  const float* stream[2] = {x_.data() + row * width, other_x_.data() + row * width};
  for (int m = 0; m < 2; ++m) {
    const nn::Block<float>& b = models[m]->blocks()[block];
    const ConstMatrix<float> x(stream[m], share.rows, width);
    if (site == Site::qkv) {
      nn::norm_forward<float>(b.attention_norm, x, inputs[m],
                              arena.allocate<float>(b.attention_norm.stats_size(share.rows)));
      continue;
    }
    nn::BlockSaved<float> saved;
    const Matrix<float> y(arena.allocate<float>(share.rows * width), share.rows, width);
    nn::block_forward<float>(b, models[m]->block_spec(), pass_over(segments, share.rows),
                             static_cast<int64_t>(block), x, y, &saved, arena);
    const float* from = site == Site::attention_out ? saved.attended
                        : site == Site::up          ? saved.norm2
                                                    : saved.hidden;
    std::copy_n(from, inputs[m].rows * inputs[m].cols, inputs[m].data);
    if (site == Site::down) stream[m] = saved.x_mid;
  }
  for (int64_t i = 0; i < view.shortfall.rows * view.shortfall.cols; ++i)
    view.shortfall.data[i] = stream[0][i] - stream[1][i];
}

void SideBySide::advance(size_t block) {
  const int64_t width = original_.config().width;
  for (const SequenceRun& run : runs_of(text_, kRunRows)) {
    pool_.run([&](int w) {
      const SequenceRun share = share_of(text_, run, w, pool_.size());
      if (share.rows == 0) return;
      Arena& arena = arenas_[static_cast<size_t>(w)];
      const ArenaScope scope(arena);
      const auto segments = segments_of(text_, share);
      const Matrix<float> y(arena.allocate<float>(share.rows * width), share.rows, width);
      const auto step = [&](const model::Transformer<float>& model, float* x) {
        nn::block_forward<float>(model.blocks()[block], model.block_spec(), pass_over(segments, share.rows),
                                 static_cast<int64_t>(block), {x, share.rows, width}, y, nullptr, arena);
        std::copy_n(y.data, share.rows * width, x);
      };
      step(original_, x_.data() + share.row * width);
      step(compressed_, other_x_.data() + share.row * width);
    });
  }
}

StageMoments SideBySide::head() {
  const int64_t width = original_.config().width;
  return collect(width, false, [&](const SequenceRun& share, const View& view, Arena& arena) {
    const ArenaScope scope(arena);
    const auto normed = [&](const model::Transformer<float>& model, const float* x, Matrix<float> to) {
      const nn::Norm<float>& norm = model.final_norm();
      nn::norm_forward<float>(norm, {x + share.row * width, share.rows, width}, to,
                              arena.allocate<float>(norm.stats_size(share.rows)));
    };
    normed(original_, x_.data(), view.original);
    normed(compressed_, other_x_.data(), view.compressed);
  });
}

double mean_divergence(const model::Transformer<float>& original, const model::Transformer<float>& compressed,
                       const Sequences& text, int level, ThreadPool& pool) {
  const int64_t width = original.config().width, vocabulary = original.config().vocabulary;
  std::vector<double> sequence_nats(static_cast<size_t>(text.count()), 0.0);
  pool.run([&](int w) {
    Arena arena;
    for (int64_t s = w; s < text.count(); s += pool.size()) {
      const ArenaScope scope(arena);
      const SequenceRun run{s, 1, text.begin_of(s), text.ends[static_cast<size_t>(s)] - text.begin_of(s)};
      const auto allocate = [&](int64_t rows, int64_t cols) {
        return Matrix<float>(arena.allocate<float>(rows * cols), rows, cols);
      };
      const model::TokenBatch batch{tokens_of(text, run), {}, 1, run.rows};
      const Matrix<float> hidden = allocate(run.rows, width), other = allocate(run.rows, width);
      original.hidden_states(batch, 0, hidden, arena);
      compressed.hidden_states(batch, level, other, arena);
      const Matrix<float> p = allocate(kHeadRows, vocabulary), q = allocate(kHeadRows, vocabulary);
      for (int64_t i = 0; i < run.rows; i += kHeadRows) {
        const int64_t n = std::min(kHeadRows, run.rows - i);
        original.logits(hidden.row_block(i, n), 0, p.row_block(0, n), arena);
        compressed.logits(other.row_block(i, n), level, q.row_block(0, n), arena);
        for (int64_t r = 0; r < n; ++r)
          sequence_nats[static_cast<size_t>(s)] += static_cast<double>(kernels::kl_divergence<float>(
              vocabulary, p.row(r), kernels::log_sum_exp<float>(vocabulary, p.row(r)), q.row(r),
              kernels::log_sum_exp<float>(vocabulary, q.row(r))));
      }
    }
  });
  double sum = 0;
  for (const double nats : sequence_nats) sum += nats;
  return sum / static_cast<double>(text.rows());
}

}  // namespace qtf::compress
