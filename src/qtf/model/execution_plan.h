// The execution plan of a model: which maps run as their factors and which as the merged matrix, decided from
// times measured on this machine. `qtf compress` makes it and stores it; loading a model only follows it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "qtf/adapt/execution.h"
#include "qtf/audit/decision.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

struct TimingOptions {
  int rounds = 7;  ///< times of each form, taken in turn
};

/// Times every map that has a shape, each level of it, and its dense matrix, at adapt::kTimedTokens, as
/// inference runs them: few tokens by a team's columns, many by rows. A round passes through all maps of one
/// form before those of the next, so that weights come from where they would in use. dense: a model of the
/// same sizes without shapes. Both are prepared for inference, `model` without a plan. Maps that are only
/// looked up (the embedding of an untied model) and those rebuilt in any case are left out.
std::vector<adapt::ExecutionQuestion> time_maps(const Transformer<float>& model,
                                                const Transformer<float>& dense, ThreadPool& pool,
                                                const TimingOptions& options = {});

struct ExecutionPlan {
  std::map<std::string, std::vector<int>> merged;  ///< for Transformer::set_plan
  std::vector<adapt::ExecutionChoice> choices;     ///< one for each map's level
};

/// The decision for each question.
ExecutionPlan plan_execution(const std::vector<adapt::ExecutionQuestion>& questions);

/// As they are recorded.
audit::DecisionList decisions(const ExecutionPlan& plan);

}  // namespace qtf::model
