// `qtf explain` in process, on a compressed model's records.
#include "qtf/audit/audit_test.h"
#include "qtf/cli/cli_test.h"
#include "qtf/explain/fake_chat_server.h"

namespace qtf::cli {
namespace {

class ExplainCommand : public testing::Test {
 protected:
  void SetUp() override {
    const std::string dense = place_.train("dense", {"--steps", "8"});
    ASSERT_EQ(
        call({"compress", dense, "--out", model_, "--calibrate", place_.book(), "--ratio", "1.5", "--quiet"})
            .status,
        0);
  }
  void refuse_explaining(const std::vector<std::string>& args, const std::string& part) const {
    const Result result = call(args);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }
  Workplace place_;
  const std::string model_ = place_ / "small";
};

TEST_F(ExplainCommand, TellsOfTheModelAndItsLayers) {
  const Result whole = call({"explain", model_});
  EXPECT_EQ(whole.status, 0) << whole.err;
  for (const char* said :
       {"predicted loss", "within the budget of", "perplexity of", "statements verified", "qtf audit verify"})
    EXPECT_NE(whole.out.find(said), std::string::npos) << said;
  EXPECT_EQ(call({"explain", model_}).out, whole.out) << "the template is deterministic";
  const auto layer = call_json({"explain", model_, "--layer", "1"});
  EXPECT_GE(layer.at("explanations").size(), 7U);
  for (const auto& explanation : layer.at("explanations")) {
    EXPECT_NE(explanation.at("subject").get<std::string>().find("layers.1."), std::string::npos);
    for (const auto& statement : explanation.at("statements"))
      EXPECT_FALSE(statement.contains("refused")) << statement;
  }
  for (const char* name : {"e.html", "e.json", "e.md"})
    EXPECT_EQ(call({"explain", model_, "--map", "embed", "--out", place_ / name}).status, 0);
  const std::string page = read_file(place_ / "e.html");
  EXPECT_EQ(page.find("://"), std::string::npos) << "nothing from elsewhere";
  EXPECT_NE(page.find("</html>"), std::string::npos);
}

TEST_F(ExplainCommand, K2IsCheckedRecordedAndReplacedWhereItFails) {
  const std::string key = "sk-secret-987654";
  const nlohmann::json answer = {
      {"statements",
       {{{"reason", "least_loss"},
         {"facts", {"budget", "loss"}},
         {"text", "Within the budget {budget} the predicted loss of {loss} is the least."}},
        {{"reason", "size_measured"},
         {"facts", {"parameters"}},
         {"text", "The model has {parameters}, which gives a quantum advantage."}}}}};
  const nlohmann::json reply = {
      {"choices",
       {{{"message", {{"content", "<think>x</think>" + answer.dump()}}}, {"finish_reason", "stop"}}}}};
  const std::string body = reply.dump();
  explain::FakeChatServer server([&](int, const std::string&) {
    return explain::Script{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                                    "\r\nConnection: close\r\n\r\n" + body};
  });
  setenv("QTF_K2_URL", server.url().c_str(), 1);
  setenv("QTF_K2_API_KEY", key.c_str(), 1);
  const auto told = call_json({"explain", model_, "--explainer", "k2"});
  unsetenv("QTF_K2_URL"), unsetenv("QTF_K2_API_KEY");
  int own = 0, refused = 0;
  for (const auto& explanation : told.at("explanations"))
    for (const auto& statement : explanation.at("statements")) {
      own += statement.at("by") == "explainer";
      refused += statement.value("refused", "").find("'gives'") != std::string::npos;
    }
  EXPECT_EQ(own, 1);
  EXPECT_EQ(refused, 1);
  EXPECT_NE(told.at("tally").get<std::string>().find("explained by K2 Think: 1 of"), std::string::npos);
  EXPECT_EQ(told.dump().find("advantage"), std::string::npos);
  const Result records = call({"audit", "show", model_, "--kind", "explanation", "--json"});
  EXPECT_NE(records.out.find("prompt_hash"), std::string::npos);
  EXPECT_EQ(records.out.find(key), std::string::npos);
  EXPECT_EQ(call({"audit", "verify", model_}).status, 0);
  for (const std::string& request : server.requests())
    EXPECT_EQ(request.find("train of tensors"), std::string::npos) << "no text leaves the machine";
}

TEST_F(ExplainCommand, RefusesWhatDoesNotFit) {
  refuse_explaining({"explain", place_ / "none"}, "does not exist");
  refuse_explaining({"explain", place_.book()}, "no audit file");
  refuse_explaining({"explain", model_, "--layer", "99"}, "no record of a map called *layers.99.*");
  refuse_explaining({"explain", model_, "--layer", "1", "--map", "x"}, "contradict");
  refuse_explaining({"explain", model_, "--out", place_ / "x.pdf"}, "ends in .html, .json or .md");
  refuse_explaining({"explain", model_, "--explainer", "oracle"}, "oracle");
  setenv("QTF_K2_URL", "http://example.com", 1);
  refuse_explaining({"explain", model_, "--explainer", "k2"}, "must begin with https://");
  unsetenv("QTF_K2_URL");
  audit::meddle(std::filesystem::path(model_) / "audit.sqlite",
                "UPDATE records SET hash=x'00' WHERE sequence=2");
  refuse_explaining({"explain", model_}, "run qtf audit verify");
}

}  // namespace
}  // namespace qtf::cli
