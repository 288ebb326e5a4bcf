// A real HTTP server for tests of the chat client, which answers one connection after the other as it is
// told: any bytes, in pieces, slowly, or never.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

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
      : script_(std::move(script)) {
    socket_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    listen(socket_, 16);
    socklen_t size = sizeof(address);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeChatServer() {
    stop_ = true;
    thread_.join();
    close(socket_);
  }
  FakeChatServer(const FakeChatServer&) = delete;
  FakeChatServer& operator=(const FakeChatServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  int port() const { return port_; }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (!stop_) {
      pollfd ready{socket_, POLLIN, 0};
      if (poll(&ready, 1, 5) <= 0) continue;
      const int connection = accept(socket_, nullptr, nullptr);
      if (connection < 0) continue;
      const std::string request = read_request(connection);
      int number = 0;
      {
        const std::lock_guard lock(mutex_);
        number = static_cast<int>(requests_.size());
        requests_.push_back(request);
      }
      play(connection, script_(number, request));
      close(connection);
    }
  }

  std::string read_request(int connection) const {
    std::string request;
    char buffer[4096];
    while (!stop_) {
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
    for (size_t at = 0; at < script.bytes.size() && !stop_; at += piece) {
      const std::string part = script.bytes.substr(at, piece);
      if (send(connection, part.data(), part.size(), MSG_NOSIGNAL) < 0) return;
      if (script.pause.count() > 0) std::this_thread::sleep_for(script.pause);
    }
    const auto end = std::chrono::steady_clock::now() + script.hold;
    while (!stop_ && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }

  std::function<Script(int, const std::string&)> script_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::atomic<bool> stop_ = false;
  int socket_ = -1, port_ = 0;
  std::thread thread_;
};

}  // namespace qtf::explain
