#include <fmt/format.h>

#include <optional>
#include <ostream>

#include "qtf/cli/open_model.h"
#include "qtf/cli/profile_table.h"
#include "qtf/cli/rank_options.h"
#include "qtf/model/generate.h"

namespace qtf::cli {
namespace {

model::GenerateOptions read_options(const Arguments& arguments, const model::ModelConfig& config) {
  model::GenerateOptions options;
  options.tokens = arguments.integer("--tokens");
  options.sampling.temperature = arguments.number("--temperature");
  options.sampling.top_k = arguments.integer("--top-k");
  options.sampling.top_p = arguments.number("--top-p");
  options.sampling.min_p = arguments.number("--min-p");
  options.sampling.repeat_penalty = arguments.number("--repeat-penalty");
  options.sampling.seed = static_cast<uint64_t>(arguments.integer("--seed"));
  options.stop = arguments.list("--stop");
  options.level = read_level(arguments, config, "generate");
  return options;
}

void run_generate(const Arguments& arguments, const Streams& streams) {
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel loaded = open_model(arguments.text("MODEL"), "generate");
  model::GenerateOptions options = read_options(arguments, loaded.model->config());
  const auto scheduler = read_rank_scheduler(arguments, loaded.model->config());
  options.scheduler = scheduler.get();
  loaded.model->prepare(tt::Use::inference, pool);
  const auto stream = [&](std::string_view piece) { streams.out << piece << std::flush; };
  std::optional<Profile> profile;
  if (arguments.flag("--profile")) profile.emplace(pool);
  const model::Generation result =
      model::generate(*loaded.model, *loaded.tokenizer, arguments.text("--prompt"), options, stream, &pool);
  streams.out << "\n";
  if (profile) streams.err << measured_profile(profile, pool);
  if (!arguments.flag("--stats")) return;
  streams.err << fmt::format("prompt {} tokens in {:.1f} ms, {} tokens at {:.0f} tokens/s\n",
                             result.prompt_tokens, 1e3 * result.prompt_seconds, result.tokens.size(),
                             static_cast<double>(result.tokens.size()) / result.decode_seconds);
  if (scheduler) streams.err << fmt::format("ranks: {}\n", ranks_text(*scheduler, result.ranks));
  if (!loaded.model->quantum()) return;
  streams.err << fmt::format("quantum layer: {} of {} tokens routed ({:.2f} %)\n", result.routed,
                             result.passed,
                             100 * static_cast<double>(result.routed) / static_cast<double>(result.passed));
}

}  // namespace

extern const Command kGenerateCommand;
const Command kGenerateCommand{
    .name = "generate",
    .summary = "Continue a prompt",
    .details =
        "Text is streamed as it is written; the same model, prompt, options and seed give the same tokens. "
        "When "
        "the context is full, the older half is forgotten.",
    .example = {.call = "qtf generate quickstart-out/chain --prompt 'The ' --tokens 60 --seed 1"},
    .options = {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
                {.name = "--prompt", .value = "TEXT", .help = "the text to continue"},
                {.name = "--tokens",
                 .type = ValueType::integer,
                 .value = "N",
                 .initial = "128",
                 .help = "most tokens to write",
                 .min = 1,
                 .max = 1e7},
                {.name = "--temperature",
                 .type = ValueType::number,
                 .value = "X",
                 .initial = "0.8",
                 .help = "0: always the most likely token",
                 .min = 0},
                {.name = "--top-k",
                 .type = ValueType::integer,
                 .value = "K",
                 .initial = "0",
                 .help = "keep the K most likely tokens; 0: all",
                 .min = 0},
                {.name = "--top-p",
                 .type = ValueType::number,
                 .value = "P",
                 .initial = "1",
                 .help = "keep the fewest tokens whose probabilities sum to P",
                 .min = 0,
                 .max = 1},
                {.name = "--min-p",
                 .type = ValueType::number,
                 .value = "P",
                 .initial = "0",
                 .help = "keep tokens of at least P times the largest probability",
                 .min = 0,
                 .max = 1},
                {.name = "--repeat-penalty",
                 .type = ValueType::number,
                 .value = "X",
                 .initial = "1",
                 .help = "make the last 64 tokens less likely; 1: off",
                 .min = 0},
                {.name = "--seed",
                 .type = ValueType::integer,
                 .value = "N",
                 .initial = "0",
                 .help = "of the random draws",
                 .min = 0},
                {.name = "--stop", .value = "TEXT", .help = "end before this text", .repeated = true},
                {.name = "--level",
                 .type = ValueType::integer,
                 .value = "K",
                 .initial = "0",
                 .help = "nested level, 1 the smallest; 0: the largest",
                 .min = 0,
                 .max = 4},
                rank_policy_option(),
                mean_rank_option(),
                alpha_option(),
                hysteresis_option(),
                rank_seed_option(),
                {.name = "--threads",
                 .type = ValueType::integer,
                 .value = "N",
                 .initial = "0",
                 .help = "0: all cores; the text does not depend on it",
                 .min = 0,
                 .max = 1024},
                {.name = "--profile",
                 .type = ValueType::flag,
                 .help = "print on standard error where the time goes"},
                {.name = "--stats",
                 .type = ValueType::flag,
                 .help = "print speeds, and the shares of routed tokens and of levels, on standard error"}},
    .run = run_generate,
};

}  // namespace qtf::cli
