#include "qtf/budget/cost_profile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/kernels/targets.h"
#include "qtf/model/map_timer.h"
#include "qtf/tt/gauge.h"

namespace qtf::budget {

namespace {

using adapt::kTimedTokens;

/// A chain as budget/ stores it. Pivots as they may lie: times depend on their number alone.
tt::WeightShape fixed_chain(int64_t out, int64_t in, int64_t rank) {
  tt::WeightShape shape;
  shape.kind = tt::ShapeKind::chain;
  shape.out = out, shape.in = in;
  shape.out_modes = {out}, shape.in_modes = {in};
  shape.ranks = {rank};
  for (int64_t r = 0; r < rank; ++r) shape.pivots.push_back(r * in / rank);
  return shape;
}

/// Ranks of one map to measure, closer at the small end.
std::vector<int64_t> measured_ranks(int64_t out, int64_t in, int count) {
  std::vector<int64_t> ranks;
  const int64_t largest = largest_rank(out, in);
  for (int i = 0; i < count && largest > 0; ++i) {
    const double share = static_cast<double>(i) / std::max(1, count - 1);
    ranks.push_back(1 + std::llround(static_cast<double>(largest - 1) * share * std::sqrt(share)));
  }
  return ranks;
}

/// What one map is in one form of the model.
struct FormShape {
  int64_t rank = 0;
  std::string name;  ///< empty: not measured in this form
};

struct Form {
  model::ModelConfig config;
  std::vector<FormShape> shapes;  ///< a map each, in linear_maps() order
};

Form dense_form(const model::ModelConfig& source) {
  Form form{source, {}};
  form.config.plan.clear();
  form.config.rank_policy.reset();
  model::clear_shapes(form.config);
  for (size_t m = 0; m < model::linear_maps(source).size(); ++m) form.shapes.push_back({0, "dense"});
  return form;
}

Form chain_form(const model::ModelConfig& source, size_t index, int count) {
  Form form = dense_form(source);
  const std::vector<model::MapSpec> maps = model::linear_maps(source);
  for (size_t m = 0; m < maps.size(); ++m) {
    form.shapes[m] = {};
    const std::vector<int64_t> ranks = measured_ranks(maps[m].out, maps[m].in, count);
    if (ranks.empty() || (index > 0 && ranks[index] == ranks[index - 1])) continue;
    const int64_t rank = ranks[index];
    form.config.shapes[maps[m].name] = fixed_chain(maps[m].out, maps[m].in, rank);
    form.shapes[m] = {rank, fmt::format("chain:rank={}", rank)};
  }
  return form;
}

/// Maps that stay as they are; none if there is no such map.
std::optional<Form> kept_form(const model::ModelConfig& source) {
  Form form = dense_form(source);
  for (FormShape& shape : form.shapes) shape = {};
  const std::vector<model::MapSpec> maps = model::linear_maps(source);
  for (size_t m = 0; m < maps.size(); ++m) {
    const tt::WeightShape shape = model::shape_of(source, maps[m]);
    if (is_cut(shape)) continue;
    form.config.shapes[maps[m].name] = shape;
    form.shapes[m] = {0, tt::summary(shape)};
  }
  if (form.config.shapes.empty()) return {};
  return form;
}

std::vector<Form> forms_of(const model::ModelConfig& source, int ranks) {
  std::vector<Form> forms;
  for (int i = 0; i < ranks; ++i) forms.push_back(chain_form(source, static_cast<size_t>(i), ranks));
  forms.push_back(dense_form(source));
  if (auto kept = kept_form(source)) forms.push_back(std::move(*kept));
  return forms;
}

/// Measures form after form into the table of a profile.
class ProfileRun {
 public:
  ProfileRun(const model::ModelConfig& config, ThreadPool& pool, adapt::EnergyMeter& meter,
             const CostProfileOptions& options)
      : pool_(pool),
        meter_(meter),
        options_(options),
        forms_(forms_of(config, options.ranks)),
        runs_(pool, 0, options.steady) {
    for (const model::MapSpec& map : model::linear_maps(config)) {
      const bool head = map.part == model::MapPart::head || map.part == model::MapPart::embedding;
      table_.maps.push_back(
          {map.name, head ? adapt::MapUse::shown_tokens : adapt::MapUse::every_token, map.out, map.in, {}});
    }
  }

  CostProfile run() {
    for (const Form& form : forms_) measure_form(form);
    std::erase_if(table_.maps, [](const adapt::MapCosts& map) { return map.shapes.empty(); });
    CostProfile profile;
    profile.measured_on = measured_here(pool_.size());
    profile.reference_ns = runs_.reference_ns();
    profile.repeated = runs_.repeated(), profile.unsteady = runs_.unsteady();
    profile.energy = {meter_.tier(), meter_.describe(), low_ppm_, high_ppm_};
    profile.table = std::move(table_);
    return profile;
  }

 private:
  void measure_form(const Form& form) {
    model::Transformer<float> model(form.config);
    model.initialise(1);
    model.prepare(tt::Use::inference, pool_);
    const std::vector<size_t> maps = model::maps_run(model);
    model::MapTimer timer(model, maps, pool_);
    std::vector<adapt::TimedShape> rows;
    for (const size_t m : maps) rows.push_back({form.shapes[m].name, form.shapes[m].rank, {}});
    for (size_t t = 0; t < kTimedTokens.size(); ++t) {
      options_.progress(
          static_cast<double>(done_++) / static_cast<double>(forms_.size() * kTimedTokens.size()),
          fmt::format("{} tokens", kTimedTokens[t]));
      measure_tokens(model, timer, t, rows);
    }
    for (size_t i = 0; i < maps.size(); ++i)
      if (!rows[i].shape.empty()) table_.maps[maps[i]].shapes.push_back(std::move(rows[i]));
  }

  void measure_tokens(const model::Transformer<float>& model, model::MapTimer& timer, size_t t,
                      std::vector<adapt::TimedShape>& rows) {
    std::vector<std::vector<int64_t>> times(rows.size());
    timer.pass(model, 0, kTimedTokens[t]);  // warms up
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    meter_.start();
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<int64_t> ns;
      const double scale = runs_.steady([&] { ns = timer.pass(model, 0, kTimedTokens[t]); });
      for (size_t i = 0; i < ns.size(); ++i)
        times[i].push_back(std::llround(static_cast<double>(ns[i]) * scale));
    }
    const adapt::Energy energy = meter_.stop();
    const double watts = energy.joules / std::chrono::duration<double>(Clock::now() - begin).count();
    note_interval(energy);
    for (size_t i = 0; i < rows.size(); ++i) {
      adapt::MeasuredCost& cost = rows[i].costs[t];
      cost.time = adapt::summarise(times[i]);
      cost.energy_nj = std::max<int64_t>(1, std::llround(static_cast<double>(cost.time.median_ns) * watts));
    }
  }

  /// The widest interval of all.
  void note_interval(const adapt::Energy& energy) {
    const auto ppm = [&](double end) { return std::llround(1e6 * end / energy.joules); };
    low_ppm_ = high_ppm_ == 0 ? ppm(energy.low) : std::min<int64_t>(low_ppm_, ppm(energy.low));
    high_ppm_ = std::max<int64_t>(high_ppm_, ppm(energy.high));
  }

  ThreadPool& pool_;
  adapt::EnergyMeter& meter_;
  const CostProfileOptions& options_;
  std::vector<Form> forms_;
  SteadyRuns runs_;
  adapt::CostTable table_;
  size_t done_ = 0;
  int64_t low_ppm_ = 0, high_ppm_ = 0;
};

}  // namespace

MeasuredOn measured_here(int threads) {
  return {this_machine(), kernels::instruction_sets().front().name, threads};
}

int64_t largest_rank(int64_t out, int64_t in) {
  // r·(out + in) − r² grows until r = (out + in)/2, beyond the full rank.
  int64_t rank = std::min(out, in - 1);
  while (rank > 0 && rank * (out + in) - rank * rank >= out * in) --rank;
  return rank;
}

bool is_cut(const tt::WeightShape& shape) {
  return shape.kind == tt::ShapeKind::dense ||
         (shape.kind == tt::ShapeKind::chain && shape.out_modes.size() == 1 && shape.in_modes.size() == 1);
}

CostProfile measure_profile(const model::ModelConfig& config, ThreadPool& pool, adapt::EnergyMeter& meter,
                            const CostProfileOptions& options) {
  return ProfileRun(config, pool, meter, options).run();
}

}  // namespace qtf::budget
