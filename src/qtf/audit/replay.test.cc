#include "qtf/audit/replay.h"

#include "qtf/audit/audit_test.h"
#include "qtf/audit/fields.h"
#include "qtf/base/error.h"

namespace qtf::audit {
namespace {

nlohmann::json square(const nlohmann::json& question) {
  const int64_t x = integer_field(question, "x");
  return {{"square", std::to_string(x * x)}};
}

constexpr DecisionKind kKinds[] = {{"square", "a number's square", square}};

TEST(Replay, TakesEveryDecisionAgain) {
  TemporaryFolder folder;
  {
    LogOptions options;
    options.records_per_segment = 4;
    Log log(folder / "a", options);
    for (int x = -5; x < 5; ++x) {
      const nlohmann::json question = {{"x", std::to_string(x)}};
      append_decision(log, {"square", question, square(question)});
      log.flush();
    }
    log.append("other", {{"x", "no decision"}});
    append_decision(log, {"cube", {{"x", "1"}}, {{"cube", "1"}}});
  }
  const Replay good = replay(folder / "a", kKinds);
  EXPECT_EQ(good.decisions, 10);
  EXPECT_EQ(good.same, 10);
  EXPECT_EQ(good.unknown, 1);
  EXPECT_TRUE(good.differences.empty());
}

TEST(Replay, NamesWhatDiffers) {
  TemporaryFolder folder;
  {
    Log log(folder / "a");
    append_decision(log, {"square", {{"x", "3"}}, {{"square", "9"}}});
    append_decision(log, {"square", {{"x", "3"}}, {{"square", "10"}}});
    append_decision(log, {"square", {{"y", "3"}}, {{"square", "9"}}});
    log.append("decision.square", {{"x", "3"}});
  }
  const Replay bad = replay(folder / "a", kKinds);
  EXPECT_EQ(bad.decisions, 4);
  EXPECT_EQ(bad.same, 1);
  ASSERT_EQ(bad.differences.size(), 3U);
  EXPECT_EQ(bad.differences[0].sequence, 3);
  EXPECT_EQ(bad.differences[0].what, "the answer differs at '/square'");
  EXPECT_NE(bad.differences[1].what.find("'x' is missing"), std::string::npos);
  EXPECT_NE(bad.differences[2].what.find("'answer' is missing"), std::string::npos);
  meddle(folder / "a", "UPDATE records SET bytes=x'00' WHERE sequence=2");
  EXPECT_THROW(replay(folder / "a", kKinds), InputError);
}

TEST(FirstDifference, IsTheFirstPath) {
  EXPECT_EQ(first_difference({{"a", 1}}, {{"a", 1}}), "");
  EXPECT_EQ(first_difference({{"a", {1, 2}}}, {{"a", {1, 3}}}), "/a/1");
}

}  // namespace
}  // namespace qtf::audit
