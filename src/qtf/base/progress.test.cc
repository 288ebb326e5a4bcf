#include "qtf/base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>

#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf {
namespace {

/// What a program prints into a file.
class PlainOutput {
 public:
  std::FILE* file() { return file_.get(); }
  std::string text() {
    std::fflush(file());
    return read_file(folder_ / "out");
  }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::fopen((folder_ / "out").c_str(), "w"),
                                                        std::fclose};
};

/// What a program prints on a terminal of a given width.
class TerminalOutput {
 public:
  explicit TerminalOutput(int columns) {
    setenv("TERM", "xterm", 1);
    master_ = posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) return;
    file_ = std::fopen(ptsname(master_), "w");
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    ioctl(master_, TIOCSWINSZ, &size);
  }
  ~TerminalOutput() {
    if (file_) std::fclose(file_);
    if (master_ >= 0) close(master_);
  }
  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    // The terminal hands its output over in pieces; a moment of silence is its end.
    constexpr int kSilenceMs = 200;
    std::string result;
    pollfd ready{master_, POLLIN, 0};
    char piece[4096];
    while (poll(&ready, 1, kSilenceMs) == 1 && (ready.revents & POLLIN)) {
      const ssize_t size = read(master_, piece, sizeof piece);
      if (size <= 0) break;
      result.append(piece, static_cast<size_t>(size));
    }
    return result;
  }

 private:
  int master_ = -1;
  std::FILE* file_ = nullptr;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Progress, PlainLinesAreFew) {
  PlainOutput out;
  {
    Progress progress("train", 1000, out.file());
    for (int i = 1; i <= 1000; ++i) progress.update(i, "loss 3.21");
  }
  EXPECT_EQ(out.text(), "train 100%  loss 3.21  in 0:00\n");
}

TEST(Progress, LinesPassThrough) {
  PlainOutput out;
  Progress progress("train", 10, out.file());
  progress.line("saved");
  progress.update(4);
  progress.finish();
  progress.finish();
  EXPECT_EQ(out.text(), "saved\ntrain  40%  in 0:00\n");
}

TEST(Progress, BarOnATerminal) {
  TerminalOutput out(60);
  if (!out.file()) GTEST_SKIP() << "skipped: no pseudo-terminals here";
  {
    Progress progress("train", 16, out.file());
    progress.update(5, "loss 3.21");
    progress.line("saved");
  }
  const std::string text = out.text();
  EXPECT_TRUE(has(text, "train  31% |")) << text;
  EXPECT_TRUE(has(text, "█")) << text;
  EXPECT_TRUE(has(text, "\r\033[Ksaved\r\n")) << text;
  EXPECT_TRUE(text.ends_with("loss 3.21  in 0:00\r\n")) << text;
}

TEST(Progress, NarrowTerminalsCutTheText) {
  TerminalOutput out(12);
  if (!out.file()) GTEST_SKIP() << "skipped: no pseudo-terminals here";
  { Progress progress("éééééééééééééééé", 10, out.file()); }
  EXPECT_EQ(out.text(), "\r\033[Kééééééééééé\r\n");
}

TEST(Progress, OddCountsAreHarmless) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (auto [total, done] :
       {std::pair<int64_t, int64_t>{10, 25}, {0, 0}, {-3, 5}, {10, -4}, {kMost, kMost}, {1, kMost}}) {
    TerminalOutput out(60);
    if (!out.file()) GTEST_SKIP() << "skipped: no pseudo-terminals here";
    Progress progress("x", total, out.file());
    progress.update(done);
    progress.finish();
    const std::string text = out.text();
    EXPECT_TRUE(has(text, done >= std::max<int64_t>(total, 1) ? "100%" : "  0%"))
        << total << " " << done << text;
  }
}

TEST(Progress, ResumedRunsDoNotFlatterTheEta) {
  TerminalOutput out(80);
  if (!out.file()) GTEST_SKIP() << "skipped: no pseudo-terminals here";
  Progress progress("train", 1000, out.file());
  progress.start_at(990);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  progress.update(991);  // 1 in 0.5 s, 9 to go: not the tenth of a second that 991 in 0.5 s would give
  const std::string text = out.text();
  EXPECT_TRUE(has(text, "ETA ") && !has(text, "ETA 0:00")) << text;
}

TEST(FormatDuration, ReadsLikeAClock) {
  const std::pair<double, const char*> cases[] = {
      {0, "0:00"},          {245, "4:05"}, {3599.6, "1:00:00"}, {3723, "1:02:03"},
      {100000, "27:46:40"}, {-1, "?"},     {1.0 / 0.0, "?"},    {std::nan(""), "?"},
  };
  for (const auto& [seconds, text] : cases) EXPECT_EQ(format_duration(seconds), text);
}

TEST(ProgressListener, HearsWhatWouldBeDrawn) {
  PlainOutput out;
  std::vector<ProgressReport> heard;
  {
    const ProgressListener listener([&](const ProgressReport& report) { heard.push_back(report); });
    Progress progress("train", 10, out.file());
    progress.update(3, "loss 2");
    progress.update(4, "loss 1");  // too soon
    progress.line("a note");
    tell_progress("budget", "probing");
  }
  Progress("later", 1, out.file()).finish();
  ASSERT_EQ(heard.size(), 4u);
  EXPECT_EQ(heard[0].label, "train");
  EXPECT_EQ(heard[0].done, 3);
  EXPECT_EQ(heard[0].total, 10);
  EXPECT_EQ(heard[0].status, "loss 2");
  EXPECT_EQ(heard[1].status, "a note");
  EXPECT_EQ(heard[2].label, "budget");
  EXPECT_EQ(heard[2].total, 0);
  EXPECT_EQ(heard[3].status, "loss 1");
  EXPECT_EQ(out.text().find("train"), std::string::npos);
  EXPECT_NE(out.text().find("later"), std::string::npos);
}

TEST(ProgressListener, MayStopTheWork) {
  const ProgressListener listener([](const ProgressReport&) { throw std::runtime_error("enough"); });
  Progress progress("train", 10);
  EXPECT_THROW(progress.update(1), std::runtime_error);
}

}  // namespace
}  // namespace qtf
