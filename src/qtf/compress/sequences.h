// The token sequences that a model is measured on while it is compressed: windows of a text, or documents.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "qtf/nn/block.h"
#include "qtf/train/data.h"

namespace qtf::compress {

/// Sequences of any length, their tokens end to end.
struct Sequences {
  std::vector<int32_t> tokens;
  std::vector<int64_t> ends;  ///< of each sequence in `tokens`

  int64_t count() const { return static_cast<int64_t>(ends.size()); }
  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  int64_t begin_of(int64_t sequence) const {
    return sequence == 0 ? 0 : ends[static_cast<size_t>(sequence - 1)];
  }
};

/// Some consecutive sequences.
struct SequenceRun {
  int64_t first = 0;  ///< sequence
  int64_t count = 0;
  int64_t row = 0;  ///< first token
  int64_t rows = 0;
};

/// The usual length of a window of calibration text, in tokens.
inline constexpr int64_t kCalibrationWindow = 256;

/// Tokens that pass a model together, which bounds the activations of all blocks that wait for their backward
/// pass, and rows of logits held at a time.
inline constexpr int64_t kRunRows = 512;
inline constexpr int64_t kHeadRows = 128;

/// Windows of `length` tokens, evenly spaced over a text of `size` tokens that `copy(first, out)` reads,
/// together at most `max_tokens` but one window: all of a text that is shorter.
Sequences windows_of(int64_t size, const std::function<void(int64_t first, std::span<int32_t> out)>& copy,
                     int64_t length, int64_t max_tokens);
Sequences windows_of(const train::TokenRange& text, int64_t length, int64_t max_tokens);

/// Cuts the sequences into runs of at least `rows` tokens (the last may be shorter). What lies in a run does
/// not depend on the number of threads.
std::vector<SequenceRun> runs_of(const Sequences& sequences, int64_t rows);

/// Worker `index` of `count`'s share of a run.
SequenceRun share_of(const Sequences& sequences, const SequenceRun& run, int index, int count);

/// The run's tokens.
std::span<const int32_t> tokens_of(const Sequences& sequences, const SequenceRun& run);

/// The run's sequences as segments of a pass whose first row is the run's.
std::vector<nn::Segment<float>> segments_of(const Sequences& sequences, const SequenceRun& run);

}  // namespace qtf::compress
