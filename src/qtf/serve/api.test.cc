#include "qtf/serve/api.h"

#include <gtest/gtest.h>

#include <fmt/format.h>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "qtf/audit/store.h"
#include "qtf/audit/verify.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/explain/fake_chat_server.h"
#include "qtf/serve/chat_template.h"
#include "qtf/serve/page.h"
#include "qtf/serve/serve_test.h"

namespace qtf::serve {
namespace {

using nlohmann::json;

class ApiOf : public testing::Test {
 protected:
  ApiOf() { use({}); }

  void use(ApiOptions options, const EngineOptions& engine_options = {}) {
    options.model_name = "small";
    options.requests_per_second = options.requests_per_second == 50 ? 1e6 : options.requests_per_second;
    engine = std::make_shared<Engine>(loaded_model(small_model("llama_levels"), true), 1, engine_options);
    api = std::make_unique<Api>(engine, options);
  }

  static HttpRequest get(std::string path) {
    return {.method = "GET", .path = std::move(path), .headers = {{"host", "localhost"}}};
  }
  static HttpRequest post(std::string path, std::string body) {
    HttpRequest request = get(std::move(path));
    request.method = "POST";
    request.body = std::move(body);
    request.headers["content-type"] = "application/json";
    return request;
  }
  HttpAnswer answer(const HttpRequest& request) {
    const auto reply = std::make_shared<FakeReply>();
    api->handle(request, reply);
    return reply->wait();
  }
  json complete(const json& body, std::string path = "/v1/completions") {
    const HttpAnswer got = answer(post(std::move(path), body.dump()));
    EXPECT_EQ(got.status, 200) << got.body;
    return json::parse(got.body);
  }
  /// The events of a streamed answer but for the last, "[DONE]".
  std::vector<json> stream(json body, std::string path = "/v1/completions") {
    body["stream"] = true;
    const HttpAnswer got = answer(post(std::move(path), body.dump()));
    EXPECT_EQ(got.content_type, "text/event-stream");
    std::vector<json> events;
    std::string_view rest = got.body;
    while (!rest.empty()) {
      EXPECT_TRUE(rest.starts_with("data: "));
      const size_t end = rest.find("\n\n");
      const std::string_view data = rest.substr(6, end - 6);
      rest.remove_prefix(end + 2);
      if (data == "[DONE]") {
        EXPECT_TRUE(rest.empty());
        return events;
      }
      events.push_back(json::parse(data));
    }
    ADD_FAILURE() << "no [DONE]";
    return events;
  }

  std::shared_ptr<Engine> engine;
  std::unique_ptr<Api> api;
};

TEST_F(ApiOf, CompletesAPrompt) {
  const json got = complete({{"prompt", "once"}, {"max_tokens", 9}, {"seed", 3}});
  EXPECT_EQ(got["object"], "text_completion");
  EXPECT_EQ(got["model"], "small");
  EXPECT_TRUE(got["id"].get<std::string>().starts_with("cmpl-"));
  ASSERT_EQ(got["choices"].size(), 1U);
  EXPECT_EQ(got["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(got["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(got["usage"]["completion_tokens"], 9);
  EXPECT_EQ(got["usage"]["total_tokens"], 13);
  const json again = complete({{"prompt", "once"}, {"max_tokens", 9}, {"seed", 3}});
  EXPECT_EQ(got["choices"], again["choices"]);
  EXPECT_NE(got["id"], again["id"]);
  EXPECT_EQ(again["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
}

TEST_F(ApiOf, StreamsWhatItWouldSend) {
  const json body{
      {"prompt", "once"}, {"max_tokens", 12}, {"seed", 1},     {"n", 3},
      {"logprobs", 2},    {"echo", true},     {"trace", true}, {"stream_options", {{"include_usage", true}}}};
  const json whole = complete(body);
  const std::vector<json> events = stream(body);
  std::vector<std::string> texts(3);
  std::vector<json> logprobs(3, json::array()), traces(3, json::array());
  for (const json& event : events) {
    EXPECT_EQ(event["object"], "text_completion");
    for (const json& choice : event["choices"]) {
      const size_t index = choice["index"];
      texts[index] += choice["text"].get<std::string>();
      if (choice["logprobs"].is_object())
        for (const json& one : choice["logprobs"]["token_logprobs"]) logprobs[index].push_back(one);
      if (choice.contains("trace")) traces[index].push_back(choice["trace"][0]["entropy"]);
    }
  }
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
  EXPECT_TRUE(events.back()["choices"].empty());
  for (const json& choice : whole["choices"]) {
    const size_t index = choice["index"];
    EXPECT_EQ(texts[index], choice["text"]);
    EXPECT_TRUE(texts[index].starts_with("once"));
    EXPECT_EQ(logprobs[index], choice["logprobs"]["token_logprobs"]);
    ASSERT_EQ(choice["logprobs"]["tokens"].size(), 16U);
    EXPECT_TRUE(choice["logprobs"]["token_logprobs"][0].is_null());
    EXPECT_TRUE(choice["logprobs"]["token_logprobs"][1].is_number());
    EXPECT_EQ(choice["logprobs"]["text_offset"][5], 5);
    EXPECT_EQ(traces[index].size(), 12U);
  }
  EXPECT_NE(texts[0], texts[1]) << "choices draw with seeds of their own";
}

TEST_F(ApiOf, AnswersAConversation) {
  const json body{{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 8}, {"seed", 2}};
  const json got = complete(body, "/v1/chat/completions");
  EXPECT_EQ(got["object"], "chat.completion");
  EXPECT_EQ(got["choices"][0]["message"]["role"], "assistant");
  std::string text;
  const std::vector<json> events = stream(body, "/v1/chat/completions");
  EXPECT_EQ(events.front()["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events.front()["object"], "chat.completion.chunk");
  for (const json& event : events) text += event["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(got["choices"][0]["message"]["content"], text);
  EXPECT_EQ(events.back()["choices"][0]["finish_reason"], got["choices"][0]["finish_reason"]);
  const json plain = complete(
      {{"prompt", chat_prompt(std::vector<Message>{{"user", "hi"}})}, {"max_tokens", 8}, {"seed", 2}});
  EXPECT_EQ(plain["choices"][0]["text"], text) << "a conversation is one text";
}

TEST_F(ApiOf, TakesALevelAndAPolicy) {
  const json body{{"prompt", "once"}, {"max_tokens", 12}, {"temperature", 0}};
  std::vector<std::string> texts;
  for (const int level : {0, 1, 4}) {
    json with = body;
    with["level"] = level;
    texts.push_back(complete(with)["choices"][0]["text"]);
  }
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_EQ(texts[0], texts[2]) << "0 is the largest";
  json with = body;
  with["rank_policy"] = "random";
  with["trace"] = true;
  const json trace = complete(with)["choices"][0]["trace"];
  EXPECT_GE(trace[0]["level"][0], 1);
}

TEST_F(ApiOf, SaysWhyATokenTookItsRanks) {
  const json body{
      {"prompt", "once"}, {"max_tokens", 30}, {"rank_policy", "random"}, {"trace", true}, {"n", 2}};
  const json got = complete(body);  // longer than the context: the model forgets the beginning
  for (const json& choice : got["choices"]) {
    for (size_t token = 0; token < choice["trace"].size(); ++token) {
      const json why = complete({{"id", got["id"]}, {"index", choice["index"]}, {"token", token}}, "/v1/why");
      EXPECT_EQ(why["token"], token);
      EXPECT_NE(why["explained_by"].get<std::string>().find("verified"), std::string::npos) << why;
      ASSERT_EQ(why["explanations"].size(), 2U) << "a layer each";
      for (size_t layer = 0; layer < 2; ++layer) {
        const json& one = why["explanations"][layer];
        EXPECT_EQ(one["facts"]["level"],
                  fmt::format("{} of 4", choice["trace"][token]["level"][layer].get<int>()));
        EXPECT_FALSE(one["statements"].empty());
      }
    }
  }
  const json whole = complete({{"prompt", "once"}});
  const json nothing = complete({{"id", whole["id"]}}, "/v1/why");
  EXPECT_TRUE(nothing["explanations"].empty());
  EXPECT_NE(nothing["note"].get<std::string>().find("rank_policy"), std::string::npos);
  const json budgeted = complete({{"prompt", "once"}, {"rank_policy", "random"}, {"max_latency_ms", 5}});
  EXPECT_NE(complete({{"id", budgeted["id"]}}, "/v1/why")["note"].get<std::string>().find("kept a budget"),
            std::string::npos);
}

TEST_F(ApiOf, ExplainsToItsCallerAlone) {
  ApiOptions options;
  for (const char* key : {"one", "two"}) options.key_hashes.push_back(sha256_hex(key));
  use(options);
  const auto ask = [&](const char* key, const std::string& path, const json& body) {
    HttpRequest request = post(path, body.dump());
    request.headers["authorization"] = std::string("Bearer ") + key;
    return answer(request);
  };
  const json got =
      json::parse(ask("one", "/v1/completions", {{"prompt", "a"}, {"rank_policy", "random"}}).body);
  const json question{{"id", got["id"]}, {"token", 3}};
  EXPECT_EQ(ask("one", "/v1/why", question).status, 200);
  EXPECT_EQ(ask("two", "/v1/why", question).status, 404);
  const std::pair<json, const char*> wrong[] = {
      {{{"token", 3}}, "id is missing"},
      {{{"id", got["id"]}, {"token", 16}}, "16 tokens of the text can be asked about, from 0; not token 16"},
      {{{"id", got["id"]}, {"token", -1}}, "whole number"},
      {{{"id", got["id"]}, {"token", "3"}}, "whole number"},
      {{{"id", 5}}, "id must be a text"},
      {{{"id", got["id"]}, {"tokens", 3}}, "there is no field"},
      {{{"id", got["id"]}, {"explainer", "k2"}}, "--explainer k2"},
      {{{"id", got["id"]}, {"explainer", "k3"}}, "template or k2"},
      {json::array(), "JSON object"},
  };
  for (const auto& [body, says] : wrong) {
    const HttpAnswer refused = ask("one", "/v1/why", body);
    EXPECT_EQ(refused.status, 400);
    EXPECT_NE(refused.body.find(says), std::string::npos) << refused.body;
  }
}

TEST_F(ApiOf, GivesUpAServiceWhenItCloses) {
  const explain::FakeChatServer silent(
      [](int, const std::string&) { return explain::Script{.bytes = {}, .hold = std::chrono::minutes(10)}; });
  setenv("QTF_K2_URL", silent.url().c_str(), 1);
  use({.explains_by_k2 = true});
  const json got = complete({{"prompt", "a"}, {"rank_policy", "random"}});
  const HttpRequest question =
      post("/v1/why", json{{"id", got["id"]}, {"token", 3}, {"explainer", "k2"}}.dump());
  std::vector<std::shared_ptr<FakeReply>> replies;
  for (int i = 0; i < 3; ++i) api->handle(question, replies.emplace_back(std::make_shared<FakeReply>()));
  const auto start = std::chrono::steady_clock::now();
  while (silent.requests().empty() && std::chrono::steady_clock::now() - start < std::chrono::seconds(30))
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_EQ(silent.requests().size(), 1U) << "one question after the other";
  EXPECT_FALSE(replies[0]->done());
  api->close(10);
  unsetenv("QTF_K2_URL");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  for (const auto& reply : replies) ASSERT_TRUE(reply->done()) << "nothing is left for after close()";
  const json first = json::parse(replies[0]->wait().body);
  ASSERT_EQ(first["explanations"].size(), 2U);
  for (const json& one : first["explanations"]) {
    for (const json& statement : one["statements"]) EXPECT_EQ(statement["by"], "template");
  }
  EXPECT_EQ(replies[1]->wait().status, 503);
  EXPECT_EQ(replies[2]->wait().status, 503);
}

TEST_F(ApiOf, ShowsItsOwnSentencesForAServicesNonsense) {
  const std::string content = "Quantum advantage made it 47 times better.]]";
  const json message{{"message", {{"role", "assistant"}, {"content", content}}}, {"finish_reason", "stop"}};
  const std::string body = json{{"choices", json::array({message})}}.dump();
  const explain::FakeChatServer garbage([&](int, const std::string&) {
    return explain::Script{.bytes = fmt::format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                                "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
                                                body.size(), body)};
  });
  setenv("QTF_K2_URL", garbage.url().c_str(), 1);
  use({.explains_by_k2 = true});
  const json got = complete({{"prompt", "a"}, {"rank_policy", "random"}});
  const json why = complete({{"id", got["id"]}, {"token", 3}, {"explainer", "k2"}}, "/v1/why");
  unsetenv("QTF_K2_URL");
  EXPECT_GE(garbage.requests().size(), 1U);
  ASSERT_EQ(why["explanations"].size(), 2U);
  for (const json& one : why["explanations"]) {
    ASSERT_FALSE(one["statements"].empty());
    for (const json& statement : one["statements"]) {
      EXPECT_EQ(statement["by"], "template");
      EXPECT_EQ(statement["text"].get<std::string>().find("]]"), std::string::npos);
    }
  }
  EXPECT_NE(why["explained_by"].get<std::string>().find("0 of 2"), std::string::npos) << why["explained_by"];
}

TEST_F(ApiOf, ServesAParentBesideTheModel) {
  const auto parent =
      std::make_shared<Engine>(loaded_model(small_model("llama_untied"), true), 1, EngineOptions{});
  const std::string alone = complete({{"prompt", "once"}, {"seed", 3}})["choices"][0]["text"];
  api = std::make_unique<Api>(engine, ApiOptions{.model_name = "small", .parent_name = "dense"}, parent);
  const json models = json::parse(answer(get("/v1/models")).body)["data"];
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0]["qtf"]["parent"], "dense");
  EXPECT_EQ(models[1]["id"], "dense");
  EXPECT_EQ(models[1]["qtf"]["levels"], 1);
  const json mine = complete({{"prompt", "once"}, {"seed", 3}, {"model", "anything"}});
  const json theirs = complete({{"prompt", "once"}, {"seed", 3}, {"model", "dense"}});
  EXPECT_EQ(mine["model"], "small");
  EXPECT_EQ(theirs["model"], "dense");
  EXPECT_EQ(mine["choices"][0]["text"], alone);
  EXPECT_NE(theirs["choices"][0]["text"], alone);
  EXPECT_NE(complete({{"id", theirs["id"]}}, "/v1/why")["note"].get<std::string>().find(
                "every token takes the same"),
            std::string::npos);
  const HttpAnswer levels = answer(post("/v1/completions", R"({"prompt":"a","model":"dense","level":2})"));
  EXPECT_EQ(levels.status, 400) << levels.body;
  api->close(60);
  EXPECT_EQ(answer(post("/v1/completions", R"({"prompt":"a","model":"dense"})")).status, 503);
}

TEST_F(ApiOf, ShowsTheReportAndTheRecordsOfTheModel) {
  const TemporaryFolder folder;
  ApiOptions options;
  options.report = folder / "report.html", options.records = folder / "audit.sqlite";
  options.model_name = "small";
  api = std::make_unique<Api>(engine, options);
  EXPECT_EQ(answer(get("/v1/report")).status, 404);
  EXPECT_EQ(answer(get("/v1/audit")).status, 404);
  write_file_atomically(folder / "report.html", "<html>lost: little</html>");
  {
    audit::Log log(folder / "audit.sqlite");
    log.append("making.start", {{"what", "test"}});
    log.append("making.end", {{"what", "test"}});
    log.flush();
  }
  const HttpAnswer report = answer(get("/v1/report"));
  EXPECT_EQ(report.body, "<html>lost: little</html>");
  EXPECT_EQ(report.content_type, "text/html; charset=utf-8");
  EXPECT_TRUE(report.headers.at(0).second.starts_with("sandbox")) << report.headers.at(0).second;
  const json state = json::parse(answer(get("/v1/audit")).body);
  EXPECT_EQ(state["consistent"], true);
  EXPECT_EQ(state["records"], audit::verify(folder / "audit.sqlite").count);
  EXPECT_GE(state["records"], 2);
  EXPECT_NE(state["verify"].get<std::string>().find(" --root " + state["root"].get<std::string>()),
            std::string::npos);
}

TEST_F(ApiOf, DrawsTheCircuit) {
  EXPECT_EQ(answer(get("/v1/circuit")).status, 404);
  api = std::make_unique<Api>(
      std::make_shared<Engine>(loaded_model(small_model("llama_quantum")), 1, EngineOptions{}), ApiOptions{});
  const HttpAnswer drawn = answer(get("/v1/circuit"));
  EXPECT_EQ(drawn.content_type, "image/svg+xml");
  EXPECT_TRUE(drawn.body.starts_with("<svg"));
}

TEST_F(ApiOf, KeepsATextWithinItsBudget) {
  const json body{{"prompt", "once"}, {"max_tokens", 20}, {"temperature", 0}, {"rank_policy", "random"}};
  json ample = body, tight = body;
  ample["max_latency_ms"] = 60'000;
  tight["max_latency_ms"] = 0.000'001, tight["n"] = 2, tight["mean_rank"] = 0.75;
  const json kept = complete(ample)["choices"][0];
  EXPECT_EQ(kept["text"], complete(body)["choices"][0]["text"]);
  EXPECT_EQ(kept["budget"], json({{"mean_rank", 0.5}, {"kept", true}, {"decisions", json::array()}}));
  EXPECT_EQ(complete(body)["choices"][0].count("budget"), 0U);
  const json squeezed = complete(tight);
  for (const json& choice : squeezed["choices"]) {  // each drives its own policy
    const json& budget = choice["budget"];
    EXPECT_LT(budget["mean_rank"], 0.75);
    EXPECT_EQ(budget["kept"], false);
    ASSERT_EQ(budget["decisions"].size(), 2U) << "18 decoded tokens, a decision in 8";
    EXPECT_EQ(budget["decisions"][0]["asked"], "750000000") << budget.dump();
  }
  const std::vector<json> events = stream(tight);
  const auto told =
      std::ranges::count_if(events, [](const json& event) { return event["choices"][0].contains("budget"); });
  EXPECT_EQ(told, 2) << "with the last part of each text";
}

TEST_F(ApiOf, ListsItsModel) {
  const json got = json::parse(answer(get("/v1/models")).body);
  EXPECT_EQ(got["data"][0]["id"], "small");
  EXPECT_EQ(got["object"], "list");
  const json& facts = got["data"][0]["qtf"];
  EXPECT_EQ(facts["levels"], 4);
  EXPECT_GT(facts["parameters"], 0);
  EXPECT_GT(facts["ratio"], 1);
}

TEST_F(ApiOf, CountsForPrometheus) {
  complete({{"prompt", "once"}, {"max_tokens", 9}});
  ASSERT_TRUE(engine->drain(60));
  const HttpAnswer got = answer(get("/metrics"));
  EXPECT_TRUE(got.content_type.starts_with("text/plain"));
  EXPECT_NE(got.body.find("\nqtf_tokens_total 9\n"), std::string::npos) << got.body;
  EXPECT_NE(got.body.find("# TYPE qtf_active_sequences gauge\n"), std::string::npos);
}

TEST_F(ApiOf, ShowsTracesToTheirCallerOnly) {
  use({.key_hashes = {sha256_hex("one"), sha256_hex("two")}});
  const auto watch = [&](const std::string& key) {
    HttpRequest request = get("/v1/trace");
    request.headers["authorization"] = "Bearer " + key;
    const auto reply = std::make_shared<FakeReply>();
    api->handle(request, reply);
    return reply;
  };
  const auto mine = watch("one"), others = watch("two");
  HttpRequest request = post("/v1/completions", R"({"prompt":"secret words","max_tokens":3})");
  request.headers["authorization"] = "Bearer one";
  EXPECT_EQ(answer(request).status, 200);
  mine->hang_up();
  EXPECT_EQ(answer(request).status, 200);
  api->close(60);
  std::string seen, strange;
  mine->end(), others->end();
  seen = mine->wait().body, strange = others->wait().body;
  EXPECT_EQ(strange.find("data:"), std::string::npos);
  int events = 0;
  for (size_t at = seen.find("data: "); at != std::string::npos; at = seen.find("data: ", at + 1)) {
    ++events;
    const json event = json::parse(seen.substr(at + 6, seen.find("\n\n", at) - at - 6));
    EXPECT_EQ(event["entropy"].size(), 2U);
    EXPECT_TRUE(event["routed"].is_boolean());
    for (const auto& [name, value] : event.items()) EXPECT_NE(name, "text");
  }
  EXPECT_EQ(events, 3) << "not after it hung up";
}

TEST_F(ApiOf, CancelsWhatNobodyHears) {
  const auto reply = std::make_shared<FakeReply>();
  api->handle(post("/v1/completions", R"({"prompt":"a","max_tokens":1000000,"stream":true})"), reply);
  reply->wait_for_bytes(1000);
  reply->hang_up();
  reply->wait();
  ASSERT_TRUE(engine->drain(60));
  EXPECT_EQ(engine->state().cancelled, 1);
}

TEST_F(ApiOf, SaysThatItIsFullOrClosing) {
  use({}, {.most_active = 1, .most_waiting = 1});
  const HttpAnswer full = answer(post("/v1/completions", R"({"prompt":"a","n":5})"));
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(json::parse(full.body)["error"]["code"], "overloaded");
  api->close(60);
  EXPECT_EQ(answer(post("/v1/completions", R"({"prompt":"a"})")).status, 503);
  EXPECT_EQ(answer(get("/health")).status, 503);
}

TEST_F(ApiOf, ShowsThePageUnderAStrictPolicy) {
  use({.key_hashes = {sha256_hex("right")}});
  for (const PageFile& file : page_files()) {
    const HttpAnswer got = answer(get("/" + std::string(file.name)));
    EXPECT_EQ(got.status, 200) << file.name;
    EXPECT_EQ(got.body, file.text);
    const auto policy = std::ranges::find(got.headers, "Content-Security-Policy",
                                          &std::pair<std::string, std::string>::first);
    ASSERT_NE(policy, got.headers.end());
    EXPECT_TRUE(policy->second.starts_with("default-src 'none'"));
    for (const std::string_view foreign : {"http://", "https://", "style=\"", "onclick=", "eval("}) {
      if (foreign == "http://" && file.name == "charts.js") continue;  // the name of SVG's namespace
      EXPECT_EQ(file.text.find(foreign), std::string_view::npos) << file.name << " has " << foreign;
    }
  }
  EXPECT_EQ(answer(get("/")).body, answer(get("/index.html")).body);
  EXPECT_EQ(answer(post("/", "{}")).status, 401);
}

struct Wrong {
  HttpRequest request;
  int status;
  std::string_view says;
};

TEST_F(ApiOf, RefusesWhatIsNotForIt) {
  use({.key_hashes = {sha256_hex("right")}, .hosts = {"localhost", "[::1]"}});
  const auto with = [](HttpRequest request, const std::string& name, const std::string& value) {
    request.headers[name] = value;
    return request;
  };
  const auto keyed = [&](const HttpRequest& request) {
    return with(request, "authorization", "Bearer right");
  };
  const std::string body = R"({"prompt":"a","max_tokens":1})";
  const HttpRequest good = keyed(post("/v1/completions", body));
  EXPECT_EQ(answer(good).status, 200);
  EXPECT_EQ(answer(with(good, "origin", "http://localhost")).status, 200);
  EXPECT_EQ(answer(with(good, "host", "[::1]:8080")).status, 200);
  EXPECT_EQ(answer(with(good, "content-type", "application/json; charset=utf-8")).status, 200);
  EXPECT_EQ(answer(get("/health")).status, 200) << "needs no key";
  const Wrong wrong[] = {
      {post("/v1/completions", body), 401, "Bearer"},
      {with(good, "authorization", "Bearer wrong"), 401, "not known"},
      {with(good, "authorization", "Basic right"), 401, "Bearer"},
      {with(good, "host", "evil.example"), 421, "evil.example"},
      {with(good, "host", ""), 421, "not called"},
      {with(good, "origin", "http://evil.example"), 403, "origins"},
      {with(good, "origin", "null"), 403, "origins"},
      {with(good, "content-type", "text/plain"), 415, "application/json"},
      {keyed(get("/v1/nothing")), 404, "/v1/nothing"},
      {get("/v1/nothing"), 401, "key"},
      {keyed(get("/v1/completions")), 405, "POST"},
      {keyed(post("/v1/completions", "{")), 400, "JSON"},
      {keyed(post("/v1/completions", R"({"prompt":""})")), 400, "empty"},
      {keyed(post("/v1/completions", R"({"prompt":")" + std::string(25, 'a') + "\"}")), 400, "25 tokens"},
      {keyed(post("/v1/completions", R"({"prompt":"a","level":5})")), 400, "level"},
      {keyed(post("/v1/completions", R"({"prompt":"a","rank_policy":"nonsense"})")), 400, "nonsense"},
      {keyed(post("/v1/completions", R"({"prompt":"a","rank_policy":"entropy"})")), 400, "calibrate"},
      {keyed(post("/v1/completions", R"({"prompt":"a","rank_policy":"random","mean_rank":1})")), 400, "mean"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_latency_ms":0})")), 400,
       "max_latency_ms must be above 0"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_latency_ms":1e9})")), 400, "from 0 to 60000"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_latency_ms":"5"})")), 400, "a number"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_energy_per_query":-1})")), 400,
       "from 0 to 1000000"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_latency_ms":5})")), 400, "calibrate"},
      {keyed(post("/v1/completions", R"({"prompt":"a","max_latency_ms":5,"rank_policy":"fixed:2"})")), 400,
       "fixed levels have not"},
  };
  for (const Wrong& one : wrong) {
    const HttpAnswer got = answer(one.request);
    EXPECT_EQ(got.status, one.status) << got.body;
    const json error = json::parse(got.body)["error"];
    EXPECT_NE(error["message"].get<std::string>().find(one.says), std::string::npos) << got.body;
    EXPECT_TRUE(error.contains("type") && error.contains("param") && error.contains("code"));
  }
}

TEST_F(ApiOf, LimitsACallersRate) {
  use({.requests_per_second = 3});
  int refused = 0;
  for (int i = 0; i < 10; ++i) refused += answer(get("/v1/models")).status == 429;
  EXPECT_GE(refused, 6);
  EXPECT_LE(refused, 7);
  EXPECT_EQ(answer(get("/health")).status, 200);
}

TEST(ApiDocument, IsWhatTheTablesSay) {
  EXPECT_EQ(read_file(std::filesystem::path(QTF_SOURCE_DIR) / "docs/api.md"), markdown_api())
      << "run: build/release/bin/qtf docs api > docs/api.md";
  for (const Route& route : routes()) EXPECT_NE(markdown_api().find(route.path), std::string::npos);
}

}  // namespace
}  // namespace qtf::serve
