#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <ostream>

#include "qtf/base/parse.h"
#include "qtf/base/progress.h"
#include "qtf/cli/train_setup.h"
#include "qtf/model/generate.h"
#include "qtf/model/model_card.h"
#include "qtf/model/model_folder.h"
#include "qtf/train/metrics.h"

namespace qtf::cli {
namespace {

std::atomic<int> stop_signal{0};

/// While it lives, Ctrl-C and SIGTERM ask the run to end; a second one ends the process at once.
class SignalGuard {
 public:
  SignalGuard() {
    stop_signal = 0;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, handle);
  }
  ~SignalGuard() {
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  }

 private:
  static void handle(int signal) {
    stop_signal = signal;
    std::signal(signal, SIG_DFL);
  }
};

void print_plan(const TrainSetup& setup, int threads, std::ostream& out) {
  const model::ModelConfig& config = setup.model->config();
  const int64_t parameters = model::parameter_count(config), dense = model::dense_parameter_count(config);
  out << fmt::format("{} parameters", format_count(parameters));
  if (parameters != dense) {
    out << fmt::format(" (dense: {}, {:.2f} times as many)", format_count(dense),
                       static_cast<double>(dense) / static_cast<double>(parameters));
  }
  out << fmt::format(", {} tokens to learn, {} to validate, vocabulary {}, {} thread{}\n",
                     format_count(setup.job.train.size()), format_count(setup.job.valid.size()),
                     config.vocabulary, threads, threads == 1 ? "" : "s");
}

model::CardFacts card_facts(const TrainSetup& setup, const train::TrainSummary& summary,
                            const std::string& trained_on) {
  model::CardFacts facts;
  facts.name = setup.job.name;
  facts.trained_on = trained_on;
  facts.bytes = static_cast<int64_t>(std::filesystem::file_size(setup.job.out / "model.safetensors"));
  facts.steps = summary.progress.step;
  facts.seconds = summary.seconds;
  facts.nats_per_token = summary.valid.nats_per_token;
  facts.standard_error = summary.valid.standard_error;
  facts.word_perplexity = summary.valid.word_perplexity(setup.job.valid_counts, setup.job.valid.size());
  facts.bits_per_byte = summary.valid.bits_per_byte(setup.job.valid_counts, setup.job.valid.size());
  facts.context = summary.valid.context;
  facts.stride = summary.valid.stride;
  return facts;
}

std::string write_sample(const TrainSetup& setup) {
  model::GenerateOptions options;
  options.tokens = 80;
  options.sampling.top_p = 0.95;
  options.sampling.seed = setup.job.options.seed;
  const std::string prompt = "The";
  return prompt + model::generate(*setup.model, *setup.tokenizer, prompt, options).text;
}

void write_end(const TrainSetup& setup, const train::TrainSummary& summary, const model::CardFacts& facts) {
  const model::ModelConfig& config = setup.model->config();
  const auto metrics = setup.job.out / "metrics.jsonl";
  train::MetricsFile file(setup.job.out, static_cast<int64_t>(std::filesystem::file_size(metrics)));
  const int64_t parameters = model::parameter_count(config), dense = model::dense_parameter_count(config);
  file.write({{"event", "end"},
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
              {"sample", write_sample(setup)}});
}

void print_result(const TrainSetup& setup, const train::TrainSummary& summary, const model::CardFacts& facts,
                  std::ostream& out) {
  out << fmt::format(
      "Best at step {} of {} after {}: {:.4f} ± {:.4f} nats/token, perplexity {:.2f} a token and {:.1f} a "
      "word, {:.4f} bits/byte\n",
      summary.progress.best_step, summary.progress.step, format_duration(summary.seconds),
      facts.nats_per_token, facts.standard_error, summary.valid.perplexity(), facts.word_perplexity,
      facts.bits_per_byte);
  out << fmt::format("The model is in {}\n", setup.job.out.string());
}

void run(const Arguments& given, const Streams& streams) {
  const Arguments settings = resolve_settings(given);
  if (!settings.given("--train")) throw UsageError("train: --train FILE is missing: the text to learn");
  ThreadPool pool(static_cast<int>(given.integer("--threads")));
  const auto setup = set_up_training(settings, given, pool, streams.out);
  print_plan(*setup, pool.size(), streams.out);
  streams.out << std::flush;

  const SignalGuard guard;
  const train::TrainSummary summary = train::train(setup->job, pool, &stop_signal);
  if (summary.interrupted) {
    streams.err << fmt::format("Stopped at step {}; go on with: qtf train --resume --out {}\n",
                               summary.progress.step, setup->job.out.string());
    throw ExitStatus(128 + *summary.interrupted);
  }
  const model::CardFacts facts = card_facts(*setup, summary, settings.text("--train"));
  write_file_atomically(setup->job.out / "README.md", model::model_card(setup->model->config(), facts));
  write_end(*setup, summary, facts);
  train::remove_checkpoint(setup->job.out);
  print_result(*setup, summary, facts, streams.out);
}

}  // namespace

extern const Command kTrainCommand;
const Command kTrainCommand{
    .name = "train",
    .summary = "Train a language model on text",
    .details =
        "Give one of --steps, --epochs and --minutes. The folder --out gets the best weights by validation, "
        "the "
        "tokenizer, metrics.jsonl and a model card. Ctrl-C, SIGTERM and kill lose at most the steps since "
        "the last "
        "checkpoint; --resume goes on.",
    .example = {.call = "qtf train --train book.txt --out book-model --preset tiny --ratio 2 --minutes 5"},
    .options = train_options(),
    .run = run,
};

}  // namespace qtf::cli
