// --rank-policy and the options beside it, of every command that runs a model, and how reports tell of it.
#pragma once

#include <memory>
#include <string>

#include "qtf/cli/command.h"
#include "qtf/model/rank_mix.h"

namespace qtf::cli {

Option rank_policy_option();
Option mean_rank_option();
Option alpha_option();
Option hysteresis_option();
Option rank_seed_option();

/// A share above 0 and below 1 of an option, in 1e-9. Throws InputError for others.
int64_t read_share(const Arguments& arguments, std::string_view option);

/// The slope in 1e-9.
int64_t read_alpha(const Arguments& arguments);

/// The scheduler that the options ask for; null if they ask for none. --mean-rank or --hysteresis alone mean
/// the policy that the model is calibrated for. Throws InputError for what contradicts itself or does not fit
/// the model.
std::unique_ptr<model::RankScheduler> read_rank_scheduler(const Arguments& arguments,
                                                          const model::ModelConfig& config);

/// A policy and the mix that it came to, as one line: "entropy, mean rank 0.498 of the range (asked 0.500);
/// levels 1 to 4: 25.0 …".
std::string ranks_text(const model::RankScheduler& scheduler, const model::RankMix& mix);

}  // namespace qtf::cli
