#include "qtf/model/execution_plan.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "qtf/base/error.h"
#include "qtf/model/inference.h"
#include "qtf/nn/decode.h"

namespace qtf::model {

namespace {

using Clock = std::chrono::steady_clock;

/// Timed maps: numbers in linear_maps() order.
std::vector<size_t> timed_maps(const Transformer<float>& model) {
  std::vector<size_t> maps;
  for (size_t m = 0; m < model.layout().maps.size(); ++m) {
    const MapParameters& map = model.layout().maps[m];
    const bool looked_up = map.spec.part == MapPart::embedding && !model.config().tied;
    if (map.shape.kind != tt::ShapeKind::dense && !tt::is_rebuilt(map.shape) && !looked_up) maps.push_back(m);
  }
  return maps;
}

/// Median and half the distance of the quartiles.
adapt::MeasuredTime summarise(std::vector<int64_t> ns) {
  std::sort(ns.begin(), ns.end());
  const size_t n = ns.size();
  return {std::max<int64_t>(1, ns[n / 2]), (ns[n * 3 / 4] - ns[n / 4]) / 2};
}

/// Passes of a team through some maps of a model, each timed alone.
class MapTimer {
 public:
  MapTimer(const Transformer<float>& model, const std::vector<size_t>& maps, ThreadPool& pool)
      : model_(model), maps_(maps), team_(pool), arenas_(static_cast<size_t>(pool.size())) {
    constexpr int64_t kMostTokens = adapt::kTimedTokens.back();
    int64_t in = 0, out = 0, shared = 0;
    for (const size_t m : maps) {
      in = std::max(in, map(m).in()), out = std::max(out, map(m).out());
      shared = std::max(shared, map(m).map->shared_size(kFewRows));
    }
    x_.resize(static_cast<size_t>(kMostTokens * in));
    y_.resize(static_cast<size_t>(kMostTokens * out));
    shared_.resize(static_cast<size_t>(shared));
    const Random random{1, 1};
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(random.normal(i));
  }

  /// Nanoseconds of each map.
  std::vector<int64_t> pass(const Transformer<float>& model, int level, int64_t tokens) {
    std::vector<int64_t> ns;
    team_.run([&](TeamMember& member) {
      Arena& scratch = arenas_[static_cast<size_t>(member.index())];
      for (const size_t m : maps_) {
        const nn::Linear<float>& linear = *model.linears()[m];
        member.barrier();
        const auto start = Clock::now();
        run(linear, level, tokens, member, scratch);
        member.barrier();
        if (member.index() == 0)
          ns.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
      }
    });
    return ns;
  }

 private:
  const nn::Linear<float>& map(size_t m) const { return *model_.linears()[m]; }

  void run(const nn::Linear<float>& linear, int level, int64_t tokens, TeamMember& member, Arena& scratch) {
    const ConstMatrix<float> x(x_.data(), tokens, linear.in());
    const Matrix<float> y(y_.data(), tokens, linear.out());
    if (tokens <= kFewRows)
      return nn::linear_columns<float>(linear, x, y, level, member, shared_.data(), scratch);
    const Range rows = member.part(tokens);
    nn::linear_forward<float>(linear, x.row_block(rows.begin, rows.size()),
                              y.row_block(rows.begin, rows.size()), nullptr, level, scratch);
  }

  const Transformer<float>& model_;
  const std::vector<size_t>& maps_;
  Team team_;
  std::vector<Arena> arenas_;
  AlignedVector<float> x_, y_, shared_;
};

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
        question.factors[t] = summarise(times[t][static_cast<size_t>(level) - 1][i]);
        question.merged[t] = summarise(times[t].back()[i]);
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

std::string decisions(const ExecutionPlan& plan) {
  std::string lines;
  for (const adapt::ExecutionChoice& choice : plan.choices) lines += adapt::to_json(choice).dump() + "\n";
  return lines;
}

}  // namespace qtf::model
