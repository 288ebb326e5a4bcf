#include "qtf/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "qtf/base/error.h"

namespace qtf::model {

void validate(const SamplingOptions& o) {
  const auto check = [](bool ok, const char* name, const char* range, double value) {
    if (!ok) throw_input_error("generate", "{} must be {}, got {}", name, range, value);
  };
  check(o.temperature >= 0 && std::isfinite(o.temperature), "temperature", "0 or more", o.temperature);
  check(o.top_k >= 0, "top-k", "0 (all) or more", static_cast<double>(o.top_k));
  check(o.top_p > 0 && o.top_p <= 1, "top-p", "in (0, 1]", o.top_p);
  check(o.min_p >= 0 && o.min_p <= 1, "min-p", "in [0, 1]", o.min_p);
  check(o.repeat_penalty > 0 && std::isfinite(o.repeat_penalty), "repeat-penalty", "above 0",
        o.repeat_penalty);
}

namespace {

struct Candidate {
  int32_t token;
  double weight;  // first the logit, then the unnormalised probability
};

void penalise_repeats(std::vector<Candidate>& candidates, std::span<const int32_t> history,
                      const SamplingOptions& options) {
  if (options.repeat_penalty == 1) return;
  const size_t window =
      std::min(history.size(), static_cast<size_t>(std::max<int64_t>(0, options.repeat_window)));
  std::vector<int32_t> recent(history.end() - static_cast<std::ptrdiff_t>(window), history.end());
  std::sort(recent.begin(), recent.end());
  recent.erase(std::unique(recent.begin(), recent.end()), recent.end());
  for (int32_t token : recent) {
    if (token < 0 || static_cast<size_t>(token) >= candidates.size()) continue;  // a padded vocabulary's
    double& logit = candidates[static_cast<size_t>(token)].weight;
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
  }
}

/// Keeps the k first of candidates sorted by falling weight.
void truncate(std::vector<Candidate>& sorted, const SamplingOptions& options) {
  if (options.top_k > 0) sorted.resize(std::min(sorted.size(), static_cast<size_t>(options.top_k)));
  const double total = std::accumulate(sorted.begin(), sorted.end(), 0.0,
                                       [](double sum, const Candidate& c) { return sum + c.weight; });
  double sum = 0;
  size_t kept = 0;
  const double least = options.min_p * sorted.front().weight;
  while (kept < sorted.size() &&
         (kept == 0 || (sum < options.top_p * total && sorted[kept].weight >= least))) {
    sum += sorted[kept++].weight;
  }
  sorted.resize(kept);
}

}  // namespace

int32_t sample(std::span<const float> logits, std::span<const int32_t> history,
               const SamplingOptions& options) {
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i]))
      throw_input_error("generate", "the model computes {}; its weights are damaged", logits[i]);
    candidates[i] = {static_cast<int32_t>(i), static_cast<double>(logits[i])};
  }
  penalise_repeats(candidates, history, options);
  const auto heavier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  if (options.temperature == 0) return std::min_element(candidates.begin(), candidates.end(), heavier)->token;

  std::sort(candidates.begin(), candidates.end(), heavier);
  const double top = candidates.front().weight;
  for (Candidate& c : candidates) c.weight = std::exp((c.weight - top) / options.temperature);
  truncate(candidates, options);
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  double point = Random{options.seed, 7}.uniform(history.size()) * total;
  for (const Candidate& c : candidates) {
    point -= c.weight;
    if (point < 0) return c.token;
  }
  return candidates.back().token;
}

}  // namespace qtf::model
