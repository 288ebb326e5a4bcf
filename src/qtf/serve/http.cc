#include "qtf/serve/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <type_traits>

#include "qtf/base/error.h"

namespace qtf::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using Error = beast::error_code;

namespace {

constexpr std::pair<int, std::string_view> kStatusTexts[] = {
    {200, "OK"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Payload Too Large"},
    {415, "Unsupported Media Type"},
    {421, "Misdirected Request"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {503, "Service Unavailable"},
};

/// %41 is A; what is no such code stays.
std::string decode_percent(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(16 * digit(text[i + 1]) + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return out;
}

HttpRequest to_request(http::request<http::string_body>&& from, bool loopback) {
  HttpRequest request;
  request.method = std::string(from.method_string());
  const std::string_view target(from.target().data(), from.target().size());
  const size_t mark = std::min(target.find('?'), target.size());
  request.path = decode_percent(target.substr(0, mark));
  request.query = target.substr(std::min(mark + 1, target.size()));
  for (const auto& field : from)
    request.headers[lower_case({field.name_string().data(), field.name_string().size()})] =
        std::string(field.value());
  request.body = std::move(from.body());
  request.loopback = loopback;
  return request;
}

/// Status line and headers; `length` of the body, negative: it comes in chunks.
std::string head_text(const HttpAnswer& answer, int64_t length, bool keep_alive) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", answer.status, status_text(answer.status));
  if (!answer.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", answer.content_type);
  for (const auto& [name, value] : answer.headers) text += fmt::format("{}: {}\r\n", name, value);
  text += length < 0 ? std::string("Transfer-Encoding: chunked\r\n")
                     : fmt::format("Content-Length: {}\r\n", length);
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

/// The answer to what is no HTTP, or too much of it.
HttpAnswer refusal(const Error& error) {
  const auto answer = [](int status, std::string_view what) {
    return HttpAnswer{
        .status = status,
        .body = fmt::format(
            R"({{"error":{{"message":"{}","type":"invalid_request_error","param":null,"code":null}}}})",
            what)};
  };
  if (error == http::error::body_limit) return answer(413, "the body is too large");
  if (error == http::error::header_limit) return answer(431, "the headers are too large");
  return answer(400, "this is not an HTTP/1.1 request");
}

/// What connections share. Outlives them all.
struct Shared {
  HttpOptions options;
  HttpHandler handler;
  std::optional<asio::ssl::context> tls;

  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  bool closing = false;
  int64_t connections = 0;
  /// Each connection's way to be closed when it waits for a request.
  std::set<const std::function<void()>*> closers;
};

/// One caller's connection; everything but its replies' calls runs on its strand. A request is read, handled
/// and answered before the next is read.
template <class Stream>
class Connection : public std::enable_shared_from_this<Connection<Stream>> {
 public:
  Connection(tcp::socket&& socket, Shared& shared, bool loopback)
      : shared_(shared),
        loopback_(loopback),
        stream_(make_stream(std::move(socket), shared)),
        deadline_(stream_.get_executor()) {
    const std::lock_guard lock(shared_.mutex);
    ++shared_.connections;
  }

  ~Connection() {
    const std::lock_guard lock(shared_.mutex);
    --shared_.connections;
    shared_.closers.erase(&closer_);
    shared_.changed.notify_all();
  }

  void start() {
    closer_ = [weak = this->weak_from_this()] {
      if (const auto self = weak.lock())
        self->on_strand([](Connection& connection) {
          if (!connection.busy_) connection.shut();
        });
    };
    {
      const std::lock_guard lock(shared_.mutex);
      shared_.closers.insert(&closer_);
    }
    if constexpr (kTls) {
      arm();
      stream_.async_handshake(asio::ssl::stream_base::server, handler([](Connection& self, Error error) {
                                if (!error) self.read();
                              }));
    } else {
      on_strand([](Connection& self) { self.read(); });
    }
  }

  // What a Reply calls, on any thread.

  void send(HttpAnswer&& answer) {
    on_strand([answer = std::move(answer)](Connection& self) {
      const bool keep = self.keep_alive_ && !self.is_closing();
      self.queue(head_text(answer, static_cast<int64_t>(answer.body.size()), keep) +
                 (self.head_only_ ? std::string() : answer.body));
      self.finish();
    });
  }
  void begin(HttpAnswer&& answer) {
    on_strand([answer = std::move(answer)](Connection& self) {
      self.queue(head_text(answer, -1, self.keep_alive_ && !self.is_closing()));
    });
    if (!answer.body.empty()) write(std::move(answer.body));
  }
  void write(std::string&& piece) {
    if (piece.empty()) return;  // would end the chunks
    on_strand([piece = std::move(piece)](Connection& self) {
      self.queue(fmt::format("{:x}\r\n{}\r\n", piece.size(), piece));
    });
  }
  void end() {
    on_strand([](Connection& self) {
      self.queue("0\r\n\r\n");
      self.finish();
    });
  }
  void on_gone(std::function<void()>&& gone) {
    on_strand([gone = std::move(gone)](Connection& self) mutable {
      if (self.gone_) return gone();
      if (self.busy_) self.tell_gone_ = std::move(gone);
    });
  }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, beast::tcp_stream>;

  static Stream make_stream(tcp::socket&& socket, Shared& shared) {
    if constexpr (kTls) {
      return Stream(std::move(socket), *shared.tls);
    } else {
      return Stream(std::move(socket));
    }
  }

  template <class F>
  void on_strand(F&& call) {
    asio::dispatch(stream_.get_executor(), [self = this->shared_from_this(),
                                            call = std::forward<F>(call)]() mutable { call(*self); });
  }

  /// A completion handler that keeps the connection alive.
  template <class F>
  auto handler(F call) {
    return [self = this->shared_from_this(), call](Error error, auto&&... size) {
      call(*self, error, static_cast<size_t>(size)...);
    };
  }

  bool is_closing() const {
    const std::lock_guard lock(shared_.mutex);
    return shared_.closing;
  }

  /// From now on the connection has options.seconds for what it does next.
  void arm() {
    deadline_.expires_after(std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(shared_.options.seconds)));
    deadline_.async_wait([weak = this->weak_from_this()](Error error) {
      const auto self = weak.lock();
      if (self && !error) self->shut();
    });
  }
  void disarm() { deadline_.cancel(); }

  void read() {
    busy_ = false;
    if (is_closing()) return shut();
    parser_.emplace();
    parser_->body_limit(static_cast<uint64_t>(shared_.options.body_bytes));
    parser_->header_limit(static_cast<uint32_t>(shared_.options.header_bytes));
    arm();
    http::async_read(stream_, buffer_, *parser_,
                     handler([](Connection& self, Error error, size_t) { self.on_request(error); }));
  }

  void on_request(Error error);

  /// While a request is answered: to see that the caller hangs up. What it sends is kept for later.
  void watch() {
    watching_ = true;
    stream_.async_read_some(buffer_.prepare(512), handler([](Connection& self, Error error, size_t size) {
                              self.watching_ = false;
                              if (error) return self.shut();
                              self.buffer_.commit(size);
                              if (!self.busy_) self.read();
                            }));
  }

  void queue(std::string&& bytes) {
    if (gone_) return;
    unsent_bytes_ += static_cast<int64_t>(bytes.size());
    unsent_.push_back(std::move(bytes));
    if (unsent_bytes_ > shared_.options.unsent_bytes + static_cast<int64_t>(unsent_.front().size()))
      return shut();  // a reader who is too slow
    if (unsent_.size() == 1) write_next();
  }

  void write_next() {
    arm();
    asio::async_write(stream_, asio::buffer(unsent_.front()),
                      handler([](Connection& self, Error error, size_t) { self.on_written(error); }));
  }

  void on_written(Error error) {
    if (error) return shut();
    disarm();
    unsent_bytes_ -= static_cast<int64_t>(unsent_.front().size());
    unsent_.pop_front();
    if (!unsent_.empty()) return write_next();
    if (finished_) next_request();
  }

  /// The answer is complete but for what is unsent.
  void finish() {
    finished_ = true;
    if (unsent_.empty() && !gone_) next_request();
  }

  void next_request() {
    finished_ = false;
    tell_gone_ = nullptr;
    if (!keep_alive_) return shut();
    busy_ = false;
    if (is_closing()) return shut();
    if (watching_) {
      arm();  // watch() goes on to read()
    } else {
      read();
    }
  }

  /// Closes; whoever answers is told.
  void shut() {
    if (gone_) return;
    gone_ = true;
    deadline_.cancel();
    Error ignored;
    auto& socket = beast::get_lowest_layer(stream_).socket();
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    socket.close(ignored);
    if (const auto tell = std::exchange(tell_gone_, nullptr)) tell();
  }

  Shared& shared_;
  const bool loopback_;
  Stream stream_;
  asio::steady_timer deadline_;
  std::function<void()> closer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  bool keep_alive_ = false, head_only_ = false;
  bool busy_ = false;  ///< a request is being answered
  bool watching_ = false, finished_ = false, gone_ = false;
  std::function<void()> tell_gone_;
  std::deque<std::string> unsent_;
  int64_t unsent_bytes_ = 0;
};

/// The reply to one request. What its holder drops without an answer is answered by 500.
template <class Stream>
class ConnectionReply final : public Reply {
 public:
  explicit ConnectionReply(std::shared_ptr<Connection<Stream>> connection)
      : connection_(std::move(connection)) {}
  ~ConnectionReply() override {
    if (!begun_) {
      connection_->send({.status = 500,
                         .body = R"({"error":{"message":"no answer was made","type":"server_error",)"
                                 R"("param":null,"code":null}})"});
    } else if (!ended_) {
      connection_->end();
    }
  }
  void send(HttpAnswer answer) override {
    begun_ = ended_ = true;
    connection_->send(std::move(answer));
  }
  void begin(HttpAnswer answer) override {
    begun_ = true;
    connection_->begin(std::move(answer));
  }
  void write(std::string piece) override { connection_->write(std::move(piece)); }
  void end() override {
    ended_ = true;
    connection_->end();
  }
  void on_gone(std::function<void()> gone) override { connection_->on_gone(std::move(gone)); }

 private:
  std::shared_ptr<Connection<Stream>> connection_;
  std::atomic<bool> begun_ = false, ended_ = false;
};

template <class Stream>
void Connection<Stream>::on_request(Error error) {
  disarm();
  if (error == http::error::end_of_stream || gone_) return shut();
  busy_ = true;
  if (error) {
    if (error.category() != http::make_error_code(http::error::bad_method).category()) return shut();
    keep_alive_ = head_only_ = false;
    return send(refusal(error));
  }
  auto request = parser_->release();
  keep_alive_ = request.keep_alive();
  head_only_ = request.method() == http::verb::head;
  if (buffer_.size() == 0) watch();
  shared_.handler(to_request(std::move(request), loopback_),
                  std::make_shared<ConnectionReply<Stream>>(this->shared_from_this()));
}

}  // namespace

std::string_view status_text(int status) {
  const auto* found = std::ranges::find(kStatusTexts, status, &std::pair<int, std::string_view>::first);
  return found == std::end(kStatusTexts) ? std::string_view("Status") : found->second;
}

struct HttpServer::State {
  State(const HttpOptions& options, HttpHandler&& handler) : acceptor(asio::make_strand(context)) {
    shared.options = options;
    shared.handler = std::move(handler);
    if (!options.certificate.empty()) load_certificate();
    listen();
    accept();
    for (int i = 0; i < std::max(1, options.threads); ++i) threads.emplace_back([this] { context.run(); });
  }
  ~State() {
    context.stop();
    threads.clear();
  }

  void load_certificate() {
    auto& tls = shared.tls.emplace(asio::ssl::context::tls_server);
    Error error;
    tls.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, error);
    tls.use_certificate_chain_file(shared.options.certificate, error);
    if (error) {
      throw_input_error("serve", "'{}' is no PEM file of a certificate chain: {}", shared.options.certificate,
                        error.message());
    }
    tls.use_private_key_file(shared.options.key, asio::ssl::context::pem, error);
    if (error) {
      throw_input_error("serve", "'{}' is no PEM file of that certificate's key: {}", shared.options.key,
                        error.message());
    }
  }

  void listen() {
    const HttpOptions& options = shared.options;
    Error error;
    const auto address =
        asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
    if (error) {
      throw_input_error("serve", "'{}' is no IP address; give one of this machine's, such as 127.0.0.1",
                        options.host);
    }
    const tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw_input_error("serve", "cannot listen on {} port {}: {}; choose another --port", options.host,
                        options.port, error.message());
    }
    port = acceptor.local_endpoint().port();
  }

  void accept() {
    acceptor.async_accept(asio::make_strand(context), [this](Error error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
      if (!error) welcome(std::move(socket));
      accept();
    });
  }

  void welcome(tcp::socket&& socket) {
    {
      const std::lock_guard lock(shared.mutex);
      if (shared.closing || shared.connections >= shared.options.connections) return;  // closes it
    }
    Error error;
    const auto peer = socket.remote_endpoint(error);
    if (error) return;
    socket.set_option(tcp::no_delay(true), error);
    const bool loopback = peer.address().is_loopback();
    if (shared.tls) {
      std::make_shared<Connection<beast::ssl_stream<beast::tcp_stream>>>(std::move(socket), shared, loopback)
          ->start();
    } else {
      std::make_shared<Connection<beast::tcp_stream>>(std::move(socket), shared, loopback)->start();
    }
  }

  Shared shared;  // before the context, whose end closes the connections
  asio::io_context context;
  tcp::acceptor acceptor;
  int port = 0;
  std::vector<std::jthread> threads;
};

HttpServer::HttpServer(const HttpOptions& options, HttpHandler handler)
    : state_(std::make_unique<State>(options, std::move(handler))) {}
HttpServer::~HttpServer() = default;

int HttpServer::port() const {
  return state_->port;
}

void HttpServer::close() {
  asio::dispatch(state_->acceptor.get_executor(), [state = state_.get()] {
    Error ignored;
    state->acceptor.close(ignored);
  });
  std::vector<std::function<void()>> closers;
  {
    const std::lock_guard lock(state_->shared.mutex);
    state_->shared.closing = true;
    for (const auto* closer : state_->shared.closers) closers.push_back(*closer);
  }
  for (const auto& closer : closers) closer();
}

bool HttpServer::wait(double seconds) {
  std::unique_lock lock(state_->shared.mutex);
  return state_->shared.changed.wait_for(lock, std::chrono::duration<double>(seconds),
                                         [&] { return state_->shared.connections == 0; });
}

}  // namespace qtf::serve
