#include "qtf/compress/calibration.h"

#include <algorithm>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/compress/captured_map.h"
#include "qtf/kernels/softmax.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

namespace {

/// Buffers for the inputs and output gradients of one block's maps, all tokens of a run.
struct BlockCapture {
  std::array<Matrix<float>, kSites> inputs;
  std::vector<Matrix<float>> gradients;
};

class Calibrator {
 public:
  Calibrator(const model::Transformer<float>& model, const Sequences& text, ThreadPool& pool)
      : model_(model), text_(text), pool_(pool), workers_(static_cast<size_t>(pool.size())) {
    const model::ModelConfig& config = model.config();
    sums_ = empty_moments<SecondMoment>(config);
    for (Worker& worker : workers_) {
      for (size_t i = 0; i < model.blocks().size(); ++i) worker.blocks.push_back(capturing_block(model, i));
      worker.ignored.assign(static_cast<size_t>(3 * std::max(config.width, config.feed_forward)), 0.0f);
    }
  }

  Calibration run() {
    for (const SequenceRun& run : runs_of(text_, kRunRows)) {
      const ArenaScope scope(shared_);
      pass(run);
    }
    return means();
  }

 private:
  /// Each sum goes when its mean is made.
  Calibration means() {
    Calibration result;
    result.tokens = text_.rows();
    result.token_counts.assign(static_cast<size_t>(model_.config().vocabulary), 0);
    for (const int32_t token : text_.tokens) ++result.token_counts[static_cast<size_t>(token)];
    const auto mean = [&](SecondMoment& sum) {
      return mean_of(std::exchange(sum, SecondMoment()), result.tokens);
    };
    result.embedding_gradients = mean(sums_.embedding_gradients);
    result.hidden = mean(sums_.hidden);
    for (BlockMoments<SecondMoment>& block : sums_.blocks) {
      BlockMoments<MeanMoment>& to = result.blocks.emplace_back();
      for (size_t s = 0; s < kSites; ++s) to.inputs[s] = mean(block.inputs[s]);
      for (SecondMoment& sum : block.gradients) to.gradients.push_back(mean(sum));
    }
    return result;
  }

  /// One worker's share of a run, from its forward pass to the end of its backward pass.
  struct Worker {
    Arena arena;
    std::vector<nn::Block<float>> blocks;
    std::vector<float> ignored;  ///< where gradients of biases and norms go
    SequenceRun share;
    std::vector<nn::Segment<float>> segments;
    std::vector<nn::BlockSaved<float>> saved;
    Matrix<float> dx;
  };

  Matrix<float> shared(int64_t rows, int64_t cols) {
    return {shared_.allocate<float>(rows * cols), rows, cols};
  }

  BlockCapture allocate_capture(int64_t rows) {
    BlockCapture capture;
    const BlockMoments<SecondMoment>& moments = sums_.blocks.front();
    for (size_t s = 0; s < kSites; ++s) capture.inputs[s] = shared(rows, moments.inputs[s].size);
    for (const SecondMoment& m : moments.gradients) capture.gradients.push_back(shared(rows, m.size));
    return capture;
  }

  void pass(const SequenceRun& run) {
    const int64_t width = model_.config().width;
    const Matrix<float> hidden = shared(run.rows, width);
    MomentUpdates updates;
    pool_.run([&](int w) {
      Worker& worker = workers_[static_cast<size_t>(w)];
      worker.share = share_of(text_, run, w, pool_.size());
      if (worker.share.rows > 0) forward(worker, run, hidden);
    });
    updates.add(hidden, sums_.hidden);
    updates.run(pool_);
    const BlockCapture capture = allocate_capture(run.rows);
    for (size_t i = model_.blocks().size(); i-- > 0;) {
      pool_.run([&](int w) {
        Worker& worker = workers_[static_cast<size_t>(w)];
        if (worker.share.rows > 0) backward(worker, i, worker.share.row - run.row, capture);
      });
      for (size_t s = 0; s < kSites; ++s) updates.add(capture.inputs[s], sums_.blocks[i].inputs[s]);
      for (size_t m = 0; m < capture.gradients.size(); ++m)
        updates.add(capture.gradients[m], sums_.blocks[i].gradients[m]);
      updates.run(pool_);
    }
    for (Worker& worker : workers_) {
      if (worker.share.rows == 0) continue;
      copy(worker.dx.data, hidden.row_block(worker.share.row - run.row, worker.share.rows));
    }
    updates.add(hidden, sums_.embedding_gradients);
    updates.run(pool_);
    for (Worker& worker : workers_) worker.arena.release({});
  }

  static void copy(const float* from, Matrix<float> to) { std::copy_n(from, to.rows * to.cols, to.data); }

  void forward(Worker& worker, const SequenceRun& run, Matrix<float> all_hidden) {
    const int64_t rows = worker.share.rows, width = model_.config().width;
    const auto allocate = [&] {
      return Matrix<float>(worker.arena.allocate<float>(rows * width), rows, width);
    };
    worker.segments = segments_of(text_, worker.share);
    worker.saved.resize(worker.blocks.size());
    Matrix<float> x = allocate();
    model_.embed(tokens_of(text_, worker.share), worker.segments, x, nullptr, 0, worker.arena);
    for (size_t i = 0; i < worker.blocks.size(); ++i) {
      const Matrix<float> y = allocate();
      nn::block_forward<float>(worker.blocks[i], model_.block_spec(), {worker.segments, rows, 0, {}},
                               static_cast<int64_t>(i), x, y, &worker.saved[i], worker.arena);
      x = y;
    }
    const nn::Norm<float> norm = without_gradients(model_.final_norm());
    const Matrix<float> hidden = all_hidden.row_block(worker.share.row - run.row, rows);
    float* stats = worker.arena.allocate<float>(norm.stats_size(rows));
    nn::norm_forward<float>(norm, x, hidden, stats);
    const Matrix<float> dhidden = allocate();
    for (int64_t i = 0; i < rows; i += kHeadRows) {
      const int64_t n = std::min(kHeadRows, rows - i);
      head_gradient(hidden.row_block(i, n), worker.share.row + i, dhidden.row_block(i, n), worker.arena);
    }
    worker.dx = allocate();
    std::fill_n(worker.dx.data, rows * width, 0.0f);
    nn::norm_backward<float>(norm, dhidden, x, stats, worker.dx, worker.ignored.data());
  }

  /// The gradient by the last hidden states of the loss with targets drawn from the predictions.
  void head_gradient(ConstMatrix<float> hidden, int64_t token, Matrix<float> dhidden, Arena& arena) const {
    const ArenaScope scope(arena);
    const int64_t vocabulary = model_.config().vocabulary;
    const Matrix<float> p(arena.allocate<float>(hidden.rows * vocabulary), hidden.rows, vocabulary);
    model_.logits(hidden, 0, p, arena);
    const Random random{0, 0xF15E};
    for (int64_t i = 0; i < p.rows; ++i) {
      float* row = p.row(i);
      kernels::exp_shifted<float>(vocabulary, row, kernels::log_sum_exp<float>(vocabulary, row), 1, row);
      double left = random.uniform(static_cast<uint64_t>(token + i));
      int64_t target = 0;
      while (target + 1 < vocabulary && (left -= static_cast<double>(row[target])) >= 0) ++target;
      row[target] -= 1;
    }
    gemm<float>(p, weight_of(model_, model_.layout().maps.size() - (model_.config().tied ? 0 : 1)), dhidden);
  }

  void backward(Worker& worker, size_t index, int64_t row, const BlockCapture& capture) {
    nn::Block<float>& block = worker.blocks[index];
    const nn::BlockSaved<float>& saved = worker.saved[index];
    const int64_t rows = worker.share.rows;
    const auto maps = maps_of(block);
    for (size_t m = 0; m < maps.size(); ++m)
      static_cast<CapturedMap&>(*maps[m]->map).capture_into(capture.gradients[m].row_block(row, rows));
    nn::block_backward<float>(block, model_.block_spec(), {worker.segments, rows, 0, {}},
                              static_cast<int64_t>(index), saved, worker.dx, worker.ignored.data(),
                              worker.arena);
    const std::array<const float*, kSites> inputs{saved.norm1, saved.attended, saved.norm2, saved.hidden};
    for (size_t s = 0; s < kSites; ++s) copy(inputs[s], capture.inputs[s].row_block(row, rows));
  }

  const model::Transformer<float>& model_;
  const Sequences& text_;
  ThreadPool& pool_;
  std::vector<Worker> workers_;
  Arena shared_;
  ModelMoments<SecondMoment> sums_;
};

}  // namespace

Site site_of(model::Family family, int64_t map_in_block) {
  constexpr std::array kLlama{Site::qkv, Site::qkv, Site::qkv, Site::attention_out,
                              Site::up,  Site::up,  Site::down};
  return family == model::Family::llama ? kLlama[static_cast<size_t>(map_in_block)]
                                        : static_cast<Site>(map_in_block);
}

Calibration calibrate(const model::Transformer<float>& model, const Sequences& text, ThreadPool& pool) {
  return Calibrator(model, text, pool).run();
}

}  // namespace qtf::compress
