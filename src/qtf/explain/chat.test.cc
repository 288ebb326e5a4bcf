#include "qtf/explain/chat.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/explain/fake_chat_server.h"
#include "qtf/explain/fake_tls_server.h"
#include "qtf/explain/reasoning.h"

namespace qtf::explain {
namespace {

using std::chrono::milliseconds;
constexpr const char* kKey = "sk-secret-0123456789";

std::string http(const std::string& body, const std::string& status = "200 OK",
                 const std::string& headers = "") {
  return "HTTP/1.1 " + status +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "Connection: close\r\n\r\n" + body;
}

std::string message(const std::string& content, const std::string& finish = "stop",
                    const std::string& reasoning = "") {
  nlohmann::json json = {
      {"choices", {{{"message", {{"role", "assistant"}, {"content", content}}}, {"finish_reason", finish}}}}};
  if (!reasoning.empty()) json["choices"][0]["message"]["reasoning_content"] = reasoning;
  return json.dump();
}

/// The content as server-sent events of `step` bytes each.
std::string events(const std::string& content, size_t step, bool finished = true,
                   const std::string& line_end = "\n") {
  std::string body = ": a comment" + line_end + line_end;
  const auto add = [&](const nlohmann::json& json) { body += "data: " + json.dump() + line_end + line_end; };
  add({{"choices",
        {{{"delta", {{"role", "assistant"}, {"reasoning_content", "hm"}}}, {"finish_reason", nullptr}}}}});
  for (size_t at = 0; at < content.size(); at += step)
    add({{"choices", {{{"delta", {{"content", content.substr(at, step)}}}, {"finish_reason", nullptr}}}}});
  if (finished) add({{"choices", {{{"delta", nlohmann::json::object()}, {"finish_reason", "stop"}}}}});
  return body + "data: [DONE]" + line_end + line_end;
}

std::string http_stream(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body;
}

ChatOptions quick() {
  ChatOptions options;
  options.stream = false;
  options.connect_timeout = milliseconds(500);
  options.timeout = milliseconds(1000);
  options.total = milliseconds(60'000);
  options.sleep = [](milliseconds) {};
  return options;
}

std::string chat_error(const std::string& url, const ChatOptions& options = quick()) {
  try {
    ask_chat({url, "m", kKey}, "system", "user", options);
  } catch (const std::exception& error) {
    EXPECT_EQ(std::string(error.what()).find(kKey), std::string::npos) << "the key leaked";
    return error.what();
  }
  return {};
}

const char* const kForms[] = {"{\"a\":1}",
                              "<think>hm</think>{\"a\":1}",
                              "<think_fast>hm</think_fast>\n{\"a\":1}",
                              "<think_faster>hm</think_faster> {\"a\":1} ",
                              "no opening tag</think>{\"a\":1}",
                              "<think>hm</think><answer>{\"a\":1}</answer>",
                              "<answer>\n{\"a\":1}\n</answer>",
                              "```json\n{\"a\":1}\n```",
                              "<think>a</think>b<think>c</think>{\"a\":1}",
                              "<think>a <answer>x</answer></think>{\"a\":1}"};

TEST(Reasoning, EveryFormLeavesTheAnswer) {
  for (const char* content : kForms) EXPECT_EQ(answer_of(content), "{\"a\":1}") << content;
  for (const char* content :
       {"", "  \n", "<think>never closed {\"a\":1}", "<think_fast>", "<think>hm</think>",
        "<think>a</think><think>b", "<answer></answer>", "```json```"})
    EXPECT_EQ(answer_of(content), std::nullopt) << content;
}

TEST(Chat, SendsWhatIsAskedFor) {
  FakeChatServer server(
      [](int, const std::string&) { return Script{.bytes = http(message("yes", "stop", "hm"))}; });
  const ChatAnswer answer = ask_chat({server.url(), "a model", kKey}, "sys", "us\xC3\xA9r", quick());
  EXPECT_EQ(answer.text, "yes");
  EXPECT_EQ(answer.tries, 1);
  const std::string request = server.requests().at(0);
  EXPECT_TRUE(request.starts_with("POST /v1/chat/completions ")) << request;
  EXPECT_NE(request.find("Authorization: Bearer " + std::string(kKey)), std::string::npos);
  const auto body = nlohmann::json::parse(request.substr(request.find("\r\n\r\n") + 4));
  EXPECT_EQ(body.at("model"), "a model");
  EXPECT_EQ(body.at("messages").at(1).at("content"), "us\xC3\xA9r");
  EXPECT_EQ(body.at("response_format").at("type"), "json_object");
  EXPECT_EQ(body.at("max_tokens"), 4096);
  ask_chat({server.url() + "/", "m", ""}, "", "", quick());
  EXPECT_EQ(server.requests().at(1).find("Authorization"), std::string::npos);
}

TEST(Chat, StreamsSplitAtEveryByte) {
  const std::string content = "<think>hm \xC3\xA9</think>{\"a\":\"b\xC3\xA9\"}";
  for (const std::string line_end : {"\n", "\r\n"}) {
    for (size_t piece : {1U, 2U, 3U, 7U, 0U}) {
      const std::string body = events(content, 9, true, line_end);
      FakeChatServer server(
          [&](int, const std::string&) { return Script{.bytes = http_stream(body), .piece = piece}; });
      ChatOptions options = quick();
      options.stream = true;
      EXPECT_EQ(ask_chat({server.url(), "m", ""}, "", "", options).text, "{\"a\":\"b\xC3\xA9\"}");
    }
  }
}

/// A body as chunks of `size` bytes, as servers that stream send it.
std::string http_chunked(const std::string& body, size_t size) {
  std::string bytes =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
      "Connection: close\r\n\r\n";
  for (size_t at = 0; at < body.size(); at += size) {
    const std::string chunk = body.substr(at, size);
    bytes += fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk);
  }
  return bytes + "0\r\n\r\n";
}

/// Each form of reasoning, cut in two at every byte: between events, and between the chunks that carry them.
TEST(Chat, EveryFormSurvivesEveryCut) {
  std::vector<std::string> answers;
  for (const std::string form : kForms) {
    for (size_t cut = 1; cut < form.size(); ++cut) {
      const nlohmann::json first = {{"choices", {{{"delta", {{"content", form.substr(0, cut)}}}}}}},
                           second = {{"choices",
                                      {{{"delta", {{"content", form.substr(cut)}, {"reasoning", "x"}}},
                                        {"finish_reason", "stop"}}}}};
      answers.push_back(
          http_stream("data: " + first.dump() + "\n\ndata: " + second.dump() + "\n\ndata: [DONE]\n\n"));
    }
    const std::string body = events(form, 3);
    for (size_t size = 1; size < 40; ++size) answers.push_back(http_chunked(body, size));
    answers.push_back(http(message(form, "stop", "hm")));
  }
  FakeChatServer server([&](int number, const std::string&) {
    return Script{.bytes = answers.at(static_cast<size_t>(number))};
  });
  ChatOptions options = quick();
  options.stream = true;
  for (size_t i = 0; i < answers.size(); ++i)
    ASSERT_EQ(ask_chat({server.url(), "m", ""}, "", "", options).text, "{\"a\":1}") << answers[i];
  EXPECT_GT(answers.size(), 500U);
}

/// A whole answer cut off after any byte is never an answer.
TEST(Chat, AnAnswerCutOffAnywhereIsNone) {
  const std::string stream = events("{\"a\":1}", 4);
  ChatOptions options = quick();
  options.tries = 1;
  options.stream = true;
  // Behind the event with finish_reason only [DONE] is left, which not every server sends.
  const size_t finished = stream.find("\"stop\"");
  for (const auto& [whole, most] : {std::pair(http(message("yes")), http(message("yes")).size()),
                                    // The chunk of no bytes ends it, whatever ends that chunk.
                                    std::pair(http_chunked(stream, 50), http_chunked(stream, 50).size() - 4),
                                    std::pair(http_stream(stream), http_stream("").size() + finished)}) {
    const std::string bytes = whole;
    FakeChatServer server([&](int number, const std::string&) {
      return Script{.bytes = bytes.substr(0, static_cast<size_t>(number))};
    });
    for (size_t length = 0; length < most; ++length)
      ASSERT_NE(chat_error(server.url(), options), "") << bytes.substr(0, length);
  }
}

/// Every status there is: which are tried again, and that none of their bodies is an answer.
TEST(Chat, EveryStatusButOneIsAnError) {
  for (int status = 201; status < 600; ++status) {
    const bool again = status == 408 || status == 429 || status == 499 || status >= 500;
    FakeChatServer server([status](int, const std::string&) {
      return Script{.bytes = http(status == 204 || status == 304 ? "" : message("yes"),
                                  std::to_string(status) + " Word")};
    });
    ASSERT_NE(chat_error(server.url()), "") << status;
    ASSERT_EQ(server.requests().size(), again ? 4U : 1U) << status;
  }
}

TEST(Chat, FollowsNoRedirectAnywhere) {
  FakeChatServer target([](int, const std::string&) { return Script{.bytes = http(message("yes"))}; });
  for (const char* status : {"301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"}) {
    FakeChatServer server([&](int, const std::string&) {
      return Script{.bytes = http("", status, "Location: " + target.url() + "/chat/completions\r\n")};
    });
    EXPECT_NE(chat_error(server.url()).find("redirects"), std::string::npos);
  }
  EXPECT_TRUE(target.requests().empty());
}

/// No answer and no key for a server whose certificate nobody vouches for.
TEST(Chat, BadCertificatesAreRefused) {
  ChatOptions patient = quick();  // a handshake on a loaded machine is not tried again
  patient.connect_timeout = patient.timeout = milliseconds(20'000);
  for (const char* host : {"127.0.0.1", "api.k2think.ai"}) {
    FakeTlsServer server(host, http(message("yes")));
    const std::string error = chat_error(server.url(), patient);
    EXPECT_NE(error.find("certificate"), std::string::npos) << error;
    EXPECT_NE(error.find("after 1 try"), std::string::npos) << error;
    EXPECT_EQ(server.read().find(kKey), std::string::npos);
  }
  FakeChatServer plain([](int, const std::string&) { return Script{.bytes = http(message("yes"))}; });
  std::string url = plain.url();
  ChatOptions options = quick();
  options.tries = 1;
  EXPECT_NE(chat_error(url.replace(0, 4, "https"), options), "");
  for (const std::string& request : plain.requests()) EXPECT_EQ(request.find(kKey), std::string::npos);
}

/// A server that says the key puts it neither into the answer nor into what is recorded of it.
TEST(Chat, AnEchoedKeyIsTakenOut) {
  FakeChatServer server([](int, const std::string&) {
    return Script{.bytes = http(message("<think>" + std::string(kKey) + "</think>it is " + kKey + kKey))};
  });
  const ChatAnswer answer = ask_chat({server.url(), "m", kKey}, "", "", quick());
  EXPECT_EQ(answer.text, "it is ******");
  EXPECT_EQ(answer.raw.find(kKey), std::string::npos);
}

TEST(Chat, AsksAgainForTwiceTheTokensAfterAllReasoning) {
  FakeChatServer server([](int number, const std::string&) {
    return Script{
        .bytes = http(number == 0 ? message("<think>on and on", "length") : message("<think>hm</think>yes"))};
  });
  EXPECT_EQ(ask_chat({server.url(), "m", ""}, "", "", quick()).text, "yes");
  EXPECT_NE(server.requests().at(1).find("\"max_tokens\":8192"), std::string::npos);
  FakeChatServer endless(
      [](int, const std::string&) { return Script{.bytes = http(message("<think>on and on"))}; });
  EXPECT_NE(chat_error(endless.url()).find("all reasoning"), std::string::npos);
  EXPECT_EQ(endless.requests().size(), 2U);
}

TEST(Chat, TriesAgainOnlyWhereItHelps) {
  const std::pair<int, int> cases[] = {{400, 1}, {401, 1}, {403, 1}, {404, 1}, {408, 4}, {410, 1}, {418, 1},
                                       {422, 1}, {429, 4}, {499, 4}, {500, 4}, {502, 4}, {503, 4}, {504, 4},
                                       {529, 4}, {201, 1}, {301, 1}, {302, 1}, {307, 1}, {308, 1}};
  for (const auto& [status, tries] : cases) {
    const int code = status;
    FakeChatServer server([code](int, const std::string& request) {
      const size_t at = request.find("Bearer ");
      const std::string key = request.substr(at + 7, request.find('\r', at) - at - 7);
      return Script{
          .bytes = http("no, " + key, std::to_string(code) + " Word", "Location: http://127.0.0.1:1/\r\n")};
    });
    EXPECT_NE(chat_error(server.url()).find(code == 410 ? "retired" : std::to_string(code)),
              std::string::npos)
        << code;
    EXPECT_EQ(static_cast<int>(server.requests().size()), tries) << code;
  }
  FakeChatServer server([](int number, const std::string&) {
    return Script{.bytes = number < 3 ? http("", "503 Busy") : http(message("yes"))};
  });
  const ChatAnswer late = ask_chat({server.url(), "m", ""}, "", "", quick());
  EXPECT_EQ(late.text, "yes");
  EXPECT_EQ(late.tries, 4);
}

TEST(Chat, WaitsAsLongAsTheServerSays) {
  std::vector<int64_t> waits;
  ChatOptions options = quick();
  options.total = milliseconds(15 * 60'000);
  options.sleep = [&](milliseconds time) { waits.push_back(time.count()); };
  const char* after[] = {"7", "100000", "soon", "-5"};
  FakeChatServer server([&](int number, const std::string&) {
    return Script{
        .bytes = http("", "429 Slow", "Retry-After: " + std::string(after[std::min(number, 3)]) + "\r\n")};
  });
  EXPECT_NE(chat_error(server.url(), options).find("429"), std::string::npos);
  ASSERT_EQ(waits.size(), 3U);
  EXPECT_EQ(waits[0], 7000);
  EXPECT_EQ(waits[1], 120'000);
  EXPECT_GE(waits[2], 2000);
  EXPECT_LE(waits[2], 6000);
  FakeChatServer later(
      [](int, const std::string&) { return Script{.bytes = http("", "429 Slow", "Retry-After: 7\r\n")}; });
  options.total = milliseconds(3000);
  waits.clear();
  chat_error(later.url(), options);
  EXPECT_TRUE(waits.empty()) << "a wait beyond the whole time is not begun";
}

TEST(Chat, BadServersGiveOneClearError) {
  const std::string good = http(message("yes"));
  const std::pair<Script, const char*> cases[] = {
      {{.bytes = ""}, "answer after 4 tries"},
      {{.bytes = good.substr(0, good.size() - 5)}, "answer after 4 tries"},
      {{.bytes = http("{\"choices\":[")}, "no JSON"},
      {{.bytes = http("[]")}, "cut off"},
      {{.bytes = http("{\"choices\":[]}")}, "cut off"},
      {{.bytes = http("{\"choices\":[{\"message\":{\"content\":3},\"finish_reason\":\"stop\"}]}")},
       "all reasoning"},
      {{.bytes = "not HTTP at all\r\n\r\n"}, "answer after"},
      {{.bytes = http(std::string(kMostResponse + 1, 'x'))}, "larger than"},
      {{.bytes = http_stream(events("yes", 1, false))}, "cut off"},
      {{.bytes = http_stream("data: {\"error\":\"overloaded\"}\n\n")}, "no JSON"},
      {{.bytes = http_stream("data: {broken\n\n")}, "no JSON"}};
  for (const auto& [script, part] : cases) {
    const Script copy = script;
    FakeChatServer server([copy](int, const std::string&) { return copy; });
    ChatOptions options = quick();
    options.stream = copy.bytes.find("event-stream") != std::string::npos;
    EXPECT_NE(chat_error(server.url(), options).find(part), std::string::npos)
        << chat_error(server.url(), options);
  }
}

TEST(Chat, NeverWaitsForEver) {
  ChatOptions options = quick();
  options.timeout = milliseconds(100);
  options.tries = 2;
  FakeChatServer silent(
      [](int, const std::string&) { return Script{.bytes = "", .hold = milliseconds(300)}; });
  FakeChatServer slow([](int, const std::string&) {
    return Script{.bytes = http(message("yes")), .piece = 1, .pause = milliseconds(10)};
  });
  for (const std::string& url : {silent.url(), slow.url(), std::string("http://127.0.0.1:1/v1")}) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_NE(chat_error(url, options), "");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(10000)) << url;
  }
}

TEST(Chat, EndpointsThatWouldLeakAreRefused) {
  for (const char* url : {"http://example.com/v1", "http://127.evil.com/v1", "http://127.0.0.1.evil.com/v1",
                          "ftp://127.0.0.1/", "file:///etc/passwd", "https://user:word@example.com/v1",
                          "https://example.com/v1?x=1", "", "no url", "http://10.0.0.1/v1"})
    EXPECT_THROW(check_endpoint({url, "m", ""}), InputError) << url;
  for (const char* url :
       {"https://api.k2think.ai/v1", "http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:80/v1"})
    EXPECT_NO_THROW(check_endpoint({url, "m", "k"})) << url;
  for (const char* key : {"two words", "line\nend", "\xC3\xA9", "\x7f"}) {
    try {
      check_endpoint({"https://example.com", "m", key});
      FAIL();
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).find(key), std::string::npos);
    }
  }
  EXPECT_THROW(check_endpoint({"https://example.com", "", ""}), InputError);
  EXPECT_THROW(ask_chat({"http://127.0.0.1:1", "m", ""}, std::string(kMostPrompt, 'x'), "y"), InputError);
  ChatOptions small;
  small.max_tokens = 100;
  EXPECT_THROW(ask_chat({"http://127.0.0.1:1", "m", ""}, "", "", small), InputError);
}

TEST(Chat, TheEnvironmentSetsTheEndpoint) {
  setenv("QTF_K2_URL", "http://127.0.0.1:9/v1", 1);
  setenv("QTF_K2_MODEL", "other", 1);
  setenv("QTF_K2_API_KEY", kKey, 1);
  const ChatEndpoint endpoint = endpoint_from_environment();
  EXPECT_EQ(endpoint.url, "http://127.0.0.1:9/v1");
  EXPECT_EQ(endpoint.model, "other");
  EXPECT_EQ(endpoint.key, kKey);
  for (const char* name : {"QTF_K2_URL", "QTF_K2_MODEL", "QTF_K2_API_KEY"}) unsetenv(name);
  EXPECT_TRUE(endpoint_from_environment().url.starts_with("https://"));
}

}  // namespace
}  // namespace qtf::explain
