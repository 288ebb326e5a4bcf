#include <fmt/format.h>

#include <filesystem>
#include <ostream>

#include "qtf/base/json.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/model_card.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/rank_options.h"
#include "qtf/compress/sequences.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/text/token_file.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {
namespace {

/// The text's mix and loss under the policy.
train::Evaluation loss_under_policy(const model::Transformer<float>& model,
                                    const model::RankScheduler& scheduler, const compress::Sequences& text,
                                    ThreadPool& pool) {
  train::EvaluateOptions options;
  options.scheduler = &scheduler;
  return train::evaluate(model, train::Documents{text.tokens, text.ends}, options, pool);
}

void run_calibrate(const Arguments& arguments, const Streams& streams) {
  const std::string folder = arguments.text("MODEL");
  if (!model::is_model_folder(folder)) {
    throw_input_error(
        "calibrate",
        "{} is no model folder, and only such a one can keep a policy; make one with qtf convert", folder);
  }
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel loaded = open_model(folder, "calibrate");
  const model::ModelConfig& config = loaded.model->config();
  model::RankCalibrationOptions options;
  if (arguments.given("--signal"))
    options.signal = adapt::parse_calibrated_signal(arguments.text("--signal"));
  options.mean = read_share(arguments, "--mean-rank");
  if (arguments.given("--alpha")) options.alpha = read_alpha(arguments);
  options.hysteresis = std::llround(arguments.number("--hysteresis") * static_cast<double>(adapt::kUnit));
  loaded.model->prepare(tt::Use::inference, pool);
  const text::TokenFile file = text::tokenize_corpus(arguments.text("--text"), *loaded.tokenizer);
  const compress::Sequences text =
      compress::windows_of({&file, 0, file.size()}, config.context, arguments.integer("--tokens"));
  const model::RankPolicy policy =
      model::calibrate_ranks(*loaded.model, text.tokens, text.ends, options, pool);
  model::ModelConfig calibrated = config;
  calibrated.rank_policy = policy;
  const model::RankScheduler scheduler(
      calibrated, {.policy = {policy.signal}, .mean = {}, .alpha = {}, .hysteresis = {}});
  const train::Evaluation e = loss_under_policy(*loaded.model, scheduler, text, pool);
  model::save_rank_policy(folder, policy, calibrated);
  record_start(folder, "calibrate", {{"text", file.text_sha256()}, {"tokens", std::to_string(text.rows())}},
               model::decisions(policy, calibrated));
  record_made(folder, measured_facts(e));
  write_model_card(folder, name_of(folder), calibrated);
  streams.out << fmt::format("Calibrated on {} tokens: {}\n{:.4f} nats/token on them; stored in {}\n",
                             text.rows(), ranks_text(scheduler, e.ranks), e.nats_per_token,
                             (std::filesystem::path(folder) / "config.json").string());
}

}  // namespace

extern const Command kCalibrateCommand;
const Command kCalibrateCommand{
    .name = "calibrate",
    .summary = "Fit the ranks' policy of a model with nested levels to a text",
    .details =
        "Measures how a signal of each token is distributed in each layer over a text (a learned gate is "
        "trained on it first) and solves for the thresholds between levels that give the mean rank asked "
        "for. "
        "config.json of the model folder then holds them, and --rank-policy of eval and generate uses them. "
        "qtf compress and qtf train do it for the models with levels that they make.",
    .example = {.call = "qtf calibrate book-small --text book.txt --mean-rank 0.5"},
    .options =
        {{.name = "MODEL", .help = "a model folder with nested levels", .required = true},
         {.name = "--text", .value = "FILE", .help = "a text file or a folder of them", .required = true},
         {.name = "--signal",
          .value = "NAME",
          .help = "what picks the levels: entropy, gate, output, surprise or circuit (docs/adaptive.md); "
                  "without it the usual one"},
         {.name = "--tokens",
          .type = ValueType::integer,
          .value = "N",
          .initial = "16k",
          .help = "tokens of it to use, in windows evenly spaced",
          .min = 2},
         {.name = "--mean-rank",
          .type = ValueType::number,
          .value = "M",
          .initial = "0.5",
          .help = "mean rank that is the model's own from now on, a share above 0 and below 1 of the "
                  "range between the levels' ranks"},
         {.name = "--alpha",
          .type = ValueType::number,
          .value = "A",
          .help = "how steeply ranks rise with the signal: the smaller, the fewer levels are mixed; 0: over "
                  "all of them; without it 1 for the gate and 0.1 for the others",
          .min = 0,
          .max = 1000},
         {.name = "--hysteresis",
          .type = ValueType::number,
          .value = "X",
          .initial = "0",
          .help = "how far beyond a threshold a token must be to leave the level of the one before, a "
                  "share of the text's tokens",
          .min = 0,
          .max = 1},
         threads_option()},
    .run = run_calibrate,
};

}  // namespace qtf::cli
