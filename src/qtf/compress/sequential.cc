#include "qtf/compress/sequential.h"

#include <algorithm>

#include "qtf/compress/metric.h"
#include "qtf/kernels/softmax.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

namespace {

AlignedVector<double> scaled(AlignedVector<double> sum, double factor) {
  for (double& x : sum) x *= factor;
  return sum;
}

nn::Pass<float> pass_over(const std::vector<nn::Segment<float>>& segments, int64_t rows, int level = 0) {
  return {segments, rows, level, {}};
}

}  // namespace

StageMoments mean_of(std::span<const StageMoments> moments) {
  StageMoments mean = moments.front();
  const double share = 1 / static_cast<double>(moments.size());
  for (auto part : {&StageMoments::inputs, &StageMoments::cross, &StageMoments::shortfall}) {
    for (size_t i = 0; i < (mean.*part).size(); ++i) {
      double sum = 0;
      for (const StageMoments& m : moments) sum += (m.*part)[i];
      (mean.*part)[i] = sum * share;
    }
  }
  return mean;
}

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
      streams_(static_cast<size_t>(1 + model::level_count(compressed.config()))),
      arenas_(static_cast<size_t>(pool.size())) {
  const int64_t width = original.config().width;
  for (auto& stream : streams_) stream.resize(static_cast<size_t>(text.rows() * width));
  pool.run([&](int w) {
    const SequenceRun share = share_of(text, {0, text.count(), 0, text.rows()}, w, pool.size());
    if (share.rows == 0) return;
    const auto segments = segments_of(text, share);
    const auto embed = [&](const model::Transformer<float>& model, int level, AlignedVector<float>& stream) {
      model.embed(tokens_of(text, share), segments, {stream.data() + share.row * width, share.rows, width},
                  nullptr, level, arenas_[static_cast<size_t>(w)]);
    };
    embed(original, 0, streams_[0]);
    for (size_t k = 0; k < levels(); ++k) embed(compressed, level_number(k), streams_[k + 1]);
  });
}

template <class Fill>
std::vector<StageMoments> SideBySide::collect(int64_t width, bool residual, const Fill& fill) {
  const int64_t d = original_.config().width;
  std::vector<SecondMoment> inputs(levels(), SecondMoment(width));
  std::vector<CrossMoment> cross(levels(), CrossMoment(width, width));
  std::vector<CrossMoment> shortfall(levels(), CrossMoment(residual ? d : 0, width));
  Arena buffers;
  for (const SequenceRun& run : runs_of(text_, kRunRows)) {
    const ArenaScope scope(buffers);
    const auto matrix = [&](int64_t cols) {
      return Matrix<float>(buffers.allocate<float>(run.rows * cols), run.rows, cols);
    };
    View whole{matrix(width), {}, {}};
    for (size_t k = 0; k < levels(); ++k) {
      whole.compressed.push_back(matrix(width));
      whole.shortfall.push_back(matrix(residual ? d : 0));
    }
    pool_.run([&](int w) {
      const SequenceRun share = share_of(text_, run, w, pool_.size());
      if (share.rows == 0) return;
      View part = whole;
      const auto cut = [&](Matrix<float>& m) { m = m.row_block(share.row - run.row, share.rows); };
      cut(part.original);
      for (auto& m : part.compressed) cut(m);
      for (auto& m : part.shortfall) cut(m);
      fill(share, part, arenas_[static_cast<size_t>(w)]);
    });
    MomentUpdates updates;
    for (size_t k = 0; k < levels(); ++k) {
      updates.add(whole.compressed[k], inputs[k]);
      updates.add(whole.original, whole.compressed[k], cross[k]);
      if (residual) updates.add(whole.shortfall[k], whole.compressed[k], shortfall[k]);
    }
    updates.run(pool_);
  }
  const double scale = 1 / static_cast<double>(text_.rows());
  std::vector<StageMoments> result;
  for (size_t k = 0; k < levels(); ++k)
    result.push_back({inputs[k].matrix(scale), scaled(std::move(cross[k].sum), scale),
                      scaled(std::move(shortfall[k].sum), scale)});
  return result;
}

std::vector<StageMoments> SideBySide::stage(size_t block, Site site) {
  const nn::Block<float>& b = original_.blocks()[block];
  const bool residual = site == Site::attention_out || site == Site::down;
  const int64_t width = site == Site::down            ? b.down.in()
                        : site == Site::attention_out ? b.attention_out.in()
                                                      : original_.config().width;
  return collect(width, residual, [&](const SequenceRun& share, const View& view, Arena& arena) {
    fill(share, block, site, view, arena);
  });
}

void SideBySide::fill(const SequenceRun& share, size_t block, Site site, const View& view,
                      Arena& arena) const {
  const ArenaScope scope(arena);
  const int64_t width = original_.config().width;
  const auto stream = [&](size_t k) { return streams_[k].data() + share.row * width; };
  const float* original = read_site(original_, share, block, site, 0, stream(0), view.original, arena);
  for (size_t k = 0; k < levels(); ++k) {
    const ArenaScope level_scope(arena);
    const float* compressed =
        read_site(compressed_, share, block, site, level_number(k), stream(k + 1), view.compressed[k], arena);
    const Matrix<float>& shortfall = view.shortfall[k];
    for (int64_t i = 0; i < shortfall.rows * shortfall.cols; ++i)
      shortfall.data[i] = original[i] - compressed[i];
  }
}

const float* SideBySide::read_site(const model::Transformer<float>& model, const SequenceRun& share,
                                   size_t block, Site site, int level, const float* x, Matrix<float> to,
                                   Arena& arena) const {
  const int64_t width = original_.config().width;
  const nn::Block<float>& b = model.blocks()[block];
  const ConstMatrix<float> input(x, share.rows, width);
  if (site == Site::qkv) {
    nn::norm_forward<float>(b.attention_norm, input, to,
                            arena.allocate<float>(b.attention_norm.stats_size(share.rows)));
    return x;
  }
  nn::BlockSaved<float> saved;
  const auto segments = segments_of(text_, share);
  const Matrix<float> y(arena.allocate<float>(share.rows * width), share.rows, width);
  nn::block_forward<float>(b, model.block_spec(), pass_over(segments, share.rows, level),
                           static_cast<int64_t>(block), input, y, &saved, arena);
  const float* from = site == Site::attention_out ? saved.attended
                      : site == Site::up          ? saved.norm2
                                                  : saved.hidden;
  std::copy_n(from, to.rows * to.cols, to.data);
  return site == Site::down ? saved.x_mid : x;
}

void SideBySide::advance(size_t block) {
  advance_original(block);
  advance_compressed(block);
}

void SideBySide::advance_original(size_t block) {
  advance(original_, block, 0, streams_[0]);
}

void SideBySide::advance_compressed(size_t block) {
  for (size_t k = 0; k < levels(); ++k) advance(compressed_, block, level_number(k), streams_[k + 1]);
}

void SideBySide::advance(const model::Transformer<float>& model, size_t block, int level,
                         AlignedVector<float>& stream) {
  const int64_t width = original_.config().width;
  for (const SequenceRun& run : runs_of(text_, kRunRows)) {
    pool_.run([&](int w) {
      const SequenceRun share = share_of(text_, run, w, pool_.size());
      if (share.rows == 0) return;
      Arena& arena = arenas_[static_cast<size_t>(w)];
      const ArenaScope scope(arena);
      const auto segments = segments_of(text_, share);
      const Matrix<float> y(arena.allocate<float>(share.rows * width), share.rows, width);
      float* x = stream.data() + share.row * width;
      nn::block_forward<float>(model.blocks()[block], model.block_spec(),
                               pass_over(segments, share.rows, level), static_cast<int64_t>(block),
                               {x, share.rows, width}, y, nullptr, arena);
      std::copy_n(y.data, share.rows * width, x);
    });
  }
}

std::vector<StageMoments> SideBySide::head() {
  const int64_t width = original_.config().width;
  return collect(width, false, [&](const SequenceRun& share, const View& view, Arena& arena) {
    const ArenaScope scope(arena);
    const auto normed = [&](const model::Transformer<float>& model, const AlignedVector<float>& stream,
                            Matrix<float> to) {
      const nn::Norm<float>& norm = model.final_norm();
      nn::norm_forward<float>(norm, {stream.data() + share.row * width, share.rows, width}, to,
                              arena.allocate<float>(norm.stats_size(share.rows)));
    };
    normed(original_, streams_[0], view.original);
    for (size_t k = 0; k < levels(); ++k) normed(compressed_, streams_[k + 1], view.compressed[k]);
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
