// Forward and training step (forward, backward) of one map by shape and token count. The rate counts the
// dense matrix's work for every shape, so that a shape that saves shows a higher one: "GFLOP/s-equivalent".
#include "qtf/tt/linear_map.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>
#include <vector>

namespace qtf::tt {
namespace {

struct Width {
  int64_t out, in;
};
constexpr Width kWidths[] = {{1024, 256}, {2048, 512}};

struct Setup {
  Setup(const WeightShape& shape, int64_t rows, Use use)
      : map(make_linear_map<float>(shape)),
        cores(static_cast<size_t>(parameters(shape))),
        x(static_cast<size_t>(rows * shape.in), 0.5F),
        dx(x.size()),
        y(static_cast<size_t>(rows * shape.out), 0.25F),
        saved(static_cast<size_t>(map->saved_size(rows))),
        dfactors(static_cast<size_t>(map->factor_size())) {
    initialise(shape, Random{1, 1}, cores.data());
    map->prepare(cores.data(), use);
  }

  std::unique_ptr<LinearMap<float>> map;
  AlignedVector<float> cores, x, dx, y, saved, dfactors;
  Arena scratch;
};

void report(benchmark::State& state, const WeightShape& shape, int64_t rows, int products) {
  state.counters["flops_equivalent"] =
      benchmark::Counter(2.0 * products * static_cast<double>(rows * shape.in * shape.out),
                         benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  state.counters["ratio"] =
      static_cast<double>(shape.in * shape.out) / static_cast<double>(parameters(shape));
}

void forward(benchmark::State& state, const WeightShape& shape) {
  const int64_t rows = state.range(0);
  Setup s(shape, rows, Use::inference);
  for (auto _ : state) {
    s.map->forward({s.x.data(), rows, shape.in}, {s.y.data(), rows, shape.out}, nullptr, 0, s.scratch);
    benchmark::DoNotOptimize(s.y.data());
    benchmark::ClobberMemory();
  }
  report(state, shape, rows, 1);
}

void training(benchmark::State& state, const WeightShape& shape) {
  const int64_t rows = state.range(0);
  Setup s(shape, rows, Use::training);
  std::vector<float> dcores(s.cores.size());
  for (auto _ : state) {
    s.map->prepare(s.cores.data(), Use::training);
    s.map->forward({s.x.data(), rows, shape.in}, {s.y.data(), rows, shape.out}, s.saved.data(), 0, s.scratch);
    s.map->backward({s.y.data(), rows, shape.out}, {s.x.data(), rows, shape.in}, s.saved.data(),
                    {s.dx.data(), rows, shape.in}, Into::overwrite, s.dfactors.data(), 0, s.scratch);
    if (!s.map->factors_are_cores())
      s.map->pull_back(s.cores.data(), s.dfactors.data(), dcores.data(), s.scratch);
    benchmark::DoNotOptimize(s.dx.data());
    benchmark::ClobberMemory();
  }
  report(state, shape, rows, 3);
}

[[maybe_unused]] const int kRegistered = [] {
  for (const auto& [out, in] : kWidths) {
    std::vector<WeightShape> shapes{parse_shape("dense", out, in)};
    for (const ShapeKind kind : {ShapeKind::chain, ShapeKind::btt})
      shapes.push_back(shape_with_parameters(kind, out, in, out * in / 2));
    for (const char* mpo : {"mpo:rank=8", "mpo:rank=64"}) shapes.push_back(parse_shape(mpo, out, in));
    for (const WeightShape& shape : shapes) {
      const std::string name = fmt::format("{}x{} {}", out, in, to_string(shape));
      auto* run = benchmark::RegisterBenchmark(("forward " + name).c_str(),
                                               [shape](benchmark::State& state) { forward(state, shape); });
      for (const int64_t rows : {1, 8, 64, 512}) run->Arg(rows);
      benchmark::RegisterBenchmark(("training " + name).c_str(),
                                   [shape](benchmark::State& state) { training(state, shape); })
          ->Arg(512)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace qtf::tt
