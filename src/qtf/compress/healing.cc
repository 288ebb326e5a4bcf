#include "qtf/compress/healing.h"

#include <algorithm>

#include "qtf/base/progress.h"
#include "qtf/model/gauge.h"
#include "qtf/model/model_folder.h"
#include "qtf/train/trainer.h"

namespace qtf::compress {

namespace {

// Of the text, for the blocks: their inputs and answers stay in memory.
constexpr int64_t kBlockTokens = 32768;
constexpr int64_t kBlockWindow = 256;

// Validations, 20 in the run, without a new best before it ends. The rate falls late, and what its height
// loses at first comes back then: ending sooner ends before the gain.
constexpr int64_t kPatience = 12;
constexpr int64_t kValidationTokens = 8192;  // of each: a short healing must not spend its time on them

/// The first part; false if it was stopped.
bool heal_in_blocks(const model::Transformer<float>& original, model::Transformer<float>& pupil,
                    const train::TokenRange& text, const HealingOptions& options, ThreadPool& pool,
                    Healing& healing) {
  const Sequences sequences =
      windows_of(text, std::min(original.config().context, kBlockWindow), kBlockTokens);
  std::optional<Progress> bar;
  if (options.progress) bar.emplace("healing blocks", 1000);
  BlockHealingOptions blocks;
  blocks.seconds = 60 * options.minutes * options.block_share;
  blocks.learning_rate = options.learning_rate;
  const auto stopped = [&] { return options.stop && options.stop->load() != 0; };
  blocks.progress = [&](double share, std::string_view what) {
    if (bar) bar->update(static_cast<int64_t>(1000 * share), std::string(what));
    return !stopped();
  };
  pupil.prepare(tt::Use::training, pool);
  healing.blocks = heal_blocks(original, pupil, sequences, blocks, pool);
  return !stopped();
}

/// The sum of all levels' nats a token.
double loss(const model::Transformer<float>& model, const train::TrainJob& job, ThreadPool& pool) {
  train::EvaluateOptions options;
  options.max_tokens = job.options.validation_tokens;
  double sum = 0;
  for (options.level = 0; options.level < model::level_count(model.config()); ++options.level)
    sum += train::evaluate(model, job.valid, options, pool).nats_per_token;
  return sum;
}

}  // namespace

Healing heal(const model::Transformer<float>& model, const model::Transformer<float>& original,
             const text::TokenFile& text, std::shared_ptr<const text::Tokenizer> tokenizer,
             const HealingOptions& options, ThreadPool& pool) {
  Healing healing;
  auto pupil = model::with_free_gauge(model);
  train::TrainJob job;
  job.model = pupil.get();
  job.tokenizer = std::move(tokenizer);
  job.teacher.model = &original;
  job.train = {&text, 0, text.size() * 19 / 20};
  job.valid = {&text, job.train.end, text.size()};
  job.valid_counts = train::count_text(job.valid, *job.tokenizer);
  job.out = options.out;
  job.name = "healing";
  job.progress = options.progress;
  job.options.minutes = options.minutes * (1 - options.block_share);
  job.options.learning_rate = options.learning_rate;
  job.options.batch = 16;
  job.options.patience = kPatience;
  job.options.validation_tokens = kValidationTokens;
  job.options.nested = model::level_count(pupil->config()) > 1;
  if (options.block_share > 0 && !heal_in_blocks(original, *pupil, job.train, options, pool, healing)) {
    healing.interrupted = options.stop->load();
    return healing;
  }
  model::save_description(job.out, pupil->config(), *job.tokenizer);
  healing.interrupted = train::train(job, pool, options.stop).interrupted;
  if (healing.interrupted) return healing;
  auto healed = model::has_fixed_gauge(model.config()) ? model::with_fixed_gauge(*pupil) : std::move(pupil);
  healed->prepare(tt::Use::inference, pool);
  if (loss(*healed, job, pool) < loss(model, job, pool)) healing.model = std::move(healed);
  return healing;
}

}  // namespace qtf::compress
