// What `qtf profile` and `qtf budget` share: the meter that they are told to use, and the profile of a model,
// kept in the user's cache.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qtf/budget/cost_profile.h"
#include "qtf/cli/command.h"
#include "qtf/cli/energy_options.h"

namespace qtf::cli {

/// The options that both take, from --profile to --json, after a command's own.
std::vector<Option> with_measuring_options(std::vector<Option> own);

struct KeptProfile {
  budget::CostProfile profile;
  std::filesystem::path file;
  bool measured_now = false;
};

/// From --profile FILE, or the cache, or measured now (also with --fresh) and then kept there. Throws
/// InputError for a file of another machine or model.
KeptProfile find_profile(const Arguments& arguments, const model::ModelConfig& config,
                         const std::string& model_hash, ThreadPool& pool, adapt::EnergyMeter& meter);

}  // namespace qtf::cli
