#include "qtf/adapt/energy.h"

#include <charconv>
#include <cmath>

#include "qtf/adapt/power_model.h"
#include "qtf/adapt/powercap.h"
#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::adapt {

std::string_view tier_name(EnergyTier tier) {
  return tier == EnergyTier::measured ? "measured" : "modelled";
}

double carbon_grams(double joules, double grams_per_kwh) {
  constexpr double kJoulesPerKwh = 3.6e6;
  if (!(grams_per_kwh > 0) || !std::isfinite(grams_per_kwh))
    throw_input_error("carbon", "the grid's intensity must be above 0 g/kWh, got {}", grams_per_kwh);
  return joules / kJoulesPerKwh * grams_per_kwh;
}

const std::vector<MeterInfo>& meters() {
  static const std::vector<MeterInfo> table{
      {.name = "rapl",
       .tier = EnergyTier::measured,
       .summary = "the processor's own counters of packages and memory, by Linux' powercap",
       .open = open_powercap},
      {.name = "model",
       .tier = EnergyTier::modelled,
       .summary =
           "watts of a busy core, given or known of the processor, times the time that cores were busy",
       .open = open_power_model},
  };
  return table;
}

std::unique_ptr<EnergyMeter> open_meter(std::string_view name, const MeterOptions& options) {
  std::vector<std::string_view> names{"auto"};
  for (const MeterInfo& meter : meters()) {
    if (meter.name == name) return meter.open(options);
    names.push_back(meter.name);
  }
  if (name != "auto")
    throw_input_error("energy", "unknown meter '{}'{}; there are {}", name, did_you_mean(name, names),
                      fmt::join(names, ", "));
  if (options.watts) return open_power_model(options);
  std::string reasons;
  for (const MeterInfo& meter : meters()) {
    try {
      return meter.open(options);
    } catch (const InputError& error) {
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", meter.name, error.what());
    }
  }
  throw_input_error("energy", "nothing measures energy here: {}", reasons);
}

namespace {

/// The number that is the whole of `text`; NaN if it is none.
double whole_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? value : std::nan("");
}

}  // namespace

Watts parse_watts(std::string_view text, std::string_view place) {
  constexpr double kUnknown = 0.2;
  std::string_view number = text;
  if (number.ends_with('W')) number.remove_suffix(1);
  const size_t dots = number.find("..");
  Watts watts;
  if (dots == std::string_view::npos) {
    watts.value = whole_number(number);
    watts.low = watts.value * (1 - kUnknown), watts.high = watts.value * (1 + kUnknown);
  } else {
    watts.low = whole_number(number.substr(0, dots)), watts.high = whole_number(number.substr(dots + 2));
    watts.value = (watts.low + watts.high) / 2;
  }
  if (!(watts.low > 0 && watts.low <= watts.high && std::isfinite(watts.high)))
    throw_input_error(place, "expected watts above 0 such as 15 or 12..18, got '{}'", text);
  return watts;
}

}  // namespace qtf::adapt
