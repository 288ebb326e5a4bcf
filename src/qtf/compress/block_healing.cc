#include "qtf/compress/block_healing.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/compress/sequential.h"
#include "qtf/kernels/vector.h"
#include "qtf/model/config.h"
#include "qtf/train/optimizer.h"

namespace qtf::compress {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kHeldBack = 8;     // one sequence of so many judges
constexpr int64_t kMicroRows = 512;  // tokens that a worker passes at once
constexpr double kWarmup = 0.1, kFinalShare = 0.05;

/// The parameters of one block at their places in the whole model.
model::ParameterLayout block_layout(const model::Transformer<float>& model, size_t block) {
  model::ParameterLayout layout;
  layout.size = model.layout().size;
  const std::string prefix = model::block_prefix(model.config().family, static_cast<int64_t>(block));
  for (const model::Parameter& p : model.layout().parameters)
    if (p.name.starts_with(prefix)) layout.parameters.push_back(p);
  return layout;
}

class BlockHealer {
 public:
  BlockHealer(const model::Transformer<float>& original, model::Transformer<float>& pupil,
              const Sequences& text, const BlockHealingOptions& options, ThreadPool& pool)
      : pupil_(pupil),
        text_(text),
        options_(options),
        pool_(pool),
        models_(original, pupil, text, pool),
        gradients_(static_cast<size_t>(pool.size())),
        arenas_(static_cast<size_t>(pool.size())),
        begin_(Clock::now()) {
    for (int64_t s = 0; s < text.count(); ++s) (s % kHeldBack ? learned_ : judged_).push_back(s);
  }

  std::vector<HealedBlock> run() {
    std::vector<HealedBlock> healed;
    const size_t blocks = pupil_.blocks().size();
    for (size_t b = 0; b < blocks && !ended_; ++b) {
      models_.advance_original(b);
      healed.push_back(heal(b));
      models_.advance_compressed(b);
    }
    return healed;
  }

 private:
  /// Σ‖y' − y‖² and Σ‖y‖² over tokens and levels.
  struct Squares {
    double error = 0, answer = 0;
    int64_t rows = 0;
  };

  HealedBlock heal(size_t block) {
    layout_ = block_layout(pupil_, block);
    train::AdamWOptions adamw;
    adamw.weight_decay = 0;
    train::AdamW optimizer(layout_, adamw);
    const std::vector<float> before = weights();
    HealedBlock result;
    result.before = error(block);
    const Clock::time_point begin = Clock::now();
    for (int64_t step = 1;; ++step) {
      const double share = share_done(block, step - 1, begin);
      const size_t blocks = pupil_.blocks().size();
      const double whole = (static_cast<double>(block) + share) / static_cast<double>(blocks);
      ended_ = !options_.progress(whole, fmt::format("block {} of {}", block + 1, blocks));
      if (share >= 1 || ended_) break;
      compute_gradients(block, step);
      optimizer.step(step, options_.learning_rate * train::schedule(share, kWarmup, kFinalShare),
                     gradients_[0], pupil_.parameters(), pool_);
      prepare(block);
    }
    result.after = error(block);
    if (!(result.after < result.before)) {
      restore(before);
      prepare(block);
      result.after = result.before;
    }
    return result;
  }

  /// Of a block's training: its seconds are an equal share of what the blocks before it have left.
  double share_done(size_t block, int64_t steps, Clock::time_point begin) const {
    if (options_.steps > 0) return static_cast<double>(steps) / static_cast<double>(options_.steps);
    const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
    const double left = options_.seconds - seconds(begin - begin_);
    return seconds(Clock::now() - begin) * static_cast<double>(pupil_.blocks().size() - block) /
           std::max(left, 1e-9);
  }

  std::vector<float> weights() const {
    std::vector<float> values;
    for (const model::Parameter& p : layout_.parameters)
      values.insert(values.end(), pupil_.parameters().begin() + p.offset,
                    pupil_.parameters().begin() + p.offset + p.size);
    return values;
  }
  void restore(const std::vector<float>& values) {
    auto from = values.begin();
    for (const model::Parameter& p : layout_.parameters) {
      std::copy_n(from, p.size, pupil_.parameters().begin() + p.offset);
      from += p.size;
    }
  }

  void prepare(size_t block) {
    const auto& maps = pupil_.layout().maps;
    pool_.run([&](int worker) {
      for (size_t m = static_cast<size_t>(worker); m < maps.size(); m += static_cast<size_t>(pool_.size()))
        if (maps[m].spec.layer == static_cast<int64_t>(block))
          pupil_.linears()[m]->map->prepare(pupil_.parameters().data() + maps[m].offset, tt::Use::training);
    });
  }

  /// Of the mean over tokens and levels of ‖y' − y‖² / E‖y‖².
  void compute_gradients(size_t block, int64_t step) {
    const Random random{options_.seed, 0xB10C + block};
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < options_.batch; ++i)
      chosen.push_back(
          learned_[random.below(static_cast<uint64_t>(step * options_.batch + i), learned_.size())]);
    pool_.run([&](int w) {
      AlignedVector<float>& gradients = gradients_[static_cast<size_t>(w)];
      gradients.assign(static_cast<size_t>(pupil_.gradient_size()), 0.0f);
      pass(block, share_of(chosen, w), gradients.data(), rows_of(chosen), arenas_[static_cast<size_t>(w)]);
    });
    pool_.parallel_for(pupil_.gradient_size(), [&](int, Range range) {
      for (size_t w = 1; w < gradients_.size(); ++w)
        kernels::add<float>(range.size(), gradients_[w].data() + range.begin,
                            gradients_[0].data() + range.begin);
    });
    pupil_.pull_back(gradients_[0].data(), pool_);
  }

  double error(size_t block) {
    std::vector<Squares> parts(static_cast<size_t>(pool_.size()));
    pool_.run([&](int w) {
      parts[static_cast<size_t>(w)] =
          pass(block, share_of(judged_, w), nullptr, 1, arenas_[static_cast<size_t>(w)]);
    });
    Squares sum;
    for (const Squares& part : parts)
      sum.error += part.error, sum.answer += part.answer, sum.rows += part.rows;
    if (sum.answer == 0) return 0;
    scale_ = static_cast<double>(sum.rows) / sum.answer;
    return std::sqrt(sum.error / sum.answer);
  }

  std::span<const int64_t> share_of(const std::vector<int64_t>& sequences, int worker) const {
    const Range part = split_range(static_cast<int64_t>(sequences.size()), worker, pool_.size());
    return std::span(sequences).subspan(static_cast<size_t>(part.begin), static_cast<size_t>(part.size()));
  }

  int64_t rows_of(std::span<const int64_t> sequences) const {
    int64_t rows = 0;
    for (const int64_t s : sequences) rows += text_.ends[static_cast<size_t>(s)] - text_.begin_of(s);
    return rows;
  }

  /// Sequences through a block, a few at a time. gradients: added to, or null.
  Squares pass(size_t block, std::span<const int64_t> sequences, float* gradients, int64_t batch_rows,
               Arena& arena) const {
    Squares sum;
    for (size_t first = 0; first < sequences.size();) {
      size_t count = 1;
      while (first + count < sequences.size() && rows_of(sequences.subspan(first, count + 1)) <= kMicroRows)
        ++count;
      const ArenaScope scope(arena);
      const Squares part = pass_once(block, sequences.subspan(first, count), gradients, batch_rows, arena);
      sum.error += part.error, sum.answer += part.answer, sum.rows += part.rows;
      first += count;
    }
    return sum;
  }

  Squares pass_once(size_t block, std::span<const int64_t> sequences, float* gradients, int64_t batch_rows,
                    Arena& arena) const {
    const int64_t rows = rows_of(sequences), width = pupil_.config().width;
    const auto matrix = [&] { return Matrix<float>(arena.allocate<float>(rows * width), rows, width); };
    const Matrix<float> x = matrix(), target = matrix(), y = matrix();
    const std::vector<nn::Segment<float>> segments = gather(sequences, 0, target);
    const double step = 2 * scale_ / static_cast<double>(batch_rows * static_cast<int64_t>(models_.levels()));
    Squares sum;
    for (size_t k = 0; k < models_.levels(); ++k) {
      const ArenaScope scope(arena);
      gather(sequences, k + 1, x);
      nn::BlockSaved<float> saved;
      const nn::Pass<float> pass{segments, rows, models_.level_number(k), {}};
      const auto layer = static_cast<int64_t>(block);
      nn::block_forward<float>(pupil_.blocks()[block], pupil_.block_spec(), pass, layer, x, y, &saved, arena);
      sum.answer += kernels::sum_squares<float>(rows * width, target.data);
      kernels::axpy<float>(rows * width, -1, target.data, y.data);
      sum.error += kernels::sum_squares<float>(rows * width, y.data);
      sum.rows += rows;
      if (!gradients) continue;
      kernels::scale<float>(rows * width, static_cast<float>(step), y.data);
      nn::block_backward<float>(pupil_.blocks()[block], pupil_.block_spec(), pass, layer, saved, y, gradients,
                                arena);
    }
    return sum;
  }

  /// The sequences' rows of a stream (0: the original's), end to end.
  std::vector<nn::Segment<float>> gather(std::span<const int64_t> sequences, size_t stream,
                                         Matrix<float> to) const {
    std::vector<nn::Segment<float>> segments;
    int64_t row = 0;
    for (const int64_t s : sequences) {
      const int64_t begin = text_.begin_of(s), rows = text_.ends[static_cast<size_t>(s)] - begin;
      std::copy_n(&models_.stream(stream)(begin, 0), rows * to.cols, to.row(row));
      segments.push_back({row, rows, 0, nullptr});
      row += rows;
    }
    return segments;
  }

  model::Transformer<float>& pupil_;
  const Sequences& text_;
  const BlockHealingOptions& options_;
  ThreadPool& pool_;
  SideBySide models_;
  std::vector<AlignedVector<float>> gradients_;
  std::vector<Arena> arenas_;
  Clock::time_point begin_;
  std::vector<int64_t> learned_, judged_;  ///< sequences
  model::ParameterLayout layout_;          ///< of the block in hand
  double scale_ = 1;                       ///< makes squares of errors relative
  bool ended_ = false;
};

}  // namespace

std::vector<HealedBlock> heal_blocks(const model::Transformer<float>& original,
                                     model::Transformer<float>& pupil, const Sequences& text,
                                     const BlockHealingOptions& options, ThreadPool& pool) {
  if (text.count() < kHeldBack)
    throw_input_error("heal", "the text gives {} sequences; at least {} are needed", text.count(), kHeldBack);
  if ((options.steps > 0) == (options.seconds > 0))
    throw_input_error("heal", "give steps or seconds a block, above 0");
  return BlockHealer(original, pupil, text, options, pool).run();
}

}  // namespace qtf::compress
