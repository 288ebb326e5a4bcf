#include "qtf/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/kernels/softmax.h"

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
  double weight;  // its unnormalised probability
};

/// Likelier first; of equals the lower token.
struct Likelier {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  }
};

/// The logits, those of the tokens that came lately made less likely.
std::vector<double> penalised(std::span<const float> logits, std::span<const int32_t> history,
                              const SamplingOptions& options) {
  std::vector<double> values(logits.begin(), logits.end());
  if (options.repeat_penalty == 1) return values;
  const size_t window =
      std::min(history.size(), static_cast<size_t>(std::max<int64_t>(0, options.repeat_window)));
  std::vector<int32_t> recent(history.end() - static_cast<std::ptrdiff_t>(window), history.end());
  std::sort(recent.begin(), recent.end());
  recent.erase(std::unique(recent.begin(), recent.end()), recent.end());
  for (int32_t token : recent) {
    if (token < 0 || static_cast<size_t>(token) >= values.size()) continue;  // a padded vocabulary's
    double& logit = values[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
  }
  return values;
}

constexpr double kOut = -1;  // the weight of a token that cannot be drawn

/// Takes all but the k likeliest out.
void keep_likeliest(int64_t k, std::vector<double>& weights) {
  if (k <= 0 || k >= static_cast<int64_t>(weights.size())) return;
  std::vector<Candidate> all;
  for (size_t i = 0; i < weights.size(); ++i) all.push_back({static_cast<int32_t>(i), weights[i]});
  const auto end = all.begin() + k;
  std::nth_element(all.begin(), end, all.end(), Likelier{});
  std::for_each(end, all.end(), [&](const Candidate& c) { weights[static_cast<size_t>(c.token)] = kOut; });
}

double sum_of_weights(std::span<const double> weights) {
  double sum = 0;
  for (const double weight : weights) sum += std::max(weight, 0.0);
  return sum;
}

/// Candidates by falling weight, as far as they are asked for: the next token of a text is seldom far down,
/// and to sort a whole vocabulary takes longer than a small model does.
class Falling {
 public:
  Falling(std::span<const double> weights, double total) : weights_(weights), total_(total) {}

  std::optional<Candidate> next() {
    while (place_ == found_.size()) {
      if (bound_ == 0) return {};
      find_more();
    }
    return found_[place_++];
  }

 private:
  /// Those of the next thinner layer of weights.
  void find_more() {
    constexpr double kLayer = 1.0 / 32, kFirst = 1.0 / 1024, kLast = 1e-6;
    const double above = bound_;
    bound_ = above == kAll ? kFirst * total_ : above > kLast * total_ ? above * kLayer : 0;
    found_.clear();
    place_ = 0;
    for (size_t i = 0; i < weights_.size(); ++i)
      if (weights_[i] >= bound_ && weights_[i] < above)
        found_.push_back({static_cast<int32_t>(i), weights_[i]});
    std::sort(found_.begin(), found_.end(), Likelier{});
  }

  static constexpr double kAll = std::numeric_limits<double>::infinity();

  std::span<const double> weights_;
  double total_, bound_ = kAll;  // those of at least this weight were found
  std::vector<Candidate> found_;
  size_t place_ = 0;
};

/// Those that top-p and min-p leave, by falling weight.
std::vector<Candidate> truncated(Falling& falling, double total, const SamplingOptions& options) {
  std::vector<Candidate> kept;
  for (double sum = 0; kept.empty() || sum < options.top_p * total;) {
    const std::optional<Candidate> next = falling.next();
    if (!next || (!kept.empty() && next->weight < options.min_p * kept.front().weight)) break;
    kept.push_back(*next);
    sum += next->weight;
  }
  return kept;
}

/// The one in whose weight the point falls, the weights being laid end to end.
template <class Next>
int32_t token_at(double point, const Next& next) {
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
  for (const float logit : logits)
    if (!std::isfinite(logit))
      throw_input_error("generate", "the model computes {}; its weights are damaged", logit);
  std::vector<double> weights = penalised(logits, history, options);
  const auto top = std::max_element(weights.begin(), weights.end());  // the first of equals
  if (options.temperature == 0) return static_cast<int32_t>(top - weights.begin());

  const double most = *top;
  for (double& logit : weights) logit = (logit - most) / options.temperature;
  kernels::exp_shifted<double>(static_cast<int64_t>(weights.size()), weights.data(), 0, 1, weights.data());
  keep_likeliest(options.top_k, weights);
  const double total = sum_of_weights(weights);
  const double share = Random{options.seed, 7}.uniform(history.size());
  Falling falling(weights, total);
  if (options.top_p >= 1 && options.min_p <= 0)
    return token_at(share * total, [&] { return falling.next(); });
  const std::vector<Candidate> kept = truncated(falling, total, options);
  double kept_total = 0;
  for (const Candidate& c : kept) kept_total += c.weight;
  auto left = kept.begin();
  return token_at(share * kept_total,
                  [&] { return left == kept.end() ? std::nullopt : std::optional(*left++); });
}

}  // namespace qtf::model
