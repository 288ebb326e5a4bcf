#include "qtf/serve/http.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "qtf/base/error.h"

namespace qtf::serve {
namespace {

using namespace std::chrono_literals;

/// A socket to a server of this machine, that says and reads bytes as they are.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void say(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  /// Until the text holds `end`, the server hangs up, or ten seconds passed.
  std::string hear(std::string_view end) {
    const auto until = std::chrono::steady_clock::now() + 10s;
    size_t found = heard_.find(end);
    while (found == std::string::npos && std::chrono::steady_clock::now() < until && !hung_up_) {
      pollfd poll_one{socket_, POLLIN, 0};
      if (::poll(&poll_one, 1, 100) <= 0) continue;
      char bytes[4096];
      const ssize_t size = ::recv(socket_, bytes, sizeof(bytes), 0);
      if (size <= 0) hung_up_ = true;
      if (size > 0) heard_.append(bytes, static_cast<size_t>(size));
      found = heard_.find(end);
    }
    const size_t size = found == std::string::npos ? heard_.size() : found + end.size();
    std::string text = heard_.substr(0, size);
    heard_.erase(0, size);
    return text;
  }
  /// All until the server hangs up; nothing if it did not.
  std::optional<std::string> hear_all() {
    std::string text = hear("\1never\1");
    return hung_up_ ? std::optional(text) : std::nullopt;
  }

 private:
  int socket_;
  bool connected_ = false, hung_up_ = false;
  std::string heard_;
};

/// Counts to a number, waited for.
class Counter {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  bool wait(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return count_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

/// Tells what it was asked.
void echo(const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
  reply->send({.content_type = "text/plain",
               .body = fmt::format("{} {}?{} [{}] {}!", request.method, request.path, request.query,
                                   request.header("x-one"), request.body)});
}

constexpr std::string_view kGet = "GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-One: 1\r\n\r\n";

TEST(Http, AnswersRequestsOnOneConnection) {
  HttpServer server({.port = 0}, echo);
  Client client(server.port());
  client.say(kGet);
  const std::string answer = client.hear("!");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nGET /a b?c=d [1] !")) << answer;
  client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_TRUE(client.hear("!").ends_with("POST /? [] hi!"));
  client.say("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::optional<std::string> head = client.hear_all();
  ASSERT_TRUE(head);
  EXPECT_TRUE(head->ends_with("Connection: close\r\n\r\n")) << *head;
}

TEST(Http, AnswersRequestsThatComeTogetherInOrder) {
  HttpServer server({.port = 0}, echo);
  Client client(server.port());
  client.say(std::string(kGet) + "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n" + "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(client.hear("!").ends_with("GET /a b?c=d [1] !"));
  EXPECT_TRUE(client.hear("] !").ends_with("GET /2? [] !"));
  EXPECT_TRUE(client.hear("] !").ends_with("GET /3? [] !"));
}

TEST(Http, TakesARequestThatComesWhileItAnswers) {
  Counter asked;
  std::shared_ptr<Reply> first;
  HttpServer server({.port = 0}, [&](const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
    if (request.path == "/1") {
      first = reply;
    } else {
      reply->send({.body = "second"});
    }
    asked.add();
  });
  Client client(server.port());
  client.say("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(asked.wait(1));
  client.say("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(50ms);
  first->send({.body = "first"});
  first.reset();
  EXPECT_TRUE(client.hear("first").ends_with("first"));
  EXPECT_TRUE(client.hear("second").ends_with("second"));
}

TEST(Http, StreamsInChunks) {
  HttpServer server({.port = 0}, [](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
    reply->begin({.content_type = "text/event-stream"});
    reply->write("one\n");
    reply->write("");  // would end the chunks
    reply->write(std::string(20, 'x'));
    reply->end();
  });
  Client client(server.port());
  client.say(kGet);
  const std::string answer = client.hear("0\r\n\r\n");
  EXPECT_NE(answer.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("4\r\none\n\r\n14\r\nxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n")) << answer;
  client.say(kGet);
  EXPECT_FALSE(client.hear("0\r\n\r\n").empty());
}

struct BadRequest {
  std::string bytes;
  std::string_view answer;
};

TEST(Http, RefusesWhatIsNoRequest) {
  HttpServer server({.port = 0, .body_bytes = 100, .header_bytes = 1000}, echo);
  const BadRequest bad[] = {
      {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
      {"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400 "},
      {std::string("GET /\0 HTTP/1.1\r\n\r\n", 19), "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n", "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", "HTTP/1.1 413 "},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + std::string(255, 'x'),
       "HTTP/1.1 413 "},
      {"GET / HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n", "HTTP/1.1 431 "},
  };
  for (const BadRequest& request : bad) {
    Client client(server.port());
    client.say(request.bytes);
    const std::optional<std::string> answer = client.hear_all();
    ASSERT_TRUE(answer) << request.bytes.substr(0, 60);
    EXPECT_TRUE(answer->starts_with(request.answer)) << request.bytes.substr(0, 60) << "\n" << *answer;
    EXPECT_NE(answer->find(R"({"error":{"message":")"), std::string::npos);
  }
}

TEST(Http, HangsUpOnWhoIsTooSlow) {
  HttpServer server({.port = 0, .seconds = 0.2}, echo);
  Client silent(server.port()), slow(server.port());
  slow.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
  EXPECT_EQ(silent.hear_all(), "");
  EXPECT_EQ(slow.hear_all(), "");
  EXPECT_TRUE(server.wait(10));
}

TEST(Http, TellsThatTheCallerHungUp) {
  Counter asked, gone;
  std::shared_ptr<Reply> kept;
  HttpServer server({.port = 0}, [&](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
    kept = reply;
    reply->on_gone([&] { gone.add(); });
    asked.add();
  });
  {
    Client client(server.port());
    client.say(kGet);
    ASSERT_TRUE(asked.wait(1));
  }
  EXPECT_TRUE(gone.wait(1));
  kept->send({.body = "nobody hears it"});
  kept->on_gone([&] { gone.add(); });
  EXPECT_TRUE(gone.wait(2)) << "told at once when asked later";
  kept.reset();
  EXPECT_TRUE(server.wait(10));
}

TEST(Http, GivesUpOnAReaderWhoDoesNotRead) {
  Counter gone;
  std::atomic<bool> stop = false;
  std::jthread writer;
  HttpServer server({.port = 0, .unsent_bytes = 1 << 20},
                    [&](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
                      reply->on_gone([&] {
                        stop = true;
                        gone.add();
                      });
                      writer = std::jthread([reply, &stop] {
                        reply->begin({});
                        for (int i = 0; i < 10'000 && !stop; ++i) reply->write(std::string(64 << 10, 'x'));
                      });
                    });
  Client client(server.port());
  client.say(kGet);
  EXPECT_TRUE(gone.wait(1));
  writer.join();
}

TEST(Http, AnswersForAHandlerThatDoesNot) {
  HttpServer server({.port = 0}, [](const HttpRequest&, const std::shared_ptr<Reply>&) {});
  Client client(server.port());
  client.say(kGet);
  EXPECT_TRUE(client.hear("}}").starts_with("HTTP/1.1 500 "));
}

TEST(Http, ClosesAfterTheAnswersThatWereBegun) {
  Counter asked;
  std::shared_ptr<Reply> kept;
  HttpServer server({.port = 0}, [&](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
    kept = reply;
    asked.add();
  });
  Client busy(server.port()), idle(server.port());
  busy.say(kGet);
  ASSERT_TRUE(asked.wait(1));
  server.close();
  EXPECT_EQ(idle.hear_all(), "");
  EXPECT_FALSE(server.wait(0.05));
  kept->send({.body = "done"});
  kept.reset();
  EXPECT_TRUE(busy.hear_all().value_or("").ends_with("Connection: close\r\n\r\ndone"));
  EXPECT_TRUE(server.wait(10));
  EXPECT_FALSE(Client(server.port()).connected());
}

TEST(Http, RefusesAddressesThatItCannotHave) {
  const HttpServer server({.port = 0}, echo);
  EXPECT_THROW(HttpServer({.port = server.port()}, echo), InputError);
  EXPECT_THROW(HttpServer({.host = "example", .port = 0}, echo), InputError);
  EXPECT_THROW(HttpServer({.port = 0, .certificate = "/nowhere.pem", .key = "/nowhere.pem"}, echo),
               InputError);
}

TEST(Http, TurnsAwayMoreConnectionsThanItTakes) {
  HttpServer server({.port = 0, .connections = 1}, echo);
  Client first(server.port());
  first.say(kGet);
  EXPECT_FALSE(first.hear("!").empty());
  Client second(server.port());
  second.say(kGet);
  EXPECT_EQ(second.hear_all(), "");
  first.say(kGet);
  EXPECT_TRUE(first.hear("!").ends_with("GET /a b?c=d [1] !"));
}

}  // namespace
}  // namespace qtf::serve
