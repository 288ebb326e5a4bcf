#include "qtf/cli/energy_options.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "qtf/base/json.h"

namespace qtf::cli {

Option energy_option() {
  return {
      .name = "--energy",
      .value = "METER",
      .initial = "auto",
      .help = "what measures energy; auto: the processor's counters where they can be read, else the model",
      .choices = {"auto", "rapl", "model"}};
}

Option watts_option() {
  return {.name = "--watts",
          .value = "W",
          .help = "what this machine draws with all threads busy, for the model: 15 or 12..18"};
}

Option grid_intensity_option() {
  return {
      .name = "--grid-intensity",
      .value = "G",
      .help =
          "grams of CO2 that the grid emits a kWh, such as 400gCO2/kWh: energies are told as carbon, too"};
}

std::unique_ptr<adapt::EnergyMeter> open_meter(const Arguments& arguments, int threads) {
  adapt::MeterOptions options;
  options.threads = threads;
  if (arguments.given("--watts")) options.watts = adapt::parse_watts(arguments.text("--watts"), "--watts");
  if (options.watts && arguments.text("--energy") == "rapl")
    throw UsageError("--watts is for the model; leave it out with --energy rapl");
  return adapt::open_meter(arguments.text("--energy"), options);
}

std::optional<double> read_grid_intensity(const Arguments& arguments) {
  if (!arguments.given("--grid-intensity")) return {};
  const std::string text = arguments.text("--grid-intensity");
  char* end = nullptr;
  const double grams = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const bool known = unit.empty() || unit == "g/kWh" || unit == "gCO2/kWh";
  if (end == text.c_str() || !known || !(grams > 0) || !std::isfinite(grams))
    throw_input_error("--grid-intensity",
                      "expected grams of CO2 a kWh above 0, such as 400gCO2/kWh, got '{}'", text);
  return grams;
}

std::string energy_text(const adapt::Energy& energy, std::optional<double> grams_per_kwh) {
  std::string text = fmt::format("{:.4g} J {} (within {:.3g} to {:.3g})", energy.joules,
                                 adapt::tier_name(energy.tier), energy.low, energy.high);
  if (!grams_per_kwh) return text;
  const auto milligrams = [&](double joules) { return 1e3 * adapt::carbon_grams(joules, *grams_per_kwh); };
  return text + fmt::format("; {:.4g} mg CO2 {} (within {:.3g} to {:.3g}) at {:.4g} g/kWh",
                            milligrams(energy.joules), adapt::tier_name(energy.tier), milligrams(energy.low),
                            milligrams(energy.high), *grams_per_kwh);
}

nlohmann::ordered_json energy_json(const adapt::Energy& energy, std::optional<double> grams_per_kwh) {
  nlohmann::ordered_json json{{"joules", energy.joules},
                              {"energy_tier", adapt::tier_name(energy.tier)},
                              {"energy_interval", {energy.low, energy.high}}};
  if (!grams_per_kwh) return json;
  const auto grams = [&](double joules) { return adapt::carbon_grams(joules, *grams_per_kwh); };
  json["carbon_g"] = grams(energy.joules);
  json["carbon_interval"] = {grams(energy.low), grams(energy.high)};
  json["grid_intensity"] = *grams_per_kwh;
  return json;
}

}  // namespace qtf::cli
