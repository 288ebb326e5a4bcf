// Which tokens a training step sees: a pure function of (seed, epoch, index), so that resume needs no state
// and a corpus larger than memory is read where it lies.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/base/random.h"
#include "qtf/text/token_file.h"

namespace qtf::train {

/// A contiguous part of a token file.
struct TokenRange {
  const text::TokenFile* file = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

/// Windows of context + 1 tokens of a range, in a new random order every epoch. Windows of an epoch do not
/// overlap (but for the one token that is a target here and an input there) and start at a random offset.
class WindowSampler {
 public:
  /// Throws InputError if the range is shorter than one window (saying both lengths).
  WindowSampler(TokenRange range, int64_t context, uint64_t seed);

  /// Windows in one epoch.
  int64_t windows() const { return windows_; }

  /// Copies window number `index` (counted over all epochs) to inputs[context] and targets[context].
  void copy(int64_t index, int32_t* inputs, int32_t* targets) const;

  /// First token of a window, relative to the range.
  int64_t start_of(int64_t index) const;

 private:
  TokenRange range_;
  int64_t context_;
  uint64_t seed_;
  int64_t windows_;
};

/// A pseudo-random permutation of [0, n) by a keyed Feistel network with cycle walking (Black and Rogaway
/// 2002): any element without storing the rest.
int64_t permute(int64_t index, int64_t n, uint64_t key);

}  // namespace qtf::train
