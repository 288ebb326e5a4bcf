#include "qtf/cli/measured_costs.h"

#include <cmath>
#include <optional>

#include "qtf/base/file.h"
#include "qtf/base/progress.h"

namespace qtf::cli {

namespace fs = std::filesystem;

std::vector<Option> with_measuring_options(std::vector<Option> own) {
  const std::vector<Option> shared{
      {.name = "--profile",
       .value = "FILE",
       .help = "the profile to use or to write, instead of the one in the cache"},
      {.name = "--fresh", .type = ValueType::flag, .help = "measure again, and replace what was kept"},
      {.name = "--rounds",
       .type = ValueType::integer,
       .value = "N",
       .initial = "7",
       .help = "times that each rank and token count is measured",
       .min = 1,
       .max = 1000},
      {.name = "--ranks",
       .type = ValueType::integer,
       .value = "N",
       .initial = "12",
       .help = "ranks measured of each map; between them times are interpolated",
       .min = 2,
       .max = 100},
      energy_option(),
      watts_option(),
      grid_intensity_option(),
      threads_option(),
      {.name = "--quiet", .type = ValueType::flag, .help = "no progress bar"},
      {.name = "--json", .type = ValueType::flag, .help = "print one JSON object"}};
  own.insert(own.end(), shared.begin(), shared.end());
  return own;
}

namespace {

/// Whether the meter that is asked for would give the same joules as the profile's.
bool same_meter(const budget::CostProfile& profile, const adapt::EnergyMeter& meter) {
  return profile.energy.meter == meter.describe();
}

}  // namespace

KeptProfile find_profile(const Arguments& arguments, const model::ModelConfig& config,
                         const std::string& model_hash, ThreadPool& pool, adapt::EnergyMeter& meter) {
  const budget::MeasuredOn here = budget::measured_here(pool.size());
  KeptProfile kept;
  const bool named = arguments.given("--profile");
  kept.file = named ? fs::path(arguments.text("--profile")) : budget::profile_path(here, model_hash);
  if (fs::exists(kept.file) && !arguments.flag("--fresh")) {
    kept.profile = budget::parse_profile(read_file(kept.file), kept.file.string());
    budget::check_profile(kept.profile, here, model_hash, kept.file.string());
    if (same_meter(kept.profile, meter)) return kept;
    if (named)
      throw_input_error("profile",
                        "{} has joules by {}, asked for are those by {}; measure again with --fresh",
                        kept.file.string(), kept.profile.energy.meter, meter.describe());
  }
  std::optional<Progress> progress;
  if (!arguments.flag("--quiet")) progress.emplace("profile", 1000);
  budget::CostProfileOptions options;
  options.rounds = static_cast<int>(arguments.integer("--rounds"));
  options.ranks = static_cast<int>(arguments.integer("--ranks"));
  options.progress = [&](double share, const std::string& what) {
    if (progress) progress->update(std::llround(1000 * share), what);
  };
  kept.profile = budget::measure_profile(config, pool, meter, options);
  kept.profile.model_hash = model_hash;
  kept.measured_now = true;
  std::error_code error;
  if (kept.file.has_parent_path()) fs::create_directories(kept.file.parent_path(), error);
  if (error)
    throw_io_error("profile", "cannot make the folder {}: {}; name a --profile FILE",
                   kept.file.parent_path().string(), error.message());
  write_file_atomically(kept.file, budget::profile_text(kept.profile));
  if (progress) progress->update(1000, "done");
  return kept;
}

}  // namespace qtf::cli
