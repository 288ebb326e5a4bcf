#include <fmt/format.h>

#include <ostream>
#include <sstream>

#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/base/progress.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/model_card.h"
#include "qtf/cli/new_folder.h"
#include "qtf/cli/profile_table.h"
#include "qtf/cli/stop_signal.h"
#include "qtf/cli/train_parent.h"
#include "qtf/cli/train_setup.h"
#include "qtf/cli/training_ranks.h"
#include "qtf/compress/sequences.h"
#include "qtf/model/gauge.h"
#include "qtf/model/generate.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/train/metrics.h"

namespace qtf::cli {
namespace {

void print_plan(const TrainSetup& setup, int threads, std::ostream& out) {
  const model::ModelConfig& config = setup.model->config();
  const int64_t parameters = model::stored_parameter_count(config),
                dense = model::dense_parameter_count(config);
  out << fmt::format("{} parameters", format_count(parameters));
  if (parameters != dense) {
    out << fmt::format(" (dense: {}, {:.2f} times as many)", format_count(dense),
                       static_cast<double>(dense) / static_cast<double>(parameters));
  }
  out << fmt::format(", {} tokens to learn, {} to validate, vocabulary {}, {} thread{}\n",
                     format_count(setup.job.train.size()), format_count(setup.job.valid.size()),
                     config.vocabulary, threads, threads == 1 ? "" : "s");
}

/// What a finished training came to, beside the summary.
struct TrainedFacts {
  std::string name;
  int64_t bytes = 0;  ///< of model.safetensors
  double word_perplexity = 0, bits_per_byte = 0;
};

TrainedFacts trained_facts(const TrainSetup& setup, const train::TrainSummary& summary) {
  TrainedFacts facts;
  facts.name = setup.job.name;
  facts.bytes = static_cast<int64_t>(std::filesystem::file_size(setup.job.out / "model.safetensors"));
  facts.word_perplexity = summary.valid.word_perplexity(setup.job.valid_counts, setup.job.valid.size());
  facts.bits_per_byte = summary.valid.bits_per_byte(setup.job.valid_counts, setup.job.valid.size());
  return facts;
}

/// The figures of the training's making.end.
nlohmann::json trained_figures(const TrainSetup& setup, const train::TrainSummary& summary,
                               const TrainedFacts& facts, const std::string& trained_on) {
  const model::ModelConfig& config = setup.model->config();
  nlohmann::json figures = measured_facts(summary.valid);
  figures["trained_on"] = std::filesystem::path(trained_on).filename().string();
  figures["parameters"] = std::to_string(model::parameter_count(config));
  figures["dense_parameters"] = std::to_string(model::dense_parameter_count(config));
  figures["bytes"] = std::to_string(facts.bytes);
  figures["perplexity"] = fmt::format("{:.3f}", summary.valid.perplexity());
  figures["word_perplexity"] = fmt::format("{:.2f}", facts.word_perplexity);
  figures["bits_per_byte"] = fmt::format("{:.4f}", facts.bits_per_byte);
  figures["steps"] = std::to_string(summary.progress.step);
  figures["seconds"] = std::to_string(static_cast<int64_t>(summary.seconds));
  return figures;
}

std::string write_sample(const TrainSetup& setup) {
  model::GenerateOptions options;
  options.tokens = 80;
  options.sampling.top_p = 0.95;
  options.sampling.seed = setup.job.options.seed;
  const std::string prompt = "The";
  return prompt + model::generate(*setup.model, *setup.tokenizer, prompt, options).text;
}

/// Returns the line that ends metrics.jsonl.
nlohmann::ordered_json write_end(const TrainSetup& setup, const train::TrainSummary& summary,
                                 const TrainedFacts& facts) {
  const model::ModelConfig& config = setup.model->config();
  const auto metrics = setup.job.out / "metrics.jsonl";
  train::MetricsFile file(setup.job.out, static_cast<int64_t>(std::filesystem::file_size(metrics)));
  const int64_t parameters = model::parameter_count(config), dense = model::dense_parameter_count(config);
  const nlohmann::ordered_json line{
      {"event", "end"},
      {"name", facts.name},
      {"step", summary.progress.step},
      {"seconds", summary.seconds},
      {"tokens_per_second", summary.tokens_per_second},
      {"best_step", summary.progress.best_step},
      {"best_loss", summary.valid.nats_per_token},
      {"stderr", summary.valid.standard_error},
      {"word_perplexity", facts.word_perplexity},
      {"bits_per_byte", facts.bits_per_byte},
      {"parameters", parameters},
      {"dense_parameters", dense},
      {"ratio", static_cast<double>(dense) / static_cast<double>(parameters)},
      {"bytes", facts.bytes},
      {"macs_per_token", model::macs_per_token(config, (config.context - 1) / 2)},
      {"sample", write_sample(setup)}};
  file.write(line);
  return line;
}

void print_result(const TrainSetup& setup, const train::TrainSummary& summary, const TrainedFacts& facts,
                  std::ostream& out) {
  out << fmt::format(
      "Best at step {} of {} after {}: {:.4f} ± {:.4f} nats/token, perplexity {:.2f} a token and {:.1f} a "
      "word, {:.4f} bits/byte\n",
      summary.progress.best_step, summary.progress.step, format_duration(summary.seconds),
      summary.valid.nats_per_token, summary.valid.standard_error, summary.valid.perplexity(),
      facts.word_perplexity, facts.bits_per_byte);
  out << fmt::format("The model is in {}\n", setup.job.out.string());
}

/// Files hold chains with a fixed gauge: fewer numbers for the same function (tt/gauge.h).
void store_with_fixed_gauge(TrainSetup& setup, ThreadPool& pool) {
  if (!model::can_fix_gauge(setup.model->config())) return;
  auto stored = model::with_fixed_gauge(*setup.model);
  model::save_description(setup.job.out, stored->config(), *setup.tokenizer);
  model::save_weights(setup.job.out, stored->layout(), stored->parameters());
  stored->prepare(tt::Use::inference, pool);
  setup.model = std::move(stored);
  setup.job.model = setup.model.get();
}

/// Fits the policy of a model with nested levels to the validation text.
void store_rank_policy(const TrainSetup& setup, ThreadPool& pool) {
  const model::ModelConfig& config = setup.model->config();
  if (!model::has_rank_choice(config)) return;
  const train::TokenRange& valid = setup.job.valid;
  const compress::Sequences text = compress::windows_of(valid, config.context, model::kRankCalibrationTokens);
  model::RankCalibrationOptions options;
  if (setup.job.options.mean_rank > 0) {  // as it learned
    options.signal = adapt::RankSignal::entropy;
    options.mean = setup.job.options.mean_rank;
  }
  const model::RankPolicy policy =
      model::calibrate_ranks(*setup.model, text.tokens, text.ends, options, pool);
  model::save_rank_policy(setup.job.out, policy, config);
  record_start(setup.job.out, "calibrate", {{"tokens", std::to_string(text.rows())}},
               model::decisions(policy, config));
}

/// Says how a run that did not reach its end goes on, and leaves. `out`: what --resume would be given.
[[noreturn]] void leave_unfinished(const train::TrainSummary& summary, const std::string& out,
                                   const Streams& streams) {
  constexpr int kFailure = 1;
  if (summary.ranks_lost) {
    streams.err << fmt::format("qtf: rank 0 no longer hears the other ranks, after step {}; ",
                               summary.progress.step)
                << fmt::format("go on, with any number of ranks, with: qtf train --resume --out {}", out)
                << std::endl;
    throw ExitStatus(kFailure);
  }
  streams.err << fmt::format("Stopped at step {}; go on with: qtf train --resume --out {}",
                             summary.progress.step, out)
              << std::endl;
  throw ExitStatus(128 + *summary.interrupted);
}

/// Trains and, on rank 0, leaves a finished folder and returns what the run came to; others return null.
/// `out`: what --resume would be given.
nlohmann::ordered_json train_whole(TrainSetup& setup, const Arguments& settings, const std::string& out,
                                   ThreadPool& pool, const Streams& streams) {
  const bool leads = !setup.job.ranks || setup.job.ranks->leads();
  if (leads) print_plan(setup, pool.size(), streams.out);
  streams.out << std::flush;
  const StopSignal stop;
  const train::TrainSummary summary = train::train(setup.job, pool, &stop.number());
  if (!leads) {
    if (summary.ranks_lost) throw ExitStatus(1);
    if (summary.interrupted) throw ExitStatus(128 + *summary.interrupted);
    return {};
  }
  if (summary.profile) streams.out << profile_table(*summary.profile, summary.fma_peak);
  if (summary.ranks_lost || summary.interrupted) leave_unfinished(summary, out, streams);
  store_with_fixed_gauge(setup, pool);
  store_rank_policy(setup, pool);
  const TrainedFacts facts = trained_facts(setup, summary);
  nlohmann::ordered_json end = write_end(setup, summary, facts);
  record_made(setup.job.out, trained_figures(setup, summary, facts, settings.text("--train")));
  // The card last: who finds one finds a finished run.
  write_model_card(setup.job.out, facts.name, setup.model->config());
  train::remove_checkpoint(setup.job.out);
  print_result(setup, summary, facts, streams.out);
  return end;
}

/// The dense part of a run that begins so, in a folder of its own, begun or gone on with.
void train_parent(const Arguments& settings, const Arguments& given, ThreadPool& pool, train::Ranks* ranks,
                  const Streams& streams) {
  if (has_finished_parent(given)) return;
  const Arguments running = parent_running(given, has_parent(given));
  if (ranks && !ranks->leads()) {
    const Arguments its = parent_settings(settings);
    train_whole(*join_training(its, running, pool, *ranks), its, given.text("--out"), pool, streams);
    return;
  }
  check_out(given.text("--out"), given.flag("--resume"));
  std::optional<NewFolder> folder;
  if (!given.flag("--resume")) {
    folder.emplace(given.text("--out"));
    folder->own_contents();
    write_settings(given.text("--out"), settings);
  }
  const Arguments its = has_parent(given) ? resolve_settings(running) : parent_settings(settings);
  const auto setup = set_up_training(its, running, pool, ranks, streams.out);
  check_ratio(settings, setup->model->config());
  if (folder) folder->keep();
  streams.out << "A dense model first, to be compressed\n";
  train_whole(*setup, its, given.text("--out"), pool, streams);
}

/// As train_whole.
nlohmann::ordered_json train_on(const Arguments& given, train::Ranks* ranks, const Streams& streams) {
  const Arguments settings = resolve_settings(given, ranks ? ranks->size() : 1);
  if (!settings.given("--train")) throw UsageError("train: --train FILE is missing: the text to learn");
  if (given.text("--out").empty()) throw UsageError("--out is empty; name the model folder to write");
  ThreadPool pool(given.given("--threads") || !ranks ? static_cast<int>(given.integer("--threads"))
                                                     : threads_of_this_rank());
  const bool dense_first = begins_dense(settings);
  if (dense_first) train_parent(settings, given, pool, ranks, streams);
  const Arguments running = dense_first ? rest_running(given) : given;
  const auto setup = ranks && !ranks->leads() ? join_training(settings, running, pool, *ranks)
                                              : set_up_training(settings, running, pool, ranks, streams.out);
  return train_whole(*setup, settings, given.text("--out"), pool, streams);
}

void run_train(const Arguments& given, const Streams& streams) {
  std::ostringstream untold;
  const bool json = given.flag("--json");
  const auto ranks = open_ranks();
  const auto end = train_on(given, ranks.get(), {streams.in, json ? untold : streams.out, streams.err});
  if (ranks) ranks->close();
  if (json && !end.is_null()) streams.out << end.dump() << "\n";
}

}  // namespace

extern const Command kTrainCommand;
const Command kTrainCommand{
    .name = "train",
    .summary = "Train a language model on text",
    .details =
        "Give one of --steps, --epochs and --minutes. The folder --out gets the best weights by validation, "
        "the tokenizer, metrics.jsonl and a model card. Ctrl-C, SIGTERM and kill lose at most the steps "
        "since "
        "the last checkpoint; --resume goes on. --ratio trains a dense model first (in --out/parent), "
        "compresses it and trains the chains on with it as teacher, all within the one length given: much "
        "better than chains from random weights. Under mpirun, its ranks train the one model together, each "
        "with a --batch of its own (docs/distributed.md).",
    .example = {.call = "qtf train --train book.txt --out book-model --preset tiny --ratio 2 --minutes 5"},
    .options = train_options(),
    .run = run_train,
};

}  // namespace qtf::cli
