// Ctrl-C and SIGTERM as a flag, for commands that leave something whole behind when they are stopped.
#pragma once

#include <signal.h>

#include <atomic>

namespace qtf::cli {

/// While it lives, Ctrl-C and SIGTERM ask the command to end; a second one ends the process at once. Then
/// what the process did with them before is back: Python has handlers of its own. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal's number, or 0.
  const std::atomic<int>& number() const;

 private:
  struct sigaction interrupt_, terminate_;  // as they were
};

/// While it lives, SIGHUP asks for what a program reads to be read again. One at a time.
class ReloadSignal {
 public:
  ReloadSignal();
  ~ReloadSignal();
  ReloadSignal(const ReloadSignal&) = delete;
  ReloadSignal& operator=(const ReloadSignal&) = delete;

  /// Whether one came since the last call.
  bool take() const;
};

}  // namespace qtf::cli
