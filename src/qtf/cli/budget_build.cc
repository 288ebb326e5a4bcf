#include "qtf/cli/budget_build.h"

#include <algorithm>
#include <cmath>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/json.h"
#include "qtf/base/progress.h"
#include "qtf/compress/plan.h"
#include "qtf/compress/quantize.h"
#include "qtf/model/gauge.h"
#include "qtf/model/quantized_weights.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {

namespace {

namespace fs = std::filesystem;

// Tokens of the text that perplexity is measured on.
constexpr int64_t kProbedTokens = 16384;

double nats_on(const text::TokenFile& text, const model::Transformer<float>& model, ThreadPool& pool) {
  train::EvaluateOptions options;
  options.max_tokens = kProbedTokens;
  return train::evaluate(model, {&text, 0, text.size()}, options, pool).nats_per_token;
}

/// Records what decided whether a made model keeps the budgets: the middle of its measurements, or the worst
/// where that alone does not.
void record_confirmation(const budget::Budgets& limits, const budget::Confirmation& confirmed,
                         audit::DecisionList& decisions) {
  const bool by_worst = confirmed.strain <= 1 && !confirmed.holds;
  const adapt::Judgement judgement =
      by_worst ? budget::judge(limits, confirmed.worst_measured, std::llround(1e6 * budget::kTolerance))
               : budget::judge(limits, confirmed.measured);
  decisions.add(adapt::record(judgement), adapt::to_json(judgement));
}

/// Says on stderr what goes on, where that is wanted.
void tell(bool progress, const std::string& what) {
  if (progress) tell_progress("budget", what);
}

}  // namespace

CalibrationInput stored_calibration(const fs::path& model) {
  CalibrationInput input;
  input.stored = model / "calibration.safetensors";
  if (!fs::is_regular_file(*input.stored))
    throw_input_error("budget",
                      "{} has no calibration.safetensors; give a text that is like what the model is for: "
                      "--calibrate FILE",
                      model.string());
  return input;
}

double perplexity_on(const fs::path& text, const model::LoadedModel& loaded, ThreadPool& pool) {
  return std::exp(nats_on(text::tokenize_corpus(text, *loaded.tokenizer), *loaded.model, pool));
}

BudgetBuilder::BudgetBuilder(model::LoadedModel& loaded, const CalibrationInput& input,
                             const budget::CostProfile& profile, const adapt::Query& query,
                             adapt::EnergyMeter& meter, const FileNumbers& numbers, ThreadPool& pool,
                             bool progress)
    : tokenizer_(*loaded.tokenizer),
      input_(input),
      profile_(profile),
      query_(query),
      meter_(meter),
      numbers_(numbers),
      pool_(pool),
      progress_(progress) {
  loaded.model->prepare(tt::Use::inference, pool);
  if (loaded.model->config().shapes.empty()) {
    original_ = std::move(loaded.model);
  } else {
    source_ = std::move(loaded.model);
    original_ = compress::dense_copy(*source_, pool);
  }
  tell(progress_, "calibrating and predicting losses");
  calibration_ = input.stored ? compress::load_calibration(*input.stored, original_->config())
                              : compress::calibrate(*original_, input.text, pool);
  if (!input.stored) calibration_.text_sha256 = input.sha256;
  const compress::WeightMetrics metrics(*original_, calibration_, options_);
  losses_ = compress::losses_by_rank(*original_, metrics, pool);
  make_table();
}

void BudgetBuilder::make_table() {
  const model::ModelConfig& config = source_ ? source_->config() : original_->config();
  table_ = budget::make_size_table(config, losses_, profile_.table, query_,
                                   {loss_scale_ ? 1e-6 * static_cast<double>(loss_scale_->millionths) : 1.0,
                                    static_cast<int64_t>(io::size_of(numbers_.dtype)), numbers_.coding});
}

std::unique_ptr<model::Transformer<float>> BudgetBuilder::assemble(const std::vector<int64_t>& chosen) const {
  const model::ModelConfig& from = source_ ? source_->config() : original_->config();
  const model::ModelConfig config = budget::sized_config(from, table_, chosen);
  std::map<std::string, tt::WeightShape> cut;
  std::vector<std::string> kept;
  for (const auto& [name, shape] : config.shapes) {
    if (budget::is_cut(shape))
      cut[name] = shape;
    else
      kept.push_back(name);
  }
  compress::CompressOptions options = options_;
  options.shapes = &cut;
  auto model = compress::compress(*original_, calibration_, input_.text, options, pool_).model;
  if (!kept.empty()) model = compress::with_maps_of(*model, *source_, kept, pool_);
  model->set_plan(config.plan);
  return as_stored(std::move(model), true);
}

std::unique_ptr<model::Transformer<float>> BudgetBuilder::as_stored(std::unique_ptr<Model> model,
                                                                    bool calibrated) const {
  if (numbers_.coding) {
    const Coding& coding = *numbers_.coding;
    if (coding.type == CodeType::int4) model = model::with_spread_gauge(*model);
    model->set_codes(calibrated
                         ? compress::quantize(*model, calibration_, coding, pool_)
                         : model::quantize(model->layout(), std::as_const(*model).parameters(), coding));
  }
  model->prepare(tt::Use::inference, pool_);
  return model;
}

double BudgetBuilder::nats_of(const Model& model) const {
  return nats_on(*text_, model, pool_);
}

void BudgetBuilder::probe(const fs::path& text) {
  constexpr double kShares[] = {0.25, 0.6};  // of the way from the fewest parameters to all
  tell(progress_, "probing two models on the text");
  text_ = text::tokenize_corpus(text, tokenizer_);
  original_nats_ = nats_of(*original_);
  const auto least = adapt::solve_budgets(budget::size_question(table_, budget::kParameters, {})).value;
  const int64_t fewest = least + table_.other_parameters;
  const int64_t all = model::stored_parameter_count(source_ ? source_->config() : original_->config());
  adapt::LossScaleQuestion probed;
  for (const double share : kShares) {
    const int64_t limit =
        fewest + std::llround(share * static_cast<double>(std::max<int64_t>(0, all - fewest)));
    const auto answer =
        adapt::solve_budgets(budget::size_question(table_, budget::kLoss, {{&budget::kParameters, limit}}));
    if (!answer.feasible) continue;
    probed.predicted.push_back(answer.value);
    probed.lost.push_back(std::llround(1e9 * (nats_of(*assemble(answer.chosen)) - original_nats_)));
  }
  loss_scale_ = adapt::scale_losses(std::move(probed));
  make_table();
}

budget::QueryMeasurement BudgetBuilder::measure(const Model& model) const {
  return budget::measure_query(model, query_, pool_, meter_, profile_.reference_ns);
}

budget::QueryMeasurement BudgetBuilder::measure_shapes(const model::ModelConfig& config) const {
  auto random = std::make_unique<Model>(config);
  random->initialise(1);
  const auto model = as_stored(std::move(random), false);
  const budget::QueryMeasurement measured = measure(*model);
  tell(progress_, fmt::format("{} parameters take {:.4g} ms (95th percentile)", model->layout().size,
                              1e-6 * static_cast<double>(measured.p95_ns)));
  return measured;
}

BudgetMeasured BudgetBuilder::measure_all(const Model& model, const Timer& timer) const {
  BudgetMeasured measured;
  measured.parameters = model::parameter_count(model.config());
  measured.query = timer();
  if (text_) measured.perplexity = std::exp(nats_of(model));
  return measured;
}

BuiltBudget BudgetBuilder::build(const BudgetAsked& asked) {
  const budget::Budgets& limits = asked.limits;
  const bool only_perplexity = !(limits.parameters || limits.bytes || limits.latency_ns || limits.energy_nj);
  BuiltBudget built = only_perplexity ? build_for_perplexity(asked) : build_within(asked);
  if (!built.feasible || !asked.target_perplexity || *built.measured->perplexity <= *asked.target_perplexity)
    return built;
  built.feasible = false;
  built.nearest_perplexity = built.measured->perplexity;
  return built;
}

BuiltBudget BudgetBuilder::build_within(const BudgetAsked& asked) {
  BuiltBudget built;
  constexpr int kModels = 4;
  budget::FitOptions options;
  budget::Confirmation confirmed;
  for (int made = 0; made < kModels; ++made) {
    const budget::Fit fit = budget::fit_budgets(
        source_ ? source_->config() : original_->config(), table_, asked.limits,
        [&](const model::ModelConfig& config) { return measure_shapes(config); }, options);
    built.decisions.append(fit.decisions);
    built.bound_gap = fit.bound_gap, built.nearest = fit.nearest, built.chosen = fit.chosen;
    if (!fit.feasible) {
      if (fit.measured.runs > 0) {
        const budget::SizeTotals totals = budget::totals_of(table_, fit.chosen);
        built.measured = BudgetMeasured{totals.parameters, totals.bytes, fit.measured, {}};
      }
      return built;
    }
    tell(progress_, "building it");
    built.model = assemble(fit.chosen);
    const auto timer = [&] { return measure(*built.model); };
    built.measured = measure_all(*built.model, [&] {
      confirmed = budget::confirm(asked.limits, timer);
      return confirmed.measured;
    });
    record_confirmation(asked.limits, confirmed, built.decisions);
    built.feasible = confirmed.holds;
    if (built.feasible) return built;
    options.margin = budget::tightened(options.margin, confirmed);
  }
  if (asked.limits.latency_ns && built.measured->query.p95_ns > *asked.limits.latency_ns)
    built.nearest.push_back({"max_latency_ms", built.measured->query.p95_ns});
  const auto joules = static_cast<int64_t>(std::ceil(1e9 * built.measured->query.energy.joules));
  if (asked.limits.energy_nj && joules > *asked.limits.energy_nj)
    built.nearest.push_back({"max_energy_j", joules});
  return built;
}

BuiltBudget BudgetBuilder::build_for_perplexity(const BudgetAsked& asked) {
  constexpr int kTries = 6;
  BuiltBudget built;
  const double room = std::log(*asked.target_perplexity) - original_nats_;
  if (room < 0) {
    built.nearest_perplexity = std::exp(original_nats_);
    return built;
  }
  double allowed = room;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    // The last keeps everything.
    const auto limit = attempt + 1 < kTries ? static_cast<int64_t>(1e9 * allowed) : int64_t{0};
    const adapt::BudgetAnswer answer =
        adapt::solve_budgets(budget::size_question(table_, budget::kParameters, {{&budget::kLoss, limit}}));
    built.decisions.add(adapt::record(answer), adapt::to_json(answer));
    built.chosen = answer.chosen, built.bound_gap = adapt::gap(answer);
    built.model = assemble(answer.chosen);
    const double lost = nats_of(*built.model) - original_nats_;
    tell(progress_, fmt::format("perplexity {:.4g}", std::exp(original_nats_ + lost)));
    if (lost <= room) break;
    allowed *= std::clamp(0.97 * room / lost, 0.2, 0.95);
  }
  built.measured = measure_all(*built.model, [&] { return measure(*built.model); });
  built.feasible = *built.measured->perplexity <= *asked.target_perplexity;
  if (!built.feasible) built.nearest_perplexity = built.measured->perplexity;
  return built;
}

void BudgetBuilder::save(const Model& model, const fs::path& folder) const {
  if (model.codes()) {
    model::save_quantized_folder(folder, model, &tokenizer_);
  } else {
    model::save_description(folder, model.config(), tokenizer_);
    model::save_weights(folder, model.layout(), model.parameters(), numbers_.dtype);
  }
  compress::save_calibration(folder / "calibration.safetensors", calibration_);
}

}  // namespace qtf::cli
