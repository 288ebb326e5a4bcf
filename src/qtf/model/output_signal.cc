#include "qtf/model/output_signal.h"

#include <algorithm>
#include <cmath>

#include "qtf/kernels/softmax.h"

namespace qtf::model {

template <class T>
double output_signal(adapt::RankSignal signal, std::span<const T> logits, int32_t token) {
  const auto vocabulary = static_cast<int64_t>(logits.size());
  const T log_sum = kernels::log_sum_exp<T>(vocabulary, logits.data());
  if (signal == adapt::RankSignal::surprise) {
    const double nats = std::max(0.0, static_cast<double>(log_sum - logits[static_cast<size_t>(token)]));
    return nats / (1 + nats);
  }
  double entropy = 0;
  for (const T logit : logits) {
    const double nats = static_cast<double>(log_sum - logit);
    entropy += std::exp(-nats) * nats;
  }
  return std::clamp(entropy / std::log(static_cast<double>(vocabulary)), 0.0, 1.0);
}

template double output_signal<float>(adapt::RankSignal, std::span<const float>, int32_t);
template double output_signal<double>(adapt::RankSignal, std::span<const double>, int32_t);

}  // namespace qtf::model
