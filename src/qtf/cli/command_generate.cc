#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <ostream>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/quantity.h"
#include "qtf/cli/energy_options.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/profile_table.h"
#include "qtf/cli/rank_options.h"
#include "qtf/cli/run_records.h"
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

/// The scheduler that the options ask for; a budget alone means the model's own policy.
std::unique_ptr<model::RankScheduler> read_scheduler(const Arguments& arguments,
                                                     const model::ModelConfig& config) {
  auto scheduler = read_rank_scheduler(arguments, config);
  for (const char* budget : {"--max-latency-ms", "--max-energy-per-query"}) {
    if (!arguments.given(budget)) continue;
    if (!scheduler) {
      model::RankOptions own;
      own.policy = model::own_policy(config);
      scheduler = std::make_unique<model::RankScheduler>(config, own);
    }
    if (scheduler->options().policy.signal == adapt::RankSignal::fixed)
      throw UsageError(
          fmt::format("{} lowers a policy's mean rank, and fixed:K has none; leave one out", budget));
  }
  return scheduler;
}

void read_budgets(const Arguments& arguments, model::GenerateOptions& options) {
  if (arguments.given("--max-latency-ms"))
    options.token_budget_ns =
        parse_quantity(arguments.text("--max-latency-ms"), Quantity::duration, "--max-latency-ms");
  if (arguments.given("--max-energy-per-query"))
    options.energy_budget_nj =
        parse_quantity(arguments.text("--max-energy-per-query"), Quantity::energy, "--max-energy-per-query");
  if (arguments.given("--decisions") && options.token_budget_ns == 0 && options.energy_budget_nj == 0)
    throw UsageError(
        "--decisions records what --max-latency-ms or --max-energy-per-query decides; add one of them");
}

/// The meter of a run whose energy is limited or told of; null where none is asked for. With --stats alone
/// a machine without a meter has none, and `why` says so.
std::unique_ptr<adapt::EnergyMeter> run_meter(const Arguments& arguments, int threads, std::string& why) {
  const bool asked = arguments.given("--max-energy-per-query") || arguments.given("--grid-intensity") ||
                     arguments.given("--energy") || arguments.given("--watts");
  if (asked) return open_meter(arguments, threads);
  if (!arguments.flag("--stats")) return nullptr;
  try {
    return open_meter(arguments, threads);
  } catch (const InputError& error) {
    why = error.what();
    return nullptr;
  }
}

/// What the budgets came to, and the record of the mean rank's changes.
void tell_budgets(const Arguments& arguments, const model::GenerateOptions& options,
                  const model::Generation& result, std::ostream& err) {
  std::string lines;
  bool too_slow = false, too_much = false;
  for (const adapt::LatencyDecision& decision : result.latency) {
    lines += to_json(decision).dump() + "\n";
    (decision.question.budget_of == adapt::RunBudget::time ? too_slow : too_much) = decision.too_slow;
  }
  if (arguments.given("--decisions")) write_file_atomically(arguments.text("--decisions"), lines);
  if (too_slow)
    err << fmt::format("The smallest ranks take longer than {} a token on this machine\n",
                       format_quantity(options.token_budget_ns, Quantity::duration));
  if (options.energy_budget_nj > 0 && !result.energy)
    throw_input_error("--max-energy-per-query", "the run was shorter than its energy can be measured");
  const bool over = options.energy_budget_nj > 0 &&
                    1e9 * result.energy->joules > static_cast<double>(options.energy_budget_nj);
  if (over)
    err << fmt::format(
        "The query took more than {}{}: {}\n", format_quantity(options.energy_budget_nj, Quantity::energy),
        too_much ? ", with the smallest ranks at its end" : "", energy_text(*result.energy, {}));
  if (arguments.flag("--stats") && options.token_budget_ns > 0)
    err << fmt::format(
        "latency: {:.3f} ms a token\n",
        1e3 * result.decode_seconds / static_cast<double>(std::max<size_t>(1, result.tokens.size())));
  if (arguments.flag("--stats") && (options.token_budget_ns > 0 || options.energy_budget_nj > 0))
    err << fmt::format("budgets: {} changes of the mean rank\n", result.latency.size());
}

void run_generate(const Arguments& arguments, const Streams& streams) {
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel loaded = open_model(arguments.text("MODEL"), "generate");
  model::GenerateOptions options = read_options(arguments, loaded.model->config());
  const auto scheduler = read_scheduler(arguments, loaded.model->config());
  options.scheduler = scheduler.get();
  read_budgets(arguments, options);
  const auto intensity = read_grid_intensity(arguments);
  std::string no_meter;
  const auto meter = run_meter(arguments, pool.size(), no_meter);
  options.meter = meter.get();
  const auto recorder = RunRecorder::make(arguments, "generate");
  const std::string prompt = arguments.text("--prompt");
  if (recorder) {
    const bool has_quantum_layer = loaded.model->quantum() != nullptr;
    recorder->start(loaded.tokenizer->encode(prompt), prompt, nlohmann::json::object());
    options.before_forgetting = [&recorder, has_quantum_layer,
                                 layers = loaded.model->config().layers](const nn::KvCache<float>& cache) {
      recorder->generated(cache, layers, has_quantum_layer);
    };
  }
  loaded.model->prepare(tt::Use::inference, pool);
  set_cache_type(arguments.text("--cache-dtype"), *loaded.model);
  const auto stream = [&](std::string_view piece) { streams.out << piece << std::flush; };
  std::optional<Profile> profile;
  if (arguments.flag("--profile")) profile.emplace(pool);
  const model::Generation result =
      model::generate(*loaded.model, *loaded.tokenizer, prompt, options, stream, &pool);
  for (const adapt::LatencyDecision& decision : result.latency)
    if (recorder) recorder->decided(adapt::record(decision));
  if (recorder) recorder->end(result.tokens, result.text, nlohmann::json::object());
  streams.out << "\n";
  if (profile) streams.err << measured_profile(profile, pool);
  tell_budgets(arguments, options, result, streams.err);
  const auto tell_energy = [&] {
    if (result.energy)
      streams.err << fmt::format("energy: {}\n", energy_text(*result.energy, intensity));
    else if (!no_meter.empty())
      streams.err << fmt::format("energy: not known: {}\n", no_meter);
  };
  if (!arguments.flag("--stats")) {
    if (intensity) tell_energy();
    return;
  }
  streams.err << fmt::format("prompt {} tokens in {:.1f} ms, {} tokens at {:.0f} tokens/s\n",
                             result.prompt_tokens, 1e3 * result.prompt_seconds, result.tokens.size(),
                             static_cast<double>(result.tokens.size()) / result.decode_seconds);
  tell_energy();
  if (!recorder) streams.err << "unrecorded (--audit FILE records the decisions)\n";
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
    .options =
        {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
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
         level_option(),
         cache_dtype_option(),
         rank_policy_option(),
         mean_rank_option(),
         alpha_option(),
         hysteresis_option(),
         rank_seed_option(),
         {.name = "--max-latency-ms",
          .value = "X",
          .help = "time that a token may take, in ms or such as 5ms: the policy's mean rank falls where "
                  "it takes longer (the text then depends on the machine)"},
         {.name = "--max-energy-per-query",
          .value = "J",
          .help = "energy that the prompt and all --tokens may take, in J or such as 300mJ: the mean "
                  "rank falls where what is left would not last"},
         {.name = "--decisions",
          .value = "FILE",
          .help = "write a JSON line for each change of the mean rank by these budgets, with what it "
                  "follows from"},
         energy_option(),
         watts_option(),
         grid_intensity_option(),
         audit_file_option(),
         audit_level_option(),
         record_text_option(),
         threads_option("0: all cores; the text does not depend on it"),
         {.name = "--profile",
          .type = ValueType::flag,
          .help = "print on standard error where the time goes"},
         {.name = "--stats",
          .type = ValueType::flag,
          .help =
              "print speeds, the energy, and the shares of routed tokens and of levels, on standard error"}},
    .run = run_generate,
};

}  // namespace qtf::cli
