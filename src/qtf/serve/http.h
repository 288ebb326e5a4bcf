// HTTP/1.1 as plain structs: requests in, answers or streams out. http.cc alone knows Boost.Beast.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qtf::serve {

struct HttpRequest {
  std::string method;
  std::string path;                                              ///< decoded, without the query
  std::string query = {};                                        ///< as sent
  std::map<std::string, std::string, std::less<>> headers = {};  ///< names in lower case
  std::string body = {};
  bool loopback = true;  ///< the caller's address is this machine's own

  /// Empty if there is none.
  std::string_view header(std::string_view name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
  }
};

struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// The way back to one caller. Used once: send(), or begin(), any number of write() and end(). Every member
/// may be called on any thread and returns at once.
class Reply {
 public:
  virtual ~Reply() = default;
  virtual void send(HttpAnswer answer) = 0;
  /// Begins a stream of the answer's headers and body, in chunks.
  virtual void begin(HttpAnswer answer) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  /// Calls `gone` if the caller hangs up, or reads so slowly that too much waits for it; at once if it has.
  virtual void on_gone(std::function<void()> gone) = 0;
};

using HttpHandler = std::function<void(const HttpRequest& request, std::shared_ptr<Reply> reply)>;

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  ///< 0: any free one
  int threads = 1;  ///< that read, parse and write; the handler runs on them
  int64_t body_bytes = int64_t{1} << 20;
  int64_t header_bytes = int64_t{16} << 10;
  int64_t unsent_bytes = int64_t{1} << 20;  ///< of a stream, for one caller
  double seconds = 30;                      ///< to send a request, to take an answer's next piece, or idle
  int64_t connections = 1024;
  std::string certificate = {};  ///< PEM files: https instead of http
  std::string key = {};
};

class HttpServer {
 public:
  /// Listens from now on. Throws InputError for an address that is none, a port in use, or a certificate that
  /// does not fit; handler must not throw.
  HttpServer(const HttpOptions& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  /// Takes no new connections; those that wait for a request are closed, others after their answer.
  void close();
  /// Waits until the last connection is closed, at most `seconds`; false if some were not.
  bool wait(double seconds);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The reason that goes with a status code.
std::string_view status_text(int status);

}  // namespace qtf::serve
