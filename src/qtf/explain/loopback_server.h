// A socket of this machine that hands one connection after the other to a function: what the tests' servers
// stand on.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

namespace qtf::explain {

class LoopbackServer {
 public:
  /// serve(connection) runs on a thread of its own; the connection is closed after it.
  explicit LoopbackServer(std::function<void(int connection)> serve) : serve_(std::move(serve)) {
    socket_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    listen(socket_, 16);
    socklen_t size = sizeof(address);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~LoopbackServer() {
    stop_ = true;
    thread_.join();
    close(socket_);
  }
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  int port() const { return port_; }
  bool stopping() const { return stop_; }
  /// Of the base of a chat API.
  std::string url(const char* scheme) const {
    return std::string(scheme) + "://127.0.0.1:" + std::to_string(port_) + "/v1";
  }

 private:
  void run() {
    while (!stop_) {
      pollfd ready{socket_, POLLIN, 0};
      if (poll(&ready, 1, 5) <= 0) continue;
      const int connection = accept(socket_, nullptr, nullptr);
      if (connection < 0) continue;
      serve_(connection);
      close(connection);
    }
  }

  std::function<void(int)> serve_;
  std::atomic<bool> stop_ = false;
  int socket_ = -1, port_ = 0;
  std::thread thread_;
};

}  // namespace qtf::explain
