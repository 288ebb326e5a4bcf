#include "qtf/model/execution_plan.h"

#include <algorithm>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/model/map_timer.h"

namespace qtf::model {

namespace {

/// Timed maps: numbers in linear_maps() order.
std::vector<size_t> timed_maps(const Transformer<float>& model) {
  std::vector<size_t> maps;
  for (const size_t m : maps_run(model)) {
    const tt::WeightShape& shape = model.layout().maps[m].shape;
    if (shape.kind != tt::ShapeKind::dense && !tt::is_rebuilt(shape)) maps.push_back(m);
  }
  return maps;
}

/// [form][map][round] of one token count. Forms 0 … levels - 1 are levels, the last is the dense matrix.
using FormTimes = std::vector<std::vector<std::vector<int64_t>>>;

}  // namespace

std::vector<adapt::ExecutionQuestion> time_maps(const Transformer<float>& model,
                                                const Transformer<float>& dense, ThreadPool& pool,
                                                const TimingOptions& options) {
  QTF_ASSERT(model.config().plan.empty() && dense.config().shapes.empty());
  const std::vector<size_t> maps = timed_maps(model);
  if (maps.empty()) return {};
  MapTimer timer(model, maps, pool);
  const int levels = level_count(model.config());
  std::vector<FormTimes> times;
  for (const int64_t tokens : adapt::kTimedTokens) {
    FormTimes& forms = times.emplace_back(static_cast<size_t>(levels) + 1);
    for (auto& form : forms) form.resize(maps.size());
    for (int round = 0; round <= options.rounds; ++round) {
      for (int form = 0; form <= levels; ++form) {
        const std::vector<int64_t> ns =
            form < levels ? timer.pass(model, form + 1, tokens) : timer.pass(dense, 0, tokens);
        if (round == 0) continue;  // warms up
        for (size_t i = 0; i < maps.size(); ++i) forms[static_cast<size_t>(form)][i].push_back(ns[i]);
      }
    }
  }
  std::vector<adapt::ExecutionQuestion> questions;
  for (size_t i = 0; i < maps.size(); ++i) {
    const MapParameters& map = model.layout().maps[maps[i]];
    for (int level = 1; level <= tt::level_count(map.shape); ++level) {
      adapt::ExecutionQuestion question{map.spec.name, tt::summary(map.shape), level, {}, {}};
      for (size_t t = 0; t < times.size(); ++t) {
        question.factors[t] = adapt::summarise(times[t][static_cast<size_t>(level) - 1][i]);
        question.merged[t] = adapt::summarise(times[t].back()[i]);
      }
      questions.push_back(std::move(question));
    }
  }
  return questions;
}

ExecutionPlan plan_execution(const std::vector<adapt::ExecutionQuestion>& questions) {
  ExecutionPlan plan;
  for (const adapt::ExecutionQuestion& question : questions) {
    plan.choices.push_back(adapt::choose_execution(question));
    if (plan.choices.back().merged) plan.merged[question.map].push_back(question.level);
  }
  return plan;
}

audit::DecisionList decisions(const ExecutionPlan& plan) {
  audit::DecisionList list;
  for (const adapt::ExecutionChoice& choice : plan.choices)
    list.add(adapt::record(choice), adapt::to_json(choice));
  return list;
}

}  // namespace qtf::model
