#include "qtf/compress/sequences.h"

#include <algorithm>

#include "qtf/base/thread_pool.h"

namespace qtf::compress {

Sequences windows_of(int64_t size, const std::function<void(int64_t first, std::span<int32_t> out)>& copy,
                     int64_t length, int64_t max_tokens) {
  Sequences result;
  const auto add = [&](int64_t first, int64_t count) {
    result.tokens.resize(result.tokens.size() + static_cast<size_t>(count));
    copy(first, std::span(result.tokens).last(static_cast<size_t>(count)));
    result.ends.push_back(result.rows());
  };
  const int64_t whole = size / length;
  if (whole == 0 || size <= max_tokens) {
    for (int64_t i = 0; i < size; i += length) add(i, std::min(length, size - i));
    return result;
  }
  const int64_t count = std::clamp<int64_t>(max_tokens / length, 1, whole);
  for (int64_t i = 0; i < count; ++i) add(whole * i / count * length, length);
  return result;
}

Sequences windows_of(const train::TokenRange& text, int64_t length, int64_t max_tokens) {
  return windows_of(
      text.size(), [&](int64_t first, std::span<int32_t> out) { text.file->copy(text.begin + first, out); },
      length, max_tokens);
}

std::vector<SequenceRun> runs_of(const Sequences& sequences, int64_t rows) {
  std::vector<SequenceRun> runs;
  for (int64_t i = 0; i < sequences.count(); ++i) {
    if (runs.empty() || runs.back().rows >= rows) runs.push_back({i, 0, sequences.begin_of(i), 0});
    runs.back().count += 1;
    runs.back().rows = sequences.ends[static_cast<size_t>(i)] - runs.back().row;
  }
  return runs;
}

SequenceRun share_of(const Sequences& sequences, const SequenceRun& run, int index, int count) {
  const Range part = split_range(run.count, index, count);
  SequenceRun share{run.first + part.begin, part.size(), sequences.begin_of(run.first + part.begin), 0};
  if (share.count > 0) share.rows = sequences.begin_of(share.first + share.count) - share.row;
  return share;
}

std::span<const int32_t> tokens_of(const Sequences& sequences, const SequenceRun& run) {
  return std::span(sequences.tokens).subspan(static_cast<size_t>(run.row), static_cast<size_t>(run.rows));
}

std::vector<nn::Segment<float>> segments_of(const Sequences& sequences, const SequenceRun& run) {
  std::vector<nn::Segment<float>> segments;
  for (int64_t i = run.first; i < run.first + run.count; ++i) {
    const int64_t begin = sequences.begin_of(i);
    segments.push_back({begin - run.row, sequences.ends[static_cast<size_t>(i)] - begin, 0, nullptr});
  }
  return segments;
}

}  // namespace qtf::compress
