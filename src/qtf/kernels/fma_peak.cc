#include "qtf/kernels/fma_peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/fma_peak.cc"
#include "qtf/kernels/dispatch.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Runs `rounds` of multiply-adds in independent chains; leaves their sum, returns the FLOPs done.
template <class T>
HWY_ATTR double multiply_adds(int64_t rounds, T* result) {
  constexpr int kChains =
      12;  // above latency (4 or 5) times units (2), and with two operands in 16 registers
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, *result), addend = hn::Set(d, T{1} - *result);
  hn::Vec<decltype(d)> sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = hn::Set(d, static_cast<T>(c));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = hn::MulAdd(sum[c], factor, addend);
  }
  for (int c = 1; c < kChains; ++c) sum[0] = hn::Add(sum[0], sum[c]);
  *result = hn::GetLane(hn::SumOfLanes(d, sum[0]));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(multiply_adds)

double measure_fma_peak(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 500'000;  // a millisecond at 3 GHz and two multiply-adds a cycle
  volatile float sink = 0.5F;           // keeps the compiler from computing or dropping the loop
  double best = 0;
  const auto begin = Clock::now();
  auto start = begin;
  do {
    float value = 0.5F;
    const double flops = multiply_adds_chosen<float>()(kRounds, &value);
    sink = value;
    static_cast<void>(sink);
    const auto end = Clock::now();
    best = std::max(best, flops / std::chrono::duration<double>(end - start).count());
    start = end;
  } while (std::chrono::duration<double>(start - begin).count() < seconds);
  return best;
}

}  // namespace qtf::kernels
#endif
