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
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, receive);
}

StopSignal::~StopSignal() {
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
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
