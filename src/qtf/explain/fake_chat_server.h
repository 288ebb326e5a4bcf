// A real HTTP server for tests of the chat client, which answers one connection after the other as it is
// told: any bytes, in pieces, slowly, or never.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qtf/explain/loopback_server.h"

namespace qtf::explain {

/// What the server does with one request.
struct Script {
  std::string bytes;                   ///< sent as they are
  size_t piece = 0;                    ///< bytes sent together; 0: all
  std::chrono::milliseconds pause{0};  ///< between pieces
  std::chrono::milliseconds hold{0};   ///< before it closes the connection
};

class FakeChatServer {
 public:
  /// script(n, request): for the n-th request, from 0.
  explicit FakeChatServer(std::function<Script(int, const std::string&)> script)
      : script_(std::move(script)), server_([this](int connection) { serve(connection); }) {}

  std::string url() const { return server_.url("http"); }
  int port() const { return server_.port(); }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve(int connection) {
    const std::string request = read_request(connection);
    int number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = static_cast<int>(requests_.size());
      requests_.push_back(request);
    }
    play(connection, script_(number, request));
  }

  std::string read_request(int connection) const {
    std::string request;
    char buffer[4096];
    while (!server_.stopping()) {
      const size_t head = request.find("\r\n\r\n");
      if (head != std::string::npos) {
        const size_t at = request.find("Content-Length: ");
        const size_t length = at < head ? std::stoul(request.substr(at + 16)) : 0;
        if (request.size() >= head + 4 + length) break;
      }
      pollfd ready{connection, POLLIN, 0};
      if (poll(&ready, 1, 50) <= 0) continue;
      const ssize_t n = read(connection, buffer, sizeof(buffer));
      if (n <= 0) break;
      request.append(buffer, static_cast<size_t>(n));
    }
    return request;
  }

  void play(int connection, const Script& script) const {
    const size_t piece = script.piece ? script.piece : std::max<size_t>(1, script.bytes.size());
    for (size_t at = 0; at < script.bytes.size() && !server_.stopping(); at += piece) {
      const std::string part = script.bytes.substr(at, piece);
      if (send(connection, part.data(), part.size(), MSG_NOSIGNAL) < 0) return;
      if (script.pause.count() > 0) std::this_thread::sleep_for(script.pause);
    }
    const auto end = std::chrono::steady_clock::now() + script.hold;
    while (!server_.stopping() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }

  std::function<Script(int, const std::string&)> script_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  LoopbackServer server_;  // last: its thread uses all of the above
};

}  // namespace qtf::explain
