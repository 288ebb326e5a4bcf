// Where joules come from: one table of meters. A counter of the processor where one is readable, else a model
// from watts; beside every figure its tier and an interval. What cannot be measured is an error, never 0.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/machine.h"

namespace qtf::adapt {

enum class EnergyTier {
  measured,  ///< by a counter
  modelled,  ///< watts × busy time
};

std::string_view tier_name(EnergyTier tier);

/// Watts, with the bounds that they lie within.
struct Watts {
  double value = 0, low = 0, high = 0;
  bool operator==(const Watts&) const = default;
};

/// Energy of a span of time, or, scaled, of a part of it.
struct Energy {
  double joules = 0;
  double low = 0, high = 0;  ///< the interval (docs/budgets.md says what it means for each tier)
  EnergyTier tier = EnergyTier::modelled;

  Energy scaled(double factor) const { return {joules * factor, low * factor, high * factor, tier}; }
  bool operator==(const Energy&) const = default;
};

/// Grams of CO2 for an energy, at a stated intensity of the grid in grams a kWh. Throws InputError for an
/// intensity that is not positive and finite.
double carbon_grams(double joules, double grams_per_kwh);

/// Measures spans of time, one after another. Not thread-safe.
class EnergyMeter {
 public:
  virtual ~EnergyMeter() = default;
  virtual std::string_view name() const = 0;
  virtual EnergyTier tier() const = 0;
  /// What is measured, in words: the domains read, or the watts and where they are from.
  virtual std::string describe() const = 0;
  virtual void start() = 0;
  /// What start() began. Throws IoError if a counter cannot be read any more or the span was too long to
  /// tell how often it wrapped; InputError if it was shorter than the meter resolves.
  virtual Energy stop() = 0;
};

/// What meters are opened with.
struct MeterOptions {
  std::filesystem::path powercap = "/sys/class/powercap";
  Machine machine = this_machine();
  /// Of the whole program with all threads busy, as `--watts` gives it.
  std::optional<Watts> watts;
  int threads = 1;  ///< that the program runs on
};

/// A row of the table.
struct MeterInfo {
  std::string_view name;
  EnergyTier tier;
  std::string_view summary;
  /// Throws InputError, saying why, where it cannot be had.
  std::unique_ptr<EnergyMeter> (*open)(const MeterOptions&);
};

/// The better first.
const std::vector<MeterInfo>& meters();

/// A meter by name; "auto" is the first of the table that can be opened, "model" if watts are given. Throws
/// InputError with every meter's reason if there is none, or for an unknown name.
std::unique_ptr<EnergyMeter> open_meter(std::string_view name, const MeterOptions& options);

/// "15" (±20 %, as no more is known of it), "12..18" (the middle, within these bounds), in watts. Throws
/// InputError for other texts and for what is not positive and finite.
Watts parse_watts(std::string_view text, std::string_view place);

/// Watts of one busy core, of processors that are known, and from where.
struct KnownPower {
  std::string_view processor;  ///< begins its name
  Watts core;
  std::string_view source;
};

/// Of names that begin alike the longer first.
const std::vector<KnownPower>& known_powers();

}  // namespace qtf::adapt
