#include "qtf/cli/stop_signal.h"

#include <csignal>

namespace qtf::cli {

namespace {

std::atomic<int> received{0};
std::atomic<bool> hung_up{false};

void receive(int signal) {
  received = signal;
  std::signal(signal, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  received = 0;
  struct sigaction action {};
  action.sa_handler = receive;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &interrupt_);
  sigaction(SIGTERM, &action, &terminate_);
}

StopSignal::~StopSignal() {
  sigaction(SIGINT, &interrupt_, nullptr);
  sigaction(SIGTERM, &terminate_, nullptr);
}

const std::atomic<int>& StopSignal::number() const {
  return received;
}

ReloadSignal::ReloadSignal() {
  hung_up = false;
  std::signal(SIGHUP, [](int) { hung_up = true; });
}

ReloadSignal::~ReloadSignal() {
  std::signal(SIGHUP, SIG_DFL);
}

bool ReloadSignal::take() const {
  return hung_up.exchange(false);
}

}  // namespace qtf::cli
