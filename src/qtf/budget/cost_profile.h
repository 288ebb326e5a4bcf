// What a model's maps cost on this machine at each rank and token count (`qtf profile`), and the file that
// keeps it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "qtf/adapt/cost_table.h"
#include "qtf/adapt/energy.h"
#include "qtf/base/machine.h"
#include "qtf/budget/steady.h"
#include "qtf/model/transformer.h"

namespace qtf::budget {

/// What times depend on beside the model.
struct MeasuredOn {
  Machine machine;
  std::string instructions;  ///< the kernels' instruction set
  int threads = 1;
  bool operator==(const MeasuredOn&) const = default;
};

/// This machine with so many threads.
MeasuredOn measured_here(int threads);

struct EnergySource {
  adapt::EnergyTier tier = adapt::EnergyTier::modelled;
  std::string meter;  ///< in words
  /// The interval's ends beside the joules, in 1e-6 of them.
  int64_t low_ppm = 0, high_ppm = 0;
  bool operator==(const EnergySource&) const = default;
};

struct CostProfile {
  MeasuredOn measured_on;
  std::string model_hash;
  int64_t reference_ns = 0;  ///< all times are scaled to the speed at which the reference took this
  int64_t repeated = 0, unsteady = 0;
  EnergySource energy;
  adapt::CostTable table;
  bool operator==(const CostProfile&) const = default;
};

struct CostProfileOptions {
  int rounds = 7;  ///< of each form of the model and token count
  int ranks = 12;  ///< measured of each map, from 1 to the largest that stores fewer numbers than dense
  SteadyOptions steady;
  std::function<void(double share, const std::string& what)> progress = [](double, const std::string&) {};
};

/// The largest rank at which a chain with a fixed gauge stores fewer numbers than the dense map; 0: none
/// does.
int64_t largest_rank(int64_t out, int64_t in);

/// Whether a shape is cut to smaller ranks by a budget: dense, and a chain with one mode a side. Others stay.
bool is_cut(const tt::WeightShape& shape);

/// Times every map of such a model, dense and as chains with a fixed gauge, and those that stay as they are.
/// Weights are random: times do not depend on them. model_hash is left empty.
CostProfile measure_profile(const model::ModelConfig& config, ThreadPool& pool, adapt::EnergyMeter& meter,
                            const CostProfileOptions& options = {});

std::string profile_text(const CostProfile& profile);

/// Reads profile_text's. Throws IoError for what is no profile, naming the place.
CostProfile parse_profile(std::string_view text, const std::string& place);

/// Throws InputError, saying what differs, unless the profile is of this machine and this model.
void check_profile(const CostProfile& profile, const MeasuredOn& here, const std::string& model_hash,
                   const std::string& place);

/// Where a profile is kept: in the user's cache (base/file.h), a name by machine and model.
std::filesystem::path profile_path(const MeasuredOn& here, const std::string& model_hash);

}  // namespace qtf::budget
