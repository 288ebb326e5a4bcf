#include "qtf/compress/sequences.h"

#include <gtest/gtest.h>

#include <numeric>

#include "qtf/compress/compress_test.h"

namespace qtf::compress {
namespace {

Sequences windows(int64_t size, int64_t length, int64_t max_tokens) {
  return windows_of(
      size,
      [](int64_t first, std::span<int32_t> out) {
        std::iota(out.begin(), out.end(), static_cast<int32_t>(first));
      },
      length, max_tokens);
}

TEST(Sequences, WindowsLieEvenlySpaced) {
  const Sequences text = windows(1000, 10, 40);
  EXPECT_EQ(text.ends, (std::vector<int64_t>{10, 20, 30, 40}));
  EXPECT_EQ(text.tokens[0], 0);
  EXPECT_EQ(text.tokens[10], 250);
  EXPECT_EQ(text.tokens[39], 759);
}

TEST(Sequences, AShortTextIsTakenWhole) {
  const Sequences text = windows(25, 10, 40);
  EXPECT_EQ(text.ends, (std::vector<int64_t>{10, 20, 25}));
  EXPECT_EQ(text.tokens.back(), 24);
  EXPECT_EQ(windows(3, 10, 40).ends, (std::vector<int64_t>{3}));
  EXPECT_EQ(windows(0, 10, 40).count(), 0);
}

TEST(Sequences, RunsAndSharesCoverEverySequenceOnce) {
  const Sequences text = random_sequences(17);
  int64_t next = 0, row = 0;
  for (const SequenceRun& run : runs_of(text, 50)) {
    EXPECT_EQ(run.first, next);
    EXPECT_EQ(run.row, row);
    for (int w = 0; w < 3; ++w) {
      const SequenceRun share = share_of(text, run, w, 3);
      EXPECT_EQ(share.first, next);
      EXPECT_EQ(share.row, row);
      EXPECT_EQ(static_cast<int64_t>(tokens_of(text, share).size()), share.rows);
      int64_t rows = 0;
      for (const auto& segment : segments_of(text, share)) {
        EXPECT_EQ(segment.row, rows);
        rows += segment.rows;
      }
      EXPECT_EQ(rows, share.rows);
      next += share.count, row += share.rows;
    }
  }
  EXPECT_EQ(next, text.count());
  EXPECT_EQ(row, text.rows());
}

}  // namespace
}  // namespace qtf::compress
