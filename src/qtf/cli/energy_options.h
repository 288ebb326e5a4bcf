// --energy, --watts and --grid-intensity, of every command that reports joules, and how reports tell of them:
// always with the tier and the interval.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "qtf/adapt/energy.h"
#include "qtf/cli/command.h"

namespace qtf::cli {

Option energy_option();
Option watts_option();
Option grid_intensity_option();

/// The meter by --energy and --watts. Throws like adapt::open_meter.
std::unique_ptr<adapt::EnergyMeter> open_meter(const Arguments& arguments, int threads);

/// Grams of CO2 a kWh by --grid-intensity ("400", "400g/kWh", "400gCO2/kWh"); none without it. Throws
/// InputError for what is not positive and finite, and for another unit.
std::optional<double> read_grid_intensity(const Arguments& arguments);

/// "0.31 J modelled (within 0.2 to 0.5)", and with an intensity "; 0.034 mg CO2 (0.022 to 0.056) at 400
/// g/kWh".
std::string energy_text(const adapt::Energy& energy, std::optional<double> grams_per_kwh);

/// joules, energy_tier, energy_interval; with an intensity also carbon_g, carbon_interval and grid_intensity.
nlohmann::ordered_json energy_json(const adapt::Energy& energy, std::optional<double> grams_per_kwh);

}  // namespace qtf::cli
