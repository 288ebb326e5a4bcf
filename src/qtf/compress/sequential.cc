#include "qtf/compress/sequential.h"

#include <algorithm>

#include "qtf/compress/captured_map.h"
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
  if (site >= Site::up && !in_middle_) {
    advance_part(block, Site::qkv, Site::attention_out);
    in_middle_ = true;
  }
  const nn::Block<float>& b = original_.blocks()[block];
  const bool residual = site == Site::attention_out || site == Site::down;
  const int64_t width = site == Site::down            ? b.down.in()
                        : site == Site::attention_out ? b.attention_out.in()
                                                      : original_.config().width;
  const Reader original = reader(original_, block, site), compressed = reader(compressed_, block, site);
  return collect(width, residual, [&](const SequenceRun& share, const View& view, Arena& arena) {
    const auto stream_of = [&](size_t k) { return stream(k).row_block(share.row, share.rows); };
    read_site(original, share, 0, stream_of(0), view.original, arena);
    for (size_t k = 0; k < levels(); ++k) {
      read_site(compressed, share, level_number(k), stream_of(k + 1), view.compressed[k], arena);
      const Matrix<float>& shortfall = view.shortfall[k];
      for (int64_t i = 0; i < shortfall.rows * shortfall.cols; ++i)
        shortfall.data[i] = stream_of(0).data[i] - stream_of(k + 1).data[i];
    }
  });
}

SideBySide::Reader SideBySide::reader(const model::Transformer<float>& model, size_t block, Site site) {
  const nn::Block<float>& whole = model.blocks()[block];
  const Site last = site >= Site::up ? Site::up : Site::qkv;
  return {model, site, part_of(whole, last, last)};
}

namespace {

/// What goes with a part of a block that has no attention.
nn::BlockSpec<float> without_heads(nn::BlockSpec<float> spec) {
  spec.heads = spec.kv_heads = 0;
  return spec;
}

}  // namespace

void SideBySide::read_site(const Reader& reader, const SequenceRun& share, int level, ConstMatrix<float> x,
                           Matrix<float> to, Arena& arena) const {
  const ArenaScope scope(arena);
  const nn::Block<float>& block = reader.block;
  if (reader.site == Site::qkv || reader.site == Site::up) {
    const nn::Norm<float>& norm = reader.site == Site::qkv ? block.attention_norm : block.feed_forward_norm;
    return nn::norm_forward<float>(norm, x, to, arena.allocate<float>(norm.stats_size(share.rows)));
  }
  const bool attends = reader.site == Site::attention_out;
  const nn::BlockSpec<float>& spec = reader.model.block_spec();
  nn::BlockSaved<float> saved;
  const auto segments = segments_of(text_, share);
  const Matrix<float> y(arena.allocate<float>(x.rows * x.cols), x.rows, x.cols);
  nn::block_forward<float>(block, attends ? spec : without_heads(spec),
                           pass_over(segments, share.rows, level), 0, x, y, &saved, arena);
  std::copy_n(attends ? saved.attended : saved.hidden, to.rows * to.cols, to.data);
}

void SideBySide::advance(size_t block) {
  advance_part(block, in_middle_ ? Site::up : Site::qkv, Site::down);
  in_middle_ = false;
}

void SideBySide::advance_part(size_t block, Site first, Site last) {
  const bool attends = first == Site::qkv;
  advance(original_, part_of(original_.blocks()[block], first, last), attends, 0, streams_[0]);
  const nn::Block<float> part = part_of(compressed_.blocks()[block], first, last);
  for (size_t k = 0; k < levels(); ++k) advance(compressed_, part, attends, level_number(k), streams_[k + 1]);
}

void SideBySide::advance_original(size_t block) {
  advance(original_, original_.blocks()[block], true, 0, streams_[0]);
}

void SideBySide::advance_compressed(size_t block) {
  for (size_t k = 0; k < levels(); ++k)
    advance(compressed_, compressed_.blocks()[block], true, level_number(k), streams_[k + 1]);
}

void SideBySide::advance(const model::Transformer<float>& model, const nn::Block<float>& block, bool attends,
                         int level, AlignedVector<float>& stream) {
  const int64_t width = original_.config().width;
  const nn::BlockSpec<float> spec = attends ? model.block_spec() : without_heads(model.block_spec());
  for (const SequenceRun& run : runs_of(text_, kRunRows)) {
    pool_.run([&](int w) {
      const SequenceRun share = share_of(text_, run, w, pool_.size());
      if (share.rows == 0) return;
      Arena& arena = arenas_[static_cast<size_t>(w)];
      const ArenaScope scope(arena);
      const auto segments = segments_of(text_, share);
      const Matrix<float> y(arena.allocate<float>(share.rows * width), share.rows, width);
      float* x = stream.data() + share.row * width;
      nn::block_forward<float>(block, spec, pass_over(segments, share.rows, level), 0, {x, share.rows, width},
                               y, nullptr, arena);
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
