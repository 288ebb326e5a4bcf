// `qtf explain` in process, on a compressed model's records.
#include <set>

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
  for (const char* said : {"predicted loss", "within the budget of", "the perplexity was",
                           "statements verified", "qtf audit verify"})
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

TEST_F(ExplainCommand, AnAnswerIsAskedForOnceAndFoundAgain) {
  const nlohmann::json reply = {
      {"choices",
       {{{"message",
          {{"content", R"({"statements":[{"reason":"least_loss","facts":["budget","loss"],"text":)"
                       R"("Within the budget {budget} the predicted loss of {loss} is the least."}]})"}}},
         {"finish_reason", "stop"}}}}};
  const std::string body = reply.dump();
  explain::FakeChatServer server([&](int, const std::string&) {
    return explain::Script{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                                    "\r\nConnection: close\r\n\r\n" + body};
  });
  setenv("QTF_K2_URL", server.url().c_str(), 1);
  const auto first = call_json({"explain", model_, "--explainer", "k2"});
  const size_t asked = server.requests().size();
  EXPECT_GE(asked, 2U);
  const auto second = call_json({"explain", model_, "--explainer", "k2"});
  EXPECT_EQ(server.requests().size(), asked) << "all were found in the records";
  EXPECT_EQ(second.at("explanations"), first.at("explanations"));
  const Result records = call({"audit", "show", model_, "--kind", "explanation", "--json"});
  EXPECT_EQ(static_cast<size_t>(std::count(records.out.begin(), records.out.end(), '\n')), asked);
  setenv("QTF_K2_MODEL", "another", 1);
  call_json({"explain", model_, "--explainer", "k2"});
  EXPECT_EQ(server.requests().size(), 2 * asked) << "another model's words are its own";
  unsetenv("QTF_K2_URL"), unsetenv("QTF_K2_MODEL");
}

/// Whatever a server does, its error is told as one and never as an explanation, and the key stays here.
TEST_F(ExplainCommand, AnErrorIsNoExplanation) {
  const std::string key = "sk-secret-987654", body = "{\"error\":\"bad key " + key + "\"}";
  explain::FakeChatServer server([&](int, const std::string&) {
    return explain::Script{.bytes = "HTTP/1.1 401 No\r\nContent-Length: " + std::to_string(body.size()) +
                                    "\r\nConnection: close\r\n\r\n" + body};
  });
  setenv("QTF_K2_URL", server.url().c_str(), 1);
  setenv("QTF_K2_API_KEY", key.c_str(), 1);
  const Result told = call({"explain", model_, "--explainer", "k2"});
  unsetenv("QTF_K2_URL"), unsetenv("QTF_K2_API_KEY");
  EXPECT_EQ(told.status, 0) << told.err;
  EXPECT_NE(told.out.find("explained by K2 Think: 0 of"), std::string::npos) << told.out;
  EXPECT_NE(told.out.find("within the budget of"), std::string::npos) << "the template's sentences stand";
  EXPECT_EQ(told.out.find("401"), std::string::npos);
  const std::string records = call({"audit", "show", model_, "--json"}).out;
  for (const std::string& place : {told.out, told.err, records})
    EXPECT_EQ(place.find(key), std::string::npos);
}

TEST_F(ExplainCommand, TellsOfTokensOfATextAndOfARun) {
  const std::string dense =
      place_.train("routed", {"--steps", "6", "--quantum", "qubits=2,layers=1,fraction=0.25", "--shape",
                              "ffn=chain:rank=8", "--levels", "3"});
  ASSERT_EQ(call({"calibrate", dense, "--text", place_.book()}).status, 0);
  std::set<std::string> kinds;
  for (const char* token : {"0", "7", "21"}) {
    const auto told = call_json({"explain", dense, "--token", token, "--text", place_.book()});
    EXPECT_NE(told.at("note").get<std::string>().find("Token " + std::string(token)), std::string::npos);
    for (const auto& explanation : told.at("explanations")) {
      kinds.insert(explanation.at("kind").get<std::string>());
      EXPECT_FALSE(explanation.at("statements").empty()) << explanation;
      EXPECT_EQ(explanation.at("facts").at("token"), token);
    }
    EXPECT_GE(told.at("explanations").size(), 3U);
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"rank", "route"}));
  // The same from the records of a run, with the numbers of theirs; the text is not needed.
  const std::string run = place_ / "run";
  ASSERT_EQ(call({"eval", dense, "--text", place_.book(), "--context", "32", "--rank-policy", "entropy",
                  "--audit", run, "--audit-level", "full"})
                .status,
            0);
  auto of_text =
      call_json({"explain", dense, "--token", "7", "--text", place_.book(), "--rank-policy", "entropy"});
  auto of_run = call_json({"explain", dense, "--token", "7", "--audit", run});
  ASSERT_EQ(of_run.at("explanations").size(), of_text.at("explanations").size());
  for (size_t i = 0; i < of_run.at("explanations").size(); ++i) {
    EXPECT_EQ(of_run["explanations"][i].at("statements"), of_text["explanations"][i].at("statements"));
    EXPECT_GT(of_run["explanations"][i].at("record").get<int64_t>(), 0);
  }
  // One layer, and the whole run.
  const Result layer = call({"explain", dense, "--layer", "1", "--text", place_.book()});
  for (const char* said :
       {"In layer 1 the thresholds are", "In layer 1, which saw 32 tokens, of levels the mix was"})
    EXPECT_NE(layer.out.find(said), std::string::npos) << said << layer.out << layer.err;
  const Result whole = call({"explain", run});
  EXPECT_NE(whole.out.find("In the run, which saw"), std::string::npos) << whole.out << whole.err;
  EXPECT_NE(whole.out.find("the tokens routed were"), std::string::npos);
  // A gate sees more than the records hold.
  const std::string gated = place_ / "gated";
  ASSERT_EQ(call({"eval", dense, "--text", place_.book(), "--context", "32", "--rank-policy", "gate",
                  "--audit", gated, "--audit-level", "full"})
                .status,
            0);
  refuse_explaining({"explain", dense, "--token", "7", "--audit", gated}, "policy gate asks for more");
  const std::string summary = place_ / "summary";
  ASSERT_EQ(call({"eval", dense, "--text", place_.book(), "--audit", summary}).status, 0);
  refuse_explaining({"explain", dense, "--token", "7", "--audit", summary}, "--audit-level full");
  refuse_explaining({"explain", dense, "--token", "7", "--audit", run, "--sequence", "999"},
                    "no sequence 999");
  refuse_explaining({"explain", dense, "--token", "32", "--text", place_.book()}, "tokens 0 to 31");
  refuse_explaining({"explain", dense, "--token", "7"}, "--text FILE");
  refuse_explaining({"explain", model_, "--token", "7", "--audit", run}, "is not the model of the run");
  refuse_explaining({"explain", model_, "--token", "7", "--text", place_.book()},
                    "nothing is decided for token 7");
}

TEST_F(ExplainCommand, TellsOfBudgets) {
  const std::string dense = place_ / "dense", phone = place_ / "phone", refused = place_ / "refused";
  const auto budget = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "budget",  dense,       "--out",    out,           "--query",    "prompt=12,tokens=6",
        "--watts", "10",        "--rounds", "1",           "--ranks",    "2",
        "--quiet", "--threads", "2",        "--calibrate", place_.book()};
    args.insert(args.end(), more.begin(), more.end());
    return call(args).status;
  };
  ASSERT_EQ(budget(phone, {"--max-params", "30k", "--max-latency-ms", "100s"}), 0);
  const Result told = call({"explain", phone});
  for (const char* said : {"is the least within the budget of 30,000 parameters",
                           "holds because the query's time", "Measured over"})
    EXPECT_NE(told.out.find(said), std::string::npos) << said << told.out;
  const auto layer = call_json({"explain", phone, "--layer", "1"});
  EXPECT_GE(layer.at("explanations").size(), 7U);
  EXPECT_NE(layer.dump().find("because the budget of 30,000 parameters binds"), std::string::npos);
  ASSERT_EQ(budget(place_ / "none", {"--max-params", "100", "--audit", refused}), 2);
  EXPECT_NE(call({"explain", refused}).out.find("is not kept by any choice"), std::string::npos);
}

/// The report an auditor gets: all parts are there, nothing is loaded, and no text becomes markup.
TEST_F(ExplainCommand, TheAuditorsReportIsOneSafeFile) {
  const std::string hostile = place_ / "<b>x&y";
  std::filesystem::rename(model_, hostile);
  const std::string text =
      place_.write("<i>t.txt", "<script>alert(1)</script> \"'& <img src=http://x onerror=y>\n{token}");
  const std::string out = place_ / "report.html";
  const Result told = call({"explain", hostile, "--text", text, "--measure", "--watts", "12", "--query",
                            "prompt=8,tokens=4", "--threads", "1", "--out", out});
  ASSERT_EQ(told.status, 0) << told.err;
  const std::string page = read_file(out);
  for (const char* part :
       {"Model audit report", "What was done, and why", "Rank by layer", "token by token",
        "Budgets, asked and measured", "Quality", "Protocol:", "Time and energy", "modelled",
        "How to check this yourself", "qtf audit verify", "Its files", "@media print",
        "prefers-color-scheme: dark", "&lt;b&gt;x&amp;y", "to the same bits"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  for (const char* never : {"<script", "<img", "http://", "https://", "<b>x", "<i>t.txt", "url(", "@import"})
    EXPECT_EQ(page.find(never), std::string::npos) << never;
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  // A tag for every byte of the text, as far as the context reaches, each with what was decided there.
  size_t tokens = 0;
  for (size_t at = 0; (at = page.find("class=\"tip\"", at)) != std::string::npos; ++at) ++tokens;
  EXPECT_EQ(tokens, 32U);
  // The root that it prints is the file's.
  const size_t at = page.find("qtf audit verify");
  const std::string command = page.substr(at, page.find('\n', at) - at);
  const size_t count = command.find("--count ") + 8, root = command.find("--root ") + 7;
  EXPECT_EQ(
      call({"audit", "verify", hostile, "--count", command.substr(count, command.find(' ', count) - count),
            "--root", command.substr(root, 64)})
          .status,
      0);
  EXPECT_EQ(call({"explain", hostile, "--out", place_ / "usual.html"}).status, 0);
  EXPECT_NE(read_file(place_ / "usual.html").find("Gettysburg"), std::string::npos);
}

/// Moments that are stored need no text, and then nothing was measured on one.
TEST_F(ExplainCommand, TheReportDoesWithoutMeasuredTexts) {
  const std::string again = place_ / "again", out = place_ / "again.html";
  ASSERT_EQ(
      call({"compress", place_ / "dense", "--out", again, "--calibrate", model_, "--ratio", "2", "--quiet"})
          .status,
      0);
  ASSERT_EQ(call({"explain", again, "--out", out}).status, 0);
  EXPECT_NE(read_file(out).find("No text was measured."), std::string::npos);
  EXPECT_EQ(read_file(again + "/README.md").find("model-index"), std::string::npos);
}

TEST_F(ExplainCommand, RefusesWhatDoesNotFit) {
  refuse_explaining({"explain", place_ / "none"}, "does not exist");
  refuse_explaining({"explain", place_.book()}, "no audit file");
  refuse_explaining({"explain", model_, "--layer", "99"}, "no record of layer 99");
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
