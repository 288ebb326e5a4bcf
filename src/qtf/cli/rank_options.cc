#include "qtf/cli/rank_options.h"

#include <fmt/format.h>

#include <cmath>

#include "qtf/model/config.h"

namespace qtf::cli {

namespace {

constexpr auto kShareUnit = static_cast<double>(adapt::kUnit);

double as_share(int64_t units) {
  return static_cast<double>(units) / kShareUnit;
}

}  // namespace

Option rank_policy_option() {
  return {.name = "--rank-policy",
          .value = "NAME",
          .help =
              "what picks each token's level after attention: entropy, gate, output, surprise or circuit, "
              "which the model is calibrated for, random, or fixed:K (docs/adaptive.md)"};
}

Option mean_rank_option() {
  return {.name = "--mean-rank",
          .type = ValueType::number,
          .value = "M",
          .help =
              "mean rank of the policy, a share above 0 and below 1 of the range between the levels' ranks; "
              "without it the model's own"};
}

Option alpha_option() {
  return {.name = "--alpha",
          .type = ValueType::number,
          .value = "A",
          .help =
              "how steeply ranks rise with the signal: the smaller, the fewer levels are mixed; 0: over all "
              "of them; without it the model's own",
          .min = 0,
          .max = 1000};
}

Option hysteresis_option() {
  return {.name = "--hysteresis",
          .type = ValueType::number,
          .value = "X",
          .help =
              "how far beyond a threshold a token must be to leave the level of the one before, a share of "
              "the text's tokens; without it the model's own",
          .min = 0,
          .max = 1};
}

Option rank_seed_option() {
  return {.name = "--rank-seed",
          .type = ValueType::integer,
          .value = "N",
          .initial = "1",
          .help = "of the policy random",
          .min = 0};
}

int64_t read_share(const Arguments& arguments, std::string_view option) {
  const double share = arguments.number(option);
  const int64_t units = std::llround(share * kShareUnit);
  if (units <= 0 || units >= adapt::kUnit)
    throw_input_error(option, "expected a share above 0 and below 1, got {}", share);
  return units;
}

int64_t read_alpha(const Arguments& arguments) {
  return std::llround(arguments.number("--alpha") * kShareUnit);
}

std::unique_ptr<model::RankScheduler> read_rank_scheduler(const Arguments& arguments,
                                                          const model::ModelConfig& config) {
  const bool named = arguments.given("--rank-policy");
  const bool numbers =
      arguments.given("--mean-rank") || arguments.given("--alpha") || arguments.given("--hysteresis");
  if (!named && !numbers) {
    if (arguments.given("--rank-seed")) throw UsageError("--rank-seed is for --rank-policy random; add it");
    return nullptr;
  }
  model::RankOptions options;
  options.policy = model::own_policy(config);
  const int levels = model::level_count(config);
  if (named && levels > 1) options.policy = adapt::parse_rank_policy(arguments.text("--rank-policy"), levels);
  if (options.policy.signal == adapt::RankSignal::fixed && numbers)
    throw UsageError("--rank-policy fixed:K has one level; leave --mean-rank, --alpha and --hysteresis out");
  if (arguments.given("--rank-seed") && options.policy.signal != adapt::RankSignal::random)
    throw UsageError("--rank-seed is for --rank-policy random; leave it out");
  if (arguments.given("--mean-rank")) options.mean = read_share(arguments, "--mean-rank");
  if (arguments.given("--alpha")) options.alpha = read_alpha(arguments);
  if (arguments.given("--hysteresis"))
    options.hysteresis = std::llround(arguments.number("--hysteresis") * kShareUnit);
  options.seed = static_cast<uint64_t>(arguments.integer("--rank-seed"));
  return std::make_unique<model::RankScheduler>(config, options);
}

std::string ranks_text(const model::RankScheduler& scheduler, const model::RankMix& mix) {
  std::string asked;
  if (scheduler.options().policy.signal != adapt::RankSignal::fixed)
    asked = fmt::format(" (asked {:.3f})", as_share(scheduler.mean()));
  std::string shares;
  for (int level = 1; level <= scheduler.levels(); ++level)
    shares += fmt::format("{}{:.1f}", level > 1 ? ", " : "", 100 * mix.share(level));
  return fmt::format("{}, mean rank {:.3f} of the range{}; levels 1 to {}: {} % of the tokens",
                     model::policy_name(scheduler.options().policy), mix.mean_rank(scheduler), asked,
                     scheduler.levels(), shares);
}

}  // namespace qtf::cli
