// A progress bar on a terminal; plain lines, at most one every few seconds, where it is none; or whatever a
// listener makes of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace qtf {

/// How far a piece of work is.
struct ProgressReport {
  std::string label;
  int64_t done = 0, total = 0;  ///< units of work; total 0: not known
  std::string status;           ///< free text, such as "loss 3.21"
};

/// While it lives, what its thread would draw is told to a function instead: for programs that show progress
/// in their own way. What the function throws comes out of Progress::update. One at a time in a thread.
class ProgressListener {
 public:
  using Listen = std::function<void(const ProgressReport&)>;
  explicit ProgressListener(Listen listen);
  ~ProgressListener();
  ProgressListener(const ProgressListener&) = delete;
  ProgressListener& operator=(const ProgressListener&) = delete;

 private:
  Listen listen_;
};

/// Says on stderr what goes on where there is no measure of how far it is.
void tell_progress(const std::string& label, const std::string& status);

/// Shows `label  42% |████      | status  ETA 0:12` on stderr. update() may be called at any rate: drawing is
/// limited to ten times a second on a terminal and once every five seconds elsewhere.
class Progress {
 public:
  /// total: units of work (> 0).
  Progress(std::string label, int64_t total, std::FILE* out = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// done: units finished in all; status: free text, such as "loss 3.21".
  void update(int64_t done, const std::string& status = {});
  /// Prints a whole line without spoiling the bar.
  void line(const std::string& text);
  /// Draws the last state and ends the line. Called by the destructor if not before.
  void finish();

  /// Units that were already done at the start (a resumed run), left out of the ETA's rate.
  void start_at(int64_t done);

 private:
  void draw();
  std::string time_text() const;

  std::string label_;
  int64_t total_;
  int64_t start_ = 0;
  int64_t done_ = 0;
  std::string status_;
  std::FILE* out_;
  bool terminal_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point drawn_;
};

/// "1:02:03", "4:05".
std::string format_duration(double seconds);

}  // namespace qtf
