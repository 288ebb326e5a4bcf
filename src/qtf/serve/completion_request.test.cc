#include "qtf/serve/completion_request.h"

#include <gtest/gtest.h>

namespace qtf::serve {
namespace {

TEST(CompletionRequest, ReadsEveryField) {
  const CompletionRequest request = parse_completion(
      R"({"model":"m","prompt":["once ","upon"],"max_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,
          "repeat_penalty":1.1,"seed":9007199254740991,"n":2,"stop":"end","stream":true,
          "stream_options":{"include_usage":true},"echo":true,"logprobs":3,"level":1,"rank_policy":"entropy",
          "mean_rank":0.4,"trace":true,"user":"u","suffix":null,"best_of":1,"logit_bias":{},"presence_penalty":0})",
      Endpoint::completions);
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.prompt, "once upon");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.sampling.temperature, 0.5);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.min_p, 0.05);
  EXPECT_EQ(request.sampling.repeat_penalty, 1.1);
  EXPECT_EQ(request.sampling.seed, 9007199254740991U);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.stop, std::vector<std::string>{"end"});
  EXPECT_TRUE(request.stream && request.include_usage && request.echo && request.logprobs && request.trace);
  EXPECT_EQ(request.top_logprobs, 3);
  EXPECT_EQ(request.level, 1);
  EXPECT_EQ(request.rank_policy, "entropy");
  EXPECT_EQ(request.mean_rank, 0.4);
}

TEST(CompletionRequest, ReadsAConversation) {
  const CompletionRequest request = parse_completion(
      R"({"messages":[{"role":"developer","content":"Be short."},
                      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
          "max_completion_tokens":5,"logprobs":true,"top_logprobs":2})",
      Endpoint::chat);
  ASSERT_EQ(request.messages.size(), 2U);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[1].content, "ab");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.top_logprobs, 2);
}

struct Bad {
  Endpoint endpoint;
  std::string_view body, parameter, says;
};

const Bad kBad[] = {
    {Endpoint::completions, "", "", "JSON object"},
    {Endpoint::completions, "[1]", "", "JSON object"},
    {Endpoint::completions, R"({"prompt":"a"} x)", "", "JSON object"},
    {Endpoint::completions, "{}", "prompt", "missing"},
    {Endpoint::completions, R"({"prompt":null})", "prompt", "string"},
    {Endpoint::completions, R"({"prompt":7})", "prompt", "got 7"},
    {Endpoint::completions, R"({"prompt":["a",7]})", "prompt", "array of strings"},
    {Endpoint::completions, "{\"prompt\":\"\xff\"}", "", "JSON object"},
    {Endpoint::completions, R"({"prompt":"a","max_tokens":0})", "max_tokens", "from 1 to"},
    {Endpoint::completions, R"({"prompt":"a","max_tokens":1.5})", "max_tokens", "an integer"},
    {Endpoint::completions, R"({"prompt":"a","temperature":-1})", "temperature", "from 0"},
    {Endpoint::completions, R"({"prompt":"a","temperature":1e999})", "", "JSON object"},
    {Endpoint::completions, R"({"prompt":"a","top_p":"x"})", "top_p", "a number"},
    {Endpoint::completions, R"({"prompt":"a","n":17})", "n", "from 1 to 16"},
    {Endpoint::completions, R"({"prompt":"a","stop":[""]})", "stop", "none of them empty"},
    {Endpoint::completions, R"({"prompt":"a","stream":"yes"})", "stream", "true or false"},
    {Endpoint::completions, R"({"prompt":"a","stream_options":{"x":1}})", "stream_options", "include_usage"},
    {Endpoint::completions, R"({"prompt":"a","best_of":2})", "best_of", "not supported"},
    {Endpoint::completions, R"({"prompt":"a","frequency_penalty":1})", "frequency_penalty", "not supported"},
    {Endpoint::completions, R"({"prompt":"a","tempature":1})", "tempature", "temperature"},
    {Endpoint::completions, R"({"messages":[]})", "messages", "no field"},
    {Endpoint::completions, R"({"prompt":"a","logprobs":true})", "logprobs", "an integer from 0 to 20"},
    {Endpoint::chat, R"({"messages":[]})", "messages", "at least one"},
    {Endpoint::chat, R"({"messages":["a"]})", "messages", "role and a content"},
    {Endpoint::chat, R"({"messages":[{"role":"robot","content":"a"}]})", "messages", "robot"},
    {Endpoint::chat, R"({"messages":[{"role":"user","content":7}]})", "messages", "string"},
    {Endpoint::chat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages",
     "text"},
    {Endpoint::chat, R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":2})", "top_logprobs",
     "logprobs"},
};

TEST(CompletionRequest, NamesTheFieldThatIsWrong) {
  for (const Bad& bad : kBad) {
    try {
      parse_completion(bad.body, bad.endpoint);
      ADD_FAILURE() << bad.body;
    } catch (const RequestError& error) {
      EXPECT_EQ(error.parameter(), bad.parameter) << bad.body;
      EXPECT_NE(std::string_view(error.what()).find(bad.says), std::string_view::npos) << error.what();
    }
  }
}

TEST(CompletionRequest, RefusesDeepNesting) {
  EXPECT_THROW(parse_completion(R"({"prompt":)" + std::string(100'000, '['), Endpoint::completions),
               RequestError);
}

TEST(CompletionRequest, EveryFieldSaysWhatItIs) {
  for (const Field& field : completion_fields()) {
    EXPECT_FALSE(field.help.empty()) << field.name;
    EXPECT_FALSE(field_range(field).empty()) << field.name;
    EXPECT_TRUE(field.completions || field.chat) << field.name;
  }
}

}  // namespace
}  // namespace qtf::serve
