#include "qtf/adapt/budget_judgement.h"

#include <gtest/gtest.h>

#include <map>

#include "qtf/adapt/decision_records.h"
#include "qtf/audit/canonical.h"
#include "qtf/base/error.h"

namespace qtf::adapt {
namespace {

using Json = nlohmann::json;

Json replayed(const audit::Decision& decision) {
  for (const audit::DecisionKind& kind : decision_kinds())
    if (kind.name == decision.kind) return kind.decide(Json::parse(audit::canonical(decision.question)));
  throw InputError("no such kind");
}

MeasuredQuery measured(int64_t p95_ns, double joules) {
  MeasuredQuery m;
  m.runs = 20, m.p50_ns = p95_ns - 1, m.p95_ns = p95_ns;
  m.energy_nj = nanojoules(joules);
  return m;
}

Judgement judged(std::optional<int64_t> latency, std::optional<int64_t> energy, const MeasuredQuery& m,
                 int64_t tolerance = 1'000'000) {
  return judge({latency, energy, tolerance, m});
}

TEST(BudgetJudgement, ABudgetIsKeptToTheLastNanosecond) {
  for (const int64_t tolerance : {1'000'000, 1'030'000}) {
    const int64_t most = 1'000'000 * tolerance / 1'000'000;
    for (const auto& [p95, holds] : std::map<int64_t, bool>{{most, true}, {most + 1, false}, {1, true}}) {
      const Judgement judgement = judged(1'000'000, {}, measured(p95, 1), tolerance);
      EXPECT_EQ(judgement.holds, holds) << p95;
      EXPECT_EQ(judgement.tightest, "latency_ns");
      EXPECT_EQ(replayed(record(judgement)), record(judgement).answer);
    }
  }
  EXPECT_FALSE(judged({}, 1'000'000'000, measured(1, 1.000000001)).holds);
  EXPECT_TRUE(judged({}, 1'000'000'000, measured(1, 1)).holds);
  const Judgement both = judged(10, 1'000'000'000, measured(5, 0.6));
  EXPECT_TRUE(both.holds);
  EXPECT_EQ(both.tightest, "energy_nj");
  EXPECT_TRUE(judged({}, {}, measured(5, 1)).holds) << "what is not timed is not judged here";
  EXPECT_EQ(to_json(both).at("decision"), "budget_measurement");
}

TEST(BudgetJudgement, LossesAreScaledByLeastSquares) {
  EXPECT_EQ(scale_losses({}).millionths, 1'000'000);
  EXPECT_EQ(scale_losses({{100, 200}, {50, 100}}).millionths, 500'000);
  EXPECT_EQ(scale_losses({{100, 200}, {-50, -100}}).millionths, 1'000'000) << "lost nothing: no scale";
  EXPECT_EQ(scale_losses({{100}, {1'000'000}}).millionths, 100'000'000);
  EXPECT_EQ(scale_losses({{1'000'000}, {1}}).millionths, 10'000);
  const audit::Decision scale = record(scale_losses({{300'000'000, 100'000'000}, {280'000'000, 90'000'000}}));
  EXPECT_EQ(replayed(scale), scale.answer);
}

TEST(BudgetJudgement, QuestionsThatAreNoneAreRefused) {
  audit::Decision scale = record(scale_losses({{3}, {4}}));
  scale.question["lost"] = Json::array();
  EXPECT_THROW(replayed(scale), InputError);
  scale.question["lost"] = Json::array({"999999999999999999"});
  EXPECT_THROW(replayed(scale), InputError);
  audit::Decision judgement = record(judged(5, {}, measured(3, 1)));
  judgement.question["latency_ns"] = "-1";
  EXPECT_THROW(replayed(judgement), InputError);
  judgement.question.erase("p95_ns");
  EXPECT_THROW(replayed(judgement), InputError);
  for (const audit::DecisionKind& kind : decision_kinds())
    EXPECT_THROW(kind.decide(Json::array()), InputError);
}

}  // namespace
}  // namespace qtf::adapt
