#include <fmt/format.h>

#include <ostream>

#include "qtf/base/json.h"
#include "qtf/cli/measured_costs.h"
#include "qtf/cli/open_model.h"
#include "qtf/model/model_files.h"

namespace qtf::cli {
namespace {

/// "12.3 ± 0.4" microseconds, or "· 51 µJ" after it.
std::string cost_text(const adapt::MeasuredCost& cost) {
  return fmt::format("{:.1f} ± {:.1f}", 1e-3 * static_cast<double>(cost.time.median_ns),
                     1e-3 * static_cast<double>(cost.time.spread_ns));
}

/// The smallest, a middle and the largest chain, and all that is no chain.
std::vector<const adapt::TimedShape*> shown_shapes(const adapt::MapCosts& map) {
  std::vector<const adapt::TimedShape*> chains, others;
  for (const adapt::TimedShape& shape : map.shapes) (shape.rank > 0 ? chains : others).push_back(&shape);
  std::vector<const adapt::TimedShape*> shown;
  if (!chains.empty()) shown.push_back(chains.front());
  if (chains.size() > 2) shown.push_back(chains[chains.size() / 2]);
  if (chains.size() > 1) shown.push_back(chains.back());
  shown.insert(shown.end(), others.begin(), others.end());
  return shown;
}

void print_profile(const budget::CostProfile& profile, std::ostream& out) {
  out << fmt::format("{:<40} {:<16}", "map, microseconds a pass of", "");
  for (const int64_t tokens : adapt::kTimedTokens)
    out << fmt::format(" {:>17}", fmt::format("{} token{}", tokens, tokens == 1 ? "" : "s"));
  out << fmt::format(" {:>14}\n", "J a 512 tokens");
  for (const adapt::MapCosts& map : profile.table.maps) {
    for (const adapt::TimedShape* shape : shown_shapes(map)) {
      out << fmt::format("{:<40} {:<16}", map.map, shape->shape);
      for (const adapt::MeasuredCost& cost : shape->costs) out << fmt::format(" {:>18}", cost_text(cost));
      out << fmt::format(" {:>14.4g}\n", 1e-9 * static_cast<double>(shape->costs.back().energy_nj));
    }
  }
}

/// Of the model as it is, 512 tokens in one pass.
adapt::Energy energy_of_pass(const budget::CostProfile& profile) {
  int64_t nanojoules = 0;
  for (const adapt::MapCosts& map : profile.table.maps)
    nanojoules += map.shapes.back().costs.back().energy_nj;
  const double joules = 1e-9 * static_cast<double>(nanojoules);
  const auto share = [&](int64_t ppm) { return joules * 1e-6 * static_cast<double>(ppm); };
  return {joules, share(profile.energy.low_ppm), share(profile.energy.high_ppm), profile.energy.tier};
}

void run_profile(const Arguments& arguments, const Streams& streams) {
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const std::string path = arguments.text("MODEL");
  const model::LoadedModel loaded = model::load_model(path);
  const auto intensity = read_grid_intensity(arguments);
  const auto meter = open_meter(arguments, pool.size());
  const KeptProfile kept =
      find_profile(arguments, loaded.model->config(), model::model_hash(path), pool, *meter);
  const budget::CostProfile& profile = kept.profile;
  if (arguments.flag("--json")) {
    auto json = nlohmann::ordered_json::parse(budget::profile_text(profile));
    json["file"] = kept.file.string();
    json["measured_now"] = kept.measured_now;
    if (intensity) json["pass_512"] = energy_json(energy_of_pass(profile), intensity);
    streams.out << json.dump() << "\n";
    return;
  }
  print_profile(profile, streams.out);
  streams.out << fmt::format(
      "{}, {}, {} thread{}; {} runs were repeated for a reference that drifted, {} drifted each time\n",
      describe(profile.measured_on.machine), profile.measured_on.instructions, profile.measured_on.threads,
      profile.measured_on.threads == 1 ? "" : "s", profile.repeated, profile.unsteady);
  streams.out << fmt::format(
      "Joules are {}, {:+.0f} to {:+.0f} %: {}\n", adapt::tier_name(profile.energy.tier),
      1e-4 * static_cast<double>(profile.energy.low_ppm - 1'000'000),
      1e-4 * static_cast<double>(profile.energy.high_ppm - 1'000'000), profile.energy.meter);
  streams.out << fmt::format("A pass of 512 tokens takes {} in these maps, whole\n",
                             energy_text(energy_of_pass(profile), intensity));
  streams.out << fmt::format("{} {}\n", kept.measured_now ? "Kept in" : "Read from", kept.file.string());
}

}  // namespace

extern const Command kProfileCommand;
const Command kProfileCommand{
    .name = "profile",
    .summary = "Measure what every map of a model costs at each rank on this machine",
    .details =
        "Times every linear map, dense and as chains of 12 ranks, for 1, 8, 64 and 512 tokens, with the "
        "energy that it takes, each run between two runs of a fixed product by which times are scaled. "
        "`qtf budget` picks ranks from it. The profile is kept in the user's cache by machine and model "
        "(docs/budgets.md).",
    .example = {.call = "qtf profile book-model"},
    .options = with_measuring_options(
        {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true}}),
    .run = run_profile,
};

}  // namespace qtf::cli
