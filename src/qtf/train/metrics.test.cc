#include "qtf/train/metrics.h"

#include <gtest/gtest.h>

#include <fstream>

#include "qtf/base/error.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

TEST(Metrics, AppendsLinesAndCountsBytes) {
  const TemporaryFolder folder;
  MetricsFile file(folder.path(), 0);
  file.write({{"event", "step"}, {"step", 1}});
  EXPECT_EQ(read_file(folder / "metrics.jsonl"), "{\"event\":\"step\",\"step\":1}\n") << "not flushed";
  file.write({{"loss", 0.5}});
  const std::string lines = "{\"event\":\"step\",\"step\":1}\n{\"loss\":0.5}\n";
  EXPECT_EQ(read_file(folder / "metrics.jsonl"), lines);
  EXPECT_EQ(file.bytes(), static_cast<int64_t>(lines.size()));
}

TEST(Metrics, CutsAnOlderFileButNeverPadsIt) {
  const struct {
    int64_t keep;
    std::string kept;
  } cases[] = {{0, ""}, {4, "old\n"}, {8, "old\nnew\n"}, {100, "old\nnew\n"}};
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    write_file_atomically(folder / "metrics.jsonl", "old\nnew\n");
    MetricsFile file(folder.path(), c.keep);
    EXPECT_EQ(file.bytes(), static_cast<int64_t>(c.kept.size()));
    file.write({{"a", 1}});
    EXPECT_EQ(read_file(folder / "metrics.jsonl"), c.kept + "{\"a\":1}\n");
    EXPECT_EQ(file.bytes(), static_cast<int64_t>(c.kept.size()) + 8);
  }
}

TEST(Metrics, SaysWhatCannotBeWritten) {
  const TemporaryFolder folder;
  const std::string error = error_of<IoError>([&] { MetricsFile(folder / "missing", 0); });
  EXPECT_NE(error.find("metrics.jsonl"), std::string::npos) << error;
  std::filesystem::create_symlink("/dev/full", folder / "metrics.jsonl");
  // Whether the device refuses to be cut or to be written to, the file is named.
  const std::string full = error_of<IoError>([&] { MetricsFile(folder.path(), 0).write({{"a", 1}}); });
  EXPECT_NE(full.find("metrics.jsonl"), std::string::npos) << full;
}

}  // namespace
}  // namespace qtf::train
