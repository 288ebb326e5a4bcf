// Ctrl-C and SIGTERM as a flag, for commands that leave something whole behind when they are stopped.
#pragma once

#include <atomic>

namespace qtf::cli {

/// While it lives, Ctrl-C and SIGTERM ask the command to end; a second one ends the process at once. One at a
/// time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal's number, or 0.
  const std::atomic<int>& number() const;
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
