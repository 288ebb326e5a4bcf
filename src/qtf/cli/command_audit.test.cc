// `qtf audit` in process, on files that tests write and on those of real models.
#include "qtf/audit/audit_test.h"
#include "qtf/base/sha256.h"
#include "qtf/cli/cli_test.h"
#include "qtf/cli/decision_kinds.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;
using audit::meddle;
using audit::write_sample;
using Json = nlohmann::json;

// RFC 8410, section 10.
constexpr std::string_view kPrivateKey =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n";
constexpr std::string_view kPublicKey =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n";

class AuditCommand : public testing::Test {
 protected:
  AuditCommand() { write_sample(file_, 6); }
  Result audit(const std::string& action, std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"audit", action, file_};
    args.insert(args.end(), more.begin(), more.end());
    return call(args);
  }
  Json audit_json(const std::string& action, std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"audit", action, file_};
    args.insert(args.end(), more.begin(), more.end());
    return call_json(args);
  }
  void refuse(const std::vector<std::string>& args, const std::string& part) const {
    const auto before = place_.snapshot();
    const Result result = call(args);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_EQ(place_.snapshot(), before);
  }

  Workplace place_;
  const std::string file_ = place_ / "run.audit";
};

TEST_F(AuditCommand, ShowsWhatIsAskedFor) {
  const auto lines = [&](const std::vector<std::string>& more) {
    const std::string out = audit("show", more).out;
    return std::count(out.begin(), out.end(), '\n');
  };
  EXPECT_EQ(lines({}), 7);
  EXPECT_EQ(lines({"--kind", "test"}), 6);
  EXPECT_EQ(lines({"--kind", "test.payload"}), 2);
  EXPECT_EQ(lines({"--kind", "tes"}), 0);
  EXPECT_EQ(lines({"--from", "5"}), 3);
  EXPECT_EQ(lines({"--from", "2", "--records", "2"}), 2);
  EXPECT_EQ(lines({"--run", "no run"}), 0);
  const Json first = Json::parse(audit("show", {"--json", "--records", "1"}).out);
  EXPECT_EQ(first.at("kind"), "segment.open");
  EXPECT_EQ(lines({"--run", first.at("run").get<std::string>().substr(0, 6)}), 7);
  EXPECT_NE(audit("show").out.find("segment.open"), std::string::npos);
}

TEST_F(AuditCommand, AnEmptyFileHasNoRecords) {
  const std::string empty = place_.write("empty.audit", "");
  const Result result = call({"audit", "verify", empty});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("result           there are no records\n"), std::string::npos) << result.out;
  EXPECT_EQ(call({"audit", "verify", empty, "--count", "1"}).status, 1);
}

TEST_F(AuditCommand, VerifySaysWhetherThereIsAnAnchor) {
  EXPECT_NE(audit("verify").out.find("result           consistent, not anchored\n"), std::string::npos);
  const Json root = audit_json("root");
  const std::vector<std::string> anchor = {"--count", std::to_string(root.at("count").get<int64_t>()),
                                           "--root", root.at("root")};
  EXPECT_EQ(audit("root").out, fmt::format("{}\n", fmt::join(anchor, " ")));
  EXPECT_EQ(audit_json("verify", anchor).at("result"), "consistent, anchored");
  write_sample(file_, 2);
  EXPECT_EQ(audit_json("verify", anchor).at("anchored"), true);
  meddle(file_, "DELETE FROM records WHERE sequence>4");
  EXPECT_EQ(audit_json("verify").at("result"), "consistent, not anchored");
  const Result cut = audit("verify", anchor);
  EXPECT_EQ(cut.status, 1);
  EXPECT_NE(cut.out.find("4 records are there, the anchor counts 7"), std::string::npos) << cut.out;
  EXPECT_NE(cut.out.find("NOT CONSISTENT: 1 problem\n"), std::string::npos) << cut.out;
}

TEST_F(AuditCommand, ProblemsGoByExitStatusAndName) {
  meddle(file_, "UPDATE records SET bytes=x'7b7d' WHERE sequence=3");
  const Result found = audit("verify");
  EXPECT_EQ(found.status, 1);
  EXPECT_NE(found.out.find("record 3 was changed"), std::string::npos) << found.out;
  const Result as_json = audit("verify", {"--json"});
  EXPECT_EQ(as_json.status, 1);
  EXPECT_EQ(Json::parse(as_json.out).at("problems").at(0).at("record"), 3);
  for (const char* action : {"replay", "root", "export"})
    refuse({"audit", action, file_}, "run qtf audit verify");
  refuse({"audit", "show", file_}, "record 3 is none");
}

TEST_F(AuditCommand, SignedAnchorsHold) {
  const std::string key = place_.write("key.pem", std::string(kPrivateKey));
  const std::string public_key = place_.write("key.pub", std::string(kPublicKey));
  refuse({"audit", "verify", file_, "--public-key", public_key}, "run.audit.anchor");
  EXPECT_EQ(audit("sign", {"--key", key}).status, 0);
  EXPECT_EQ(audit_json("verify", {"--public-key", public_key}).at("result"), "consistent, anchored");
  EXPECT_EQ(audit("sign", {"--key", key, "--out", place_ / "kept"}).status, 0);
  meddle(file_, "DELETE FROM records WHERE sequence=7");
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--anchor", place_ / "kept"}}) {
    std::vector<std::string> options = {"--public-key", public_key};
    options.insert(options.end(), more.begin(), more.end());
    EXPECT_EQ(audit("verify", options).status, 1);
  }
  std::string forged = read_file(place_ / "kept");
  forged.replace(forged.find("\"sig\":\"") + 7, 4, "AAAA");
  place_.write("kept", forged);
  refuse({"audit", "verify", file_, "--public-key", public_key, "--anchor", place_ / "kept"}, "no signature");
  place_.write("kept", "text");
  refuse({"audit", "verify", file_, "--public-key", public_key, "--anchor", place_ / "kept"},
         "no DSSE envelope");
}

TEST_F(AuditCommand, ExportsEveryByte) {
  std::istringstream lines(audit("export").out);
  int64_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json record = Json::parse(line);
    EXPECT_EQ(record.at("record").at("sequence"), std::to_string(++count));
    EXPECT_EQ(record.at("hash").get<std::string>().size(), 64U);
    EXPECT_EQ(record.contains("payload"), record.at("record").contains("payload"));
  }
  EXPECT_EQ(count, 7);
  EXPECT_EQ(audit("export", {"--out", place_ / "lines"}).status, 0);
  EXPECT_EQ(read_file(place_ / "lines"), audit("export").out);
}

TEST_F(AuditCommand, RefusesWhatDoesNotFit) {
  const std::string key = place_.write("key.pem", std::string(kPrivateKey));
  refuse({"audit", "verify", place_ / "none"}, "does not exist");
  refuse({"audit", "show", place_ / "none"}, "does not exist");
  refuse({"audit", "replay", place_ / "none"}, "does not exist");
  refuse({"audit", "verify", place_.book()}, "no audit file");
  refuse({"audit", "sign", file_}, "sign needs --key");
  refuse({"audit", "sign", file_, "--key", place_.book()}, "no Ed25519 private key");
  refuse({"audit", "verify", file_, "--key", key}, "does not take --key");
  refuse({"audit", "root", file_, "--count", "3"}, "does not take --count");
  refuse({"audit", "verify", file_, "--root", "abc"}, "64 hexadecimal digits");
  refuse({"audit", "verify", file_, "--anchor", key}, "--anchor needs --public-key");
  refuse({"audit", "verify", file_, "--public-key", key, "--count", "3"}, "contradicts --root and --count");
  refuse({"audit", "export", file_, "--key", key}, "of --format in-toto");
  refuse({"audit", "export", file_, "--format", "in-toto"}, "add --model");
  refuse({"audit", "export", file_, "--format", "in-toto", "--model", place_ / "."}, "holds no model");
  refuse({"audit", "draw", file_}, "draw");
}

TEST_F(AuditCommand, ModelsTellHowTheyWereMade) {
  const std::string dense = place_.train("dense", {"--steps", "8"});
  const std::string small = place_ / "small";
  ASSERT_EQ(
      call({"compress", dense, "--out", small, "--calibrate", place_.book(), "--ratio", "1.5", "--quiet"})
          .status,
      0);
  for (const std::string& model : {dense, small}) {
    EXPECT_EQ(call_json({"audit", "verify", model}).at("result"), "consistent, not anchored");
    const Json replayed = call_json({"audit", "replay", model});
    EXPECT_EQ(replayed.at("same"), replayed.at("decisions"));
    EXPECT_EQ(replayed.at("unknown"), 0);
    EXPECT_EQ(replayed.at("decisions").get<int64_t>() > 5, model == small);
    const Json start = Json::parse(call({"audit", "show", model, "--kind", "making.start", "--json"}).out);
    EXPECT_EQ(start.at("data").at("command"), model == small ? "compress" : "train");
    const Json end = Json::parse(call({"audit", "show", model, "--kind", "making.end", "--json"}).out);
    EXPECT_EQ(end.at("data").at("files").at("model.safetensors"),
              sha256_file(fs::path(model) / "model.safetensors"));
  }
  const Json source = Json::parse(call({"audit", "show", small, "--kind", "making.start", "--json"}).out);
  const Json parent = Json::parse(call({"audit", "show", dense, "--kind", "making.end", "--json"}).out);
  EXPECT_EQ(source.at("data").at("source_hash"), parent.at("data").at("model_hash"));

  const std::string key = place_.write("key.pem", std::string(kPrivateKey));
  const Result statement = call({"audit", "export", small, "--format", "in-toto"});
  const Json in_toto = Json::parse(statement.out);
  EXPECT_EQ(in_toto.at("_type"), "https://in-toto.io/Statement/v1");
  const Json made = Json::parse(call({"audit", "show", small, "--kind", "making.end", "--json"}).out);
  EXPECT_EQ(in_toto.at("subject").size(), made.at("data").at("files").size());
  EXPECT_EQ(in_toto.at("predicate").at("model_hash"), made.at("data").at("model_hash"));
  EXPECT_EQ(in_toto.at("predicate").at("root"), call_json({"audit", "root", small}).at("root"));
  const Json envelope =
      Json::parse(call({"audit", "export", small, "--format", "in-toto", "--key", key}).out);
  EXPECT_EQ(envelope.at("payloadType"), "application/vnd.in-toto+json");
}

TEST(DecisionKinds, HaveNamesOfTheirOwn) {
  std::map<std::string_view, int> names;
  for (const audit::DecisionKind& kind : decision_kinds()) EXPECT_EQ(++names[kind.name], 1) << kind.name;
  EXPECT_GE(names.size(), 4U);
}

}  // namespace
}  // namespace qtf::cli
