#include "qtf/budget/query_timer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/model/inference.h"

namespace qtf::budget {

namespace {

using QueryClock = std::chrono::steady_clock;

/// One query after another.
class QueryRunner {
 public:
  QueryRunner(const model::Transformer<float>& model, const adapt::Query& query, ThreadPool& pool)
      : model_(model),
        query_(query),
        inference_(model, pool),
        cache_(model.make_cache(query.prompt + query.tokens)),
        prompt_(static_cast<size_t>(query.prompt)),
        hidden_(static_cast<size_t>(query.prompt * model.config().width)),
        logits_(static_cast<size_t>(model.config().vocabulary)) {
    const Random random{1, 4};
    const auto vocabulary = static_cast<uint64_t>(model.config().vocabulary);
    for (size_t i = 0; i < prompt_.size(); ++i)
      prompt_[i] = static_cast<int32_t>(random.below(i, vocabulary));
  }

  /// Nanoseconds.
  int64_t run() {
    const auto begin = QueryClock::now();
    cache_.truncate(0);
    int32_t token = extend(prompt_);
    for (int64_t t = 1; t < query_.tokens; ++t) token = extend({&token, 1});
    return std::chrono::duration_cast<std::chrono::nanoseconds>(QueryClock::now() - begin).count();
  }

 private:
  /// The most likely token after these.
  int32_t extend(std::span<const int32_t> tokens) {
    const model::Chunk<float> chunk{tokens, &cache_};
    const auto rows = static_cast<int64_t>(tokens.size());
    const Matrix<float> hidden(hidden_.data(), rows, model_.config().width);
    inference_.forward({&chunk, 1}, 0, hidden);
    inference_.logits(hidden.row_block(rows - 1, 1), 0, {logits_.data(), 1, model_.config().vocabulary});
    return static_cast<int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
  }

  const model::Transformer<float>& model_;
  adapt::Query query_;
  model::Inference<float> inference_;
  nn::KvCache<float> cache_;
  std::vector<int32_t> prompt_;
  std::vector<float> hidden_, logits_;
};

}  // namespace

int64_t percentile(std::vector<int64_t> values, double share) {
  QTF_ASSERT(!values.empty());
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

void check_query(const model::ModelConfig& config, const adapt::Query& query) {
  if (query.prompt + query.tokens > config.context)
    throw_input_error("query", "{} takes {} tokens, the model's context is {}; give a shorter --query",
                      adapt::to_string(query), query.prompt + query.tokens, config.context);
}

QueryMeasurement measure_runs(const std::function<int64_t()>& run_ns, SteadyRuns& steady,
                              adapt::EnergyMeter& meter, const QueryTimerOptions& options) {
  std::vector<int64_t> times;
  double elapsed = 0;
  const auto begin = QueryClock::now();
  meter.start();
  while (static_cast<int>(times.size()) < options.runs &&
         (static_cast<int>(times.size()) < options.least_runs || elapsed < options.most_seconds)) {
    int64_t ns = 0;
    const double scale = steady.steady([&] { ns = run_ns(); });
    times.push_back(std::max<int64_t>(1, std::llround(static_cast<double>(ns) * scale)));
    elapsed = std::chrono::duration<double>(QueryClock::now() - begin).count();
  }
  const adapt::Energy energy = meter.stop();
  QueryMeasurement measured;
  measured.runs = static_cast<int64_t>(times.size());
  measured.repeated = steady.repeated(), measured.unsteady = steady.unsteady();
  measured.reference_ns = steady.reference_ns();
  measured.p50_ns = percentile(times, 0.5), measured.p95_ns = percentile(times, 0.95);
  measured.energy = energy.scaled(1e-9 * static_cast<double>(measured.p95_ns) / elapsed);
  return measured;
}

QueryMeasurement measure_query(const model::Transformer<float>& model, const adapt::Query& query,
                               ThreadPool& pool, adapt::EnergyMeter& meter, int64_t reference_ns,
                               const QueryTimerOptions& options) {
  check_query(model.config(), query);
  QueryRunner runner(model, query, pool);
  SteadyRuns steady(pool, reference_ns, options.steady);
  runner.run();  // warms up
  return measure_runs([&] { return runner.run(); }, steady, meter, options);
}

}  // namespace qtf::budget
