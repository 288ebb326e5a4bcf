// What the tests of the training loop share: runs of small models, each in a folder of its own, and what they
// leave.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <sstream>
#include <thread>

#include "qtf/base/json.h"
#include "qtf/model/model_folder.h"
#include "qtf/train/thread_ranks.h"
#include "qtf/train/train_test.h"
#include "qtf/train/trainer.h"

namespace qtf::train {

inline TrainOptions small_options() {
  TrainOptions o;
  o.steps = 24;
  o.batch = 4;
  o.validate_every = 5;
  o.validation_tokens = 100;
  o.checkpoint_steps = 3;
  return o;
}

/// The lines of a run's metrics without what depends on the clock.
inline std::vector<nlohmann::json> metrics_of(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(read_file(folder / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    nlohmann::json parsed = nlohmann::json::parse(line);
    for (const char* clock : {"seconds", "tokens_per_second", "peak_share", "fma_peak"}) parsed.erase(clock);
    lines.push_back(std::move(parsed));
  }
  return lines;
}

/// What a run leaves.
struct Outcome {
  TrainSummary summary;
  std::vector<float> parameters;
  std::string weights;
  std::vector<nlohmann::json> metrics;
};

/// Runs of one model on one text, each in a folder of its own.
class Training {
 public:
  /// teacher_weight: above 0, the runs learn from a model of another width too.
  explicit Training(const TrainOptions& options, const ModelCase& c = model_cases()[0],
                    double teacher_weight = 0)
      : options_(options), config_(small_config(c)), teacher_weight_(teacher_weight) {}

  /// Trains in `folder`; `stop` ends it early.
  Outcome run(const std::filesystem::path& folder, bool resume, const std::atomic<int>* stop = nullptr,
              int threads = 2, const std::function<void(std::span<float>)>& change = {},
              Ranks* ranks = nullptr) const {
    const bool leads = !ranks || ranks->leads();
    model::Transformer<float> model(config_);
    if (!resume && leads) model.initialise(options_.seed);
    if (change) change(model.parameters());
    if (leads) model::save_description(folder, config_, *corpus_.tokenizer());
    TrainJob job;
    job.model = &model;
    job.tokenizer = corpus_.tokenizer();
    job.train = corpus_.range(0, 1200), job.valid = corpus_.range(1200, corpus_.file().size());
    job.valid_counts = count_text(job.valid, *job.tokenizer);
    job.out = folder, job.name = "test";
    job.identity = {{"text", corpus_.file().text_sha256()}};
    const auto expert = make_expert();
    if (teacher_weight_ > 0) job.teacher = {expert.get(), teacher_weight_, 2};
    job.options = options_;
    job.resume = resume, job.progress = false;
    job.ranks = ranks;
    ThreadPool pool(threads);
    Outcome outcome;
    outcome.summary = train(job, pool, stop);
    outcome.parameters.assign(model.parameters().begin(), model.parameters().end());
    outcome.metrics = metrics_of(folder);
    if (std::filesystem::exists(folder / "model.safetensors"))
      outcome.weights = read_file(folder / "model.safetensors");
    return outcome;
  }

  /// The same by several ranks, a thread each; what rank 0 leaves. stop: of each rank.
  template <class RanksKind = ThreadRanks>
  Outcome run_with_ranks(const std::filesystem::path& folder, bool resume, int size,
                         const std::vector<std::atomic<int>>* stop = nullptr) const {
    ThreadRoom room(size);
    std::vector<Outcome> outcomes(static_cast<size_t>(size));
    {
      std::vector<std::jthread> threads;
      for (int rank = 0; rank < size; ++rank) {
        threads.emplace_back([&, rank] {
          RanksKind ranks(room, rank);
          const auto at = static_cast<size_t>(rank);
          outcomes[at] = run(folder, resume, stop ? &(*stop)[at] : nullptr, 1, {}, &ranks);
        });
      }
    }
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.summary.progress.step, outcomes[0].summary.progress.step);
      EXPECT_EQ(outcome.summary.interrupted, outcomes[0].summary.interrupted);
      EXPECT_EQ(outcome.summary.ranks_lost, outcomes[0].summary.ranks_lost);
    }
    return outcomes[0];
  }

  Outcome run_alone() const {
    const TemporaryFolder folder;
    return run(folder.path(), false);
  }

  /// Trains with an interruption about every `lines` lines of metrics.
  Outcome run_in_pieces(size_t lines, int& pieces) const {
    const TemporaryFolder folder;
    for (pieces = 1;; ++pieces) {
      std::atomic<int> stop{0};
      std::jthread watcher([&](const std::stop_token& ended) {
        const size_t enough = count_lines(folder / "metrics.jsonl") + lines;
        while (!ended.stop_requested() && count_lines(folder / "metrics.jsonl") < enough)
          std::this_thread::sleep_for(std::chrono::microseconds(100));
        if (!ended.stop_requested()) stop = SIGINT;
      });
      const Outcome outcome = run(folder.path(), has_checkpoint(folder.path()), &stop);
      watcher.request_stop();
      if (!outcome.summary.interrupted) return outcome;
      EXPECT_EQ(*outcome.summary.interrupted, SIGINT);
    }
  }

  const model::ModelConfig& config() const { return config_; }
  const SmallCorpus& corpus() const { return corpus_; }

 private:
  static std::unique_ptr<model::Transformer<float>> make_expert() {
    model::ModelConfig config = small_config();
    config.width = 24, config.layers = 1;
    auto expert = std::make_unique<model::Transformer<float>>(config);
    expert->initialise(4);
    ThreadPool pool(1);
    expert->prepare(tt::Use::inference, pool);
    return expert;
  }

  static size_t count_lines(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path)) return 0;
    const std::string text = read_file(path);
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  TrainOptions options_;
  model::ModelConfig config_;
  SmallCorpus corpus_{small_text(1500)};
  double teacher_weight_;
};

inline void expect_equal(const Outcome& a, const Outcome& b, const std::string& what) {
  EXPECT_EQ(a.parameters, b.parameters) << what;
  EXPECT_TRUE(a.weights == b.weights) << what << ": model.safetensors differs";
  ASSERT_EQ(a.metrics.size(), b.metrics.size()) << what;
  for (size_t i = 0; i < a.metrics.size(); ++i) EXPECT_EQ(a.metrics[i], b.metrics[i]) << what;
  EXPECT_EQ(a.summary.progress.best_step, b.summary.progress.best_step);
  EXPECT_EQ(a.summary.valid.nats_per_token, b.summary.valid.nats_per_token);
}

}  // namespace qtf::train
