// The original and the compressed model side by side over the calibration text, block by block: what each map
// of the compressed one is really given, and what it should answer.
#pragma once

#include <vector>

#include "qtf/base/thread_pool.h"
#include "qtf/compress/calibration.h"

namespace qtf::compress {

/// Means over all tokens of products of x (what the original map reads), x' (what the compressed model's
/// reads) and d (by how much the residual stream there falls short of the original).
struct StageMoments {
  AlignedVector<double> inputs;     ///< E[x'·x'ᵀ]
  AlignedVector<double> cross;      ///< E[x·x'ᵀ]
  AlignedVector<double> shortfall;  ///< E[d·x'ᵀ] of maps that write into the residual stream; else empty
};

/// Of several levels, in equal parts. At least one.
StageMoments mean_of(std::span<const StageMoments> moments);

/// W' that answers the compressed model's inputs with the original outputs (and makes good for the residual
/// stream's shortfall): argmin E‖W·x + d − W'·x'‖² + ridge·m·‖W' − W‖², m the mean eigenvalue of E[x'·x'ᵀ].
AlignedVector<double> corrected_weight(ConstMatrix<float> w, const StageMoments& moments, double ridge);

/// Walks through both models, the compressed one once a nested level, the smallest first. Call stage() for
/// those of the four sites of block 0 that matter, in order, giving the compressed model its maps of a site
/// (prepared for inference) before the next; then advance(), and so on.
class SideBySide {
 public:
  /// Both embeddings must be ready. Both models live as long as this.
  SideBySide(const model::Transformer<float>& original, const model::Transformer<float>& compressed,
             const Sequences& text, ThreadPool& pool);

  /// A level each. The first of the feed-forward sites takes all streams to the block's middle, so that its
  /// attention is passed once.
  std::vector<StageMoments> stage(size_t block, Site site);
  /// Takes all residual streams to the end of a block; or the original's, or the levels' alone, through all
  /// of it.
  void advance(size_t block);
  void advance_original(size_t block);
  void advance_compressed(size_t block);
  /// Of the head's inputs, after the last block.
  std::vector<StageMoments> head();

  size_t levels() const { return streams_.size() - 1; }
  /// Of level number `index`, counted from the smallest, as Transformer counts.
  int level_number(size_t index) const { return index + 1 == levels() ? 0 : static_cast<int>(index) + 1; }
  /// [tokens, D]: the residual stream of the original (0), or of level number index - 1.
  ConstMatrix<float> stream(size_t index) const {
    return {streams_[index].data(), text_.rows(), original_.config().width};
  }

 private:
  /// What one worker fills in: rows of the maps' inputs, and of the streams' shortfalls.
  struct View {
    Matrix<float> original;
    std::vector<Matrix<float>> compressed, shortfall;
  };
  /// A model's block up to a site, whose inputs it computes.
  struct Reader {
    const model::Transformer<float>& model;
    Site site;
    nn::Block<float> block;
  };
  static Reader reader(const model::Transformer<float>& model, size_t block, Site site);
  /// Fills `to` with the site's inputs, x[rows, D] being the residual stream that its output is added to.
  void read_site(const Reader& reader, const SequenceRun& share, int level, ConstMatrix<float> x,
                 Matrix<float> to, Arena& arena) const;
  template <class Fill>
  std::vector<StageMoments> collect(int64_t width, bool residual, const Fill& fill);
  void advance_part(size_t block, Site first, Site last);
  void advance(const model::Transformer<float>& model, const nn::Block<float>& block, bool attends, int level,
               AlignedVector<float>& stream);

  const model::Transformer<float>& original_;
  const model::Transformer<float>& compressed_;
  const Sequences& text_;
  ThreadPool& pool_;
  std::vector<AlignedVector<float>> streams_;  ///< [tokens, D]: of the original, then of each level
  std::vector<Arena> arenas_;
  bool in_middle_ = false;  ///< of a block: its attention is done, its feed-forward layer is not
};

/// Mean KL(original ‖ compressed) in nats/token over the sequences.
double mean_divergence(const model::Transformer<float>& original, const model::Transformer<float>& compressed,
                       const Sequences& text, int level, ThreadPool& pool);

}  // namespace qtf::compress
