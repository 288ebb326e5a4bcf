// Records verified and decisions taken again a second, from a file of 200,000.
#include "qtf/audit/verify.h"

#include <benchmark/benchmark.h>

#include "qtf/audit/fields.h"
#include "qtf/audit/replay.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::audit {
namespace {

constexpr int64_t kBenchRecords = 200'000;

nlohmann::json decide_threshold(const nlohmann::json& question) {
  return {{"above", flag_text(integer_field(question, "score") >= integer_field(question, "threshold"))}};
}
constexpr DecisionKind kBenchKinds[] = {{"threshold", "", decide_threshold}};

/// As large as a routing decision.
const std::filesystem::path& bench_file() {
  static const TemporaryFolder folder;
  static const std::filesystem::path file = folder / "audit";
  if (!std::filesystem::exists(file)) {
    LogOptions options;
    options.records_together = 4096;
    Log log(file, options);
    for (int64_t i = 0; i < kBenchRecords; ++i) {
      const nlohmann::json question = {{"position", std::to_string(i)},
                                       {"routed_before", std::to_string(i / 5)},
                                       {"score", std::to_string(i * 7919 % 1000)},
                                       {"threshold", "500"},
                                       {"ppm", "200000"}};
      append_decision(log, {"threshold", question, decide_threshold(question)});
    }
    log.flush();
  }
  return file;
}

void verify_records(benchmark::State& state) {
  const auto& file = bench_file();
  for (auto _ : state) benchmark::DoNotOptimize(verify(file).problems.size());
  state.SetItemsProcessed(state.iterations() * kBenchRecords);
}
BENCHMARK(verify_records)->Unit(benchmark::kMillisecond);

void replay_decisions(benchmark::State& state) {
  const auto& file = bench_file();
  for (auto _ : state) benchmark::DoNotOptimize(replay(file, kBenchKinds).same);
  state.SetItemsProcessed(state.iterations() * kBenchRecords);
}
BENCHMARK(replay_decisions)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qtf::audit
