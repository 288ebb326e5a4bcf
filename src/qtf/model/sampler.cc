#include "qtf/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

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
  double logit;
  double weight = 0;  // its unnormalised probability
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
    double& logit = candidates[static_cast<size_t>(token)].logit;
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
  }
}

/// Likelier first; of equals the lower token.
bool comes_later(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit < b.logit : a.token > b.token;
}

/// Candidates by falling probability, as far as they are asked for: a text's next token is seldom far down,
/// and sorting a whole vocabulary takes longer than a small model.
class Falling {
 public:
  explicit Falling(std::vector<Candidate> candidates) : heap_(std::move(candidates)) {
    std::make_heap(heap_.begin(), heap_.end(), comes_later);
  }
  bool empty() const { return heap_.empty(); }
  Candidate next() {
    std::pop_heap(heap_.begin(), heap_.end(), comes_later);
    const Candidate first = heap_.back();
    heap_.pop_back();
    return first;
  }

 private:
  std::vector<Candidate> heap_;
};

double sum_of_weights(const std::vector<Candidate>& candidates) {
  return std::accumulate(candidates.begin(), candidates.end(), 0.0,
                         [](double sum, const Candidate& c) { return sum + c.weight; });
}

/// Those that top-p and min-p leave, by falling weight.
std::vector<Candidate> truncated(Falling& falling, double total, const SamplingOptions& options) {
  std::vector<Candidate> kept;
  for (double sum = 0; !falling.empty() && (kept.empty() || sum < options.top_p * total);) {
    const Candidate next = falling.next();
    if (!kept.empty() && next.weight < options.min_p * kept.front().weight) break;
    kept.push_back(next);
    sum += next.weight;
  }
  return kept;
}

/// The one in whose weight the point falls, the weights being laid end to end.
template <class Next>
int32_t drawn(double point, const Next& next) {
  int32_t token = -1;
  while (point >= 0) {
    const std::optional<Candidate> candidate = next();
    if (!candidate) break;  // rounding left a little of the total
    token = candidate->token;
    point -= candidate->weight;
  }
  return token;
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
  const Candidate top = *std::max_element(candidates.begin(), candidates.end(), comes_later);
  if (options.temperature == 0) return top.token;

  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(candidates.size())) {
    const auto end = candidates.begin() + options.top_k;
    std::nth_element(candidates.begin(), end, candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return comes_later(b, a); });
    candidates.erase(end, candidates.end());
  }
  for (Candidate& c : candidates) c.weight = std::exp((c.logit - top.logit) / options.temperature);
  const double total = sum_of_weights(candidates);
  const double share = Random{options.seed, 7}.uniform(history.size());
  Falling falling(std::move(candidates));
  if (options.top_p >= 1 && options.min_p <= 0) {
    return drawn(share * total,
                 [&] { return falling.empty() ? std::nullopt : std::optional(falling.next()); });
  }
  const std::vector<Candidate> kept = truncated(falling, total, options);
  auto left = kept.begin();
  return drawn(share * sum_of_weights(kept),
               [&] { return left == kept.end() ? std::nullopt : std::optional(*left++); });
}

}  // namespace qtf::model
