// What budget/'s tests share: a small model and a meter that needs no counters.
#pragma once

#include <memory>

#include "qtf/adapt/energy.h"
#include "qtf/budget/cost_profile.h"
#include "qtf/budget/query_timer.h"

namespace qtf::budget {

/// 2 layers of width 32, all dense.
inline model::ModelConfig small_budget_config() {
  model::ModelConfig config;
  config.vocabulary = 300, config.width = 32, config.layers = 2, config.heads = 4, config.kv_heads = 2;
  config.feed_forward = 48, config.context = 48;
  return config;
}

inline std::unique_ptr<adapt::EnergyMeter> test_meter() {
  adapt::MeterOptions options;
  options.watts = adapt::Watts{10, 8, 12};
  return adapt::open_meter("model", options);
}

/// Quick, and content with a busy machine.
inline CostProfileOptions quick_profile() {
  CostProfileOptions options;
  options.rounds = 3, options.ranks = 4;
  options.steady.most_repeats = 0;
  return options;
}

inline QueryTimerOptions quick_query() {
  QueryTimerOptions options;
  options.runs = options.least_runs = 5;
  options.steady.most_repeats = 0;
  return options;
}

}  // namespace qtf::budget
