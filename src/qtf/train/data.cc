#include "qtf/train/data.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "qtf/base/error.h"

namespace qtf::train {

int64_t permute(int64_t index, int64_t n, uint64_t key) {
  const int bits = std::max(2, static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1))));
  const int half = (bits + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t mixed = Random{key, round}.bits(right) & mask;
      left = std::exchange(right, left ^ mixed);
    }
    value = (left << half) | right;
  } while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

WindowSampler::WindowSampler(TokenRange range, int64_t context, uint64_t seed)
    : range_(range), context_(context), seed_(seed), windows_((range.size() - 1) / context) {
  if (range.size() < context + 1) {
    throw_input_error(
        "train", "the text has {} tokens, but one sequence needs {}; give more text or a smaller --context",
        range.size(), context + 1);
  }
  // A random start each epoch costs a window unless there is slack for it.
  if (windows_ > 1) windows_ = (range.size() - context_) / context_;
}

int64_t WindowSampler::start_of(int64_t index) const {
  const int64_t epoch = index / windows_;
  const Random random{seed_, 0xDA7A};
  const int64_t slack = range_.size() - 1 - windows_ * context_;
  const auto shift = static_cast<int64_t>(
      random.below(static_cast<uint64_t>(epoch), static_cast<uint64_t>(std::min(slack, context_ - 1) + 1)));
  const uint64_t key = random.bits((uint64_t{1} << 40) + static_cast<uint64_t>(epoch));
  return shift + permute(index % windows_, windows_, key) * context_;
}

void WindowSampler::copy(int64_t index, int32_t* inputs, int32_t* targets) const {
  const int64_t start = range_.begin + start_of(index);
  const auto n = static_cast<size_t>(context_);
  range_.file->copy(start, {inputs, n});
  range_.file->copy(start + 1, {targets, n});
}

}  // namespace qtf::train
