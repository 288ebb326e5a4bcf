// What a quantum layer costs a model: training steps and decoded tokens of one preset, with and without it,
// turn by turn in one run. Prints the medians, the ratio of each pair's times and the measured share of
// routed tokens.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "../options.h"
#include "qtf/base/random.h"
#include "qtf/model/inference.h"
#include "qtf/train/step.h"

namespace qtf {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const auto& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

std::vector<int32_t> random_tokens(size_t n, int64_t vocabulary) {
  const Random random{3, 1};
  std::vector<int32_t> tokens(n);
  for (size_t i = 0; i < n; ++i)
    tokens[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocabulary)));
  return tokens;
}

/// One of the two models, and what its runs need.
struct Side {
  Side(const model::ModelConfig& config, ThreadPool& workers)
      : pool(workers),
        model(config),
        stepper(model, {}, pool),
        inference(model, pool),
        cache(model.make_cache(config.context)) {
    model.initialise(1);
  }

  double train(const train::StepInput& input) {
    return seconds_of([&] { routed_share = stepper.step(input).routed_share; });
  }

  /// Seconds a token of `tokens` decoded one by one after a prompt of half a context.
  double decode(std::span<const int32_t> tokens) {
    std::vector<float> hidden(tokens.size() * static_cast<size_t>(model.config().width)),
        logits(static_cast<size_t>(model.config().vocabulary));
    const auto half = tokens.size() / 2;
    cache.truncate(0);
    const auto extend = [&](std::span<const int32_t> more) {
      const model::Chunk<float> chunk{more, &cache};
      const auto rows = static_cast<int64_t>(more.size());
      const Matrix<float> h(hidden.data(), rows, model.config().width);
      inference.forward({&chunk, 1}, 0, h);
      inference.logits(h.row_block(rows - 1, 1), 0, {logits.data(), 1, model.config().vocabulary});
    };
    extend(tokens.first(half));
    const double seconds = seconds_of([&] {
      for (size_t t = half; t < tokens.size(); ++t) extend(tokens.subspan(t, 1));
    });
    return seconds / static_cast<double>(tokens.size() - half);
  }

  ThreadPool& pool;
  model::Transformer<float> model;
  train::Stepper stepper;
  model::Inference<float> inference;
  nn::KvCache<float> cache;
  double routed_share = 0;
};

struct Times {
  std::vector<double> without, with, ratio;
  void add(double a, double b) { without.push_back(a), with.push_back(b), ratio.push_back(b / a); }
};

void print(const char* what, const Times& times, double unit, const char* unit_name) {
  fmt::print("{:<14} without {:9.3f} {}, with {:9.3f} {}: {:+.2f} % (median of {} pairs)\n", what,
             unit * median(times.without), unit_name, unit * median(times.with), unit_name,
             100 * (median(times.ratio) - 1), times.ratio.size());
}

void run(const std::string& preset, const std::string& quantum, int rounds, int64_t batch, int threads) {
  model::ModelConfig config = model::preset_config(preset);
  config.context = 128;
  ThreadPool pool(threads);
  Side without(config, pool);
  config.quantum = model::parse_quantum(quantum);
  Side with(config, pool);
  const auto tokens = random_tokens(static_cast<size_t>(batch * config.context), config.vocabulary);
  train::StepInput input;
  input.batch = {tokens, tokens, batch, config.context};

  Times training, decoding;
  for (int i = 0; i < rounds + 1; ++i) {
    const double a = without.train(input), b = with.train(input);
    if (i > 0) training.add(a, b);  // the first warms up
  }
  const auto text = std::span(tokens).first(static_cast<size_t>(config.context));
  for (Side* side : {&without, &with}) side->model.prepare(tt::Use::inference, pool);
  for (int i = 0; i < 5 * rounds + 1; ++i) {
    const double a = without.decode(text), b = with.decode(text);
    if (i > 0) decoding.add(a, b);
  }
  fmt::print("{} with {} ({} threads, {} sequences of {} tokens)\n", preset,
             model::to_string(*config.quantum), pool.size(), batch, config.context);
  print("training step", training, 1e3, "ms");
  print("decoded token", decoding, 1e6, "us");
  fmt::print("routed         {:.2f} % of the last step's tokens, {:.2f} % of the decoded text's\n",
             100 * with.routed_share,
             100 * static_cast<double>(with.cache.routed_before(with.cache.length())) /
                 static_cast<double>(with.cache.length()));
}

}  // namespace
}  // namespace qtf

int main(int argc, char** argv) {
  qtf::benchmarks::Options app("What a quantum layer costs a training step and a decoded token.");
  // Random routing keeps to the share whatever the scores of an untrained router are; the work is the same.
  std::string preset = "small", quantum = "qubits=6,layers=2,ansatz=strongly,fraction=0.2,routing=random";
  int rounds = 9, threads = 1;
  int64_t batch = 16;
  app.add("--preset", preset, "sizes of the model");
  app.add("--quantum", quantum, "as of qtf train");
  app.add("--rounds", rounds, "pairs of training steps; five times as many of decoding").between(1, 10000);
  app.add("--batch", batch, "sequences a step").between(1, 4096);
  app.add("--threads", threads, "0: all cores").between(0, 1024);
  app.parse(argc, argv);
  try {
    qtf::run(preset, quantum, rounds, batch, threads);
  } catch (const std::exception& error) {
    fmt::print(stderr, "layer_cost: {}\n", error.what());
    return 2;
  }
}
