// Our side of bench/compress/speed.py: SwiGLU feed-forward layers whose three maps are chains of a given
// ratio, against the same matrices multiplied out and run by our dense kernels. First compares the outputs,
// then times passes over all layers, the sides in turn, and prints one JSON object.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "../options.h"
#include "qtf/base/error.h"
#include "qtf/kernels/vector.h"
#include "qtf/model/inference.h"
#include "qtf/nn/decode.h"
#include "qtf/tensor/gemm_columns.h"

namespace {

using qtf::Arena;
using qtf::ArenaScope;
using qtf::Matrix;
using qtf::Range;
using qtf::TeamMember;
using Json = nlohmann::json;

struct Flags {
  int64_t width = 512, feed_forward = 1368, layers = 14;
  std::vector<double> ratios = {2, 3};
  std::vector<int64_t> tokens = {1, 8, 64, 512};
  int repeat = 15, threads = 0;
  bool free_gauge = false;
};

/// The chain of in × out that stores at most in·out/ratio numbers, its rank² free ones left out or not, and
/// its pivots at equal steps.
qtf::tt::WeightShape chain_of(int64_t out, int64_t in, double ratio, bool free_gauge) {
  const auto stored = [&](int64_t rank) { return rank * (out + in) - (free_gauge ? 0 : rank * rank); };
  int64_t rank = 1;
  while (rank < std::min(out, in) - 1 &&
         static_cast<double>(stored(rank + 1)) * ratio <= static_cast<double>(out * in))
    ++rank;
  auto shape = qtf::tt::parse_shape("chain:rank=" + std::to_string(rank), out, in);
  for (int64_t r = 0; r < rank && !free_gauge; ++r) shape.pivots.push_back(r * in / rank);
  return shape;
}

/// A linear layer with its numbers.
struct Weights {
  qtf::AlignedVector<float> cores;
  qtf::nn::Linear<float> linear;

  explicit Weights(const qtf::tt::WeightShape& shape)
      : cores(static_cast<size_t>(qtf::tt::parameters(shape))) {
    linear.map = qtf::tt::make_linear_map<float>(shape);
  }
  void prepare() { linear.map->prepare(cores.data(), qtf::tt::Use::inference); }
};

/// gate, up, down.
using Layer = std::vector<Weights>;

Layer chain_layer(const Flags& flags, double ratio, uint64_t seed) {
  Layer layer;
  for (int i = 0; i < 3; ++i) {
    const int64_t out = i < 2 ? flags.feed_forward : flags.width;
    const auto shape = chain_of(out, i < 2 ? flags.width : flags.feed_forward, ratio, flags.free_gauge);
    Weights& w = layer.emplace_back(shape);
    qtf::tt::initialise(shape, {seed, static_cast<uint64_t>(i)}, w.cores.data());
    w.prepare();
  }
  return layer;
}

Layer dense_layer(const Layer& chains) {
  Layer layer;
  Arena scratch;
  for (const Weights& chain : chains) {
    const auto& shape = chain.linear.map->shape();
    Weights& w = layer.emplace_back(qtf::tt::parse_shape("dense", shape.out, shape.in));
    chain.linear.map->to_dense(chain.cores.data(), w.cores.data(), 0, scratch);
    w.prepare();
  }
  return layer;
}

/// One side: layers that all take the same input, as the residual stream would hand it on.
struct Side {
  std::vector<Layer> layers;
  qtf::AlignedVector<float> up, hidden, shared, y;

  Side(std::vector<Layer> made, const Flags& flags) : layers(std::move(made)) {
    const int64_t rows = *std::max_element(flags.tokens.begin(), flags.tokens.end());
    up.resize(static_cast<size_t>(rows * 2 * flags.feed_forward));
    hidden.resize(static_cast<size_t>(rows * flags.feed_forward));
    y.resize(static_cast<size_t>(rows * flags.width));
    int64_t numbers = 0;
    for (const Weights& w : layers[0]) numbers += w.linear.map->shared_size(qtf::model::kFewRows);
    shared.resize(static_cast<size_t>(numbers));
  }
};

/// As nn/decode.cc runs the feed-forward layer of a decoded token.
void pass_few(Side& side, const Flags& flags, qtf::ConstMatrix<float> x, TeamMember& team, Arena& scratch) {
  const int64_t rows = x.rows, hidden_width = flags.feed_forward;
  const Matrix<float> up(side.up.data(), rows, 2 * hidden_width),
      hidden(side.hidden.data(), rows, hidden_width);
  for (const Layer& layer : side.layers) {
    float* shared = side.shared.data();
    for (int64_t i = 0; i < 2; ++i) {
      const auto& linear = layer[static_cast<size_t>(i)].linear;
      qtf::nn::linear_columns<float>(linear, x, up.col_block(i * hidden_width, hidden_width), 0, team, shared,
                                     scratch);
      shared += linear.map->shared_size(rows);
    }
    const Range columns = team.part(hidden_width, qtf::kColumnGrain);
    for (int64_t i = 0; i < rows; ++i)
      qtf::kernels::silu_mul<float>(columns.size(), up.row(i) + columns.begin,
                                    up.row(i) + hidden_width + columns.begin, hidden.row(i) + columns.begin);
    team.barrier();
    qtf::nn::linear_columns<float>(layer[2].linear, hidden, {side.y.data(), rows, flags.width}, 0, team,
                                   shared, scratch);
    team.barrier();
  }
}

/// As nn/block.cc runs a worker's rows of a prompt.
void pass_many(Side& side, const Flags& flags, qtf::ConstMatrix<float> x, Range rows, Arena& scratch) {
  const int64_t hidden_width = flags.feed_forward;
  const auto part = [&](qtf::AlignedVector<float>& data, int64_t cols) {
    return Matrix<float>(data.data() + rows.begin * cols, rows.size(), cols);
  };
  const Matrix<float> up = part(side.up, 2 * hidden_width), hidden = part(side.hidden, hidden_width);
  for (const Layer& layer : side.layers) {
    for (int64_t i = 0; i < 2; ++i)
      qtf::nn::linear_forward<float>(layer[static_cast<size_t>(i)].linear,
                                     x.row_block(rows.begin, rows.size()),
                                     up.col_block(i * hidden_width, hidden_width), nullptr, 0, scratch);
    for (int64_t i = 0; i < rows.size(); ++i)
      qtf::kernels::silu_mul<float>(hidden_width, up.row(i), up.row(i) + hidden_width, hidden.row(i));
    qtf::nn::linear_forward<float>(layer[2].linear, hidden, part(side.y, flags.width), nullptr, 0, scratch);
  }
}

class Bench {
 public:
  explicit Bench(const Flags& flags)
      : flags_(flags), pool_(flags.threads), team_(pool_), arenas_(static_cast<size_t>(pool_.size())) {
    const int64_t most = *std::max_element(flags.tokens.begin(), flags.tokens.end());
    x_.resize(static_cast<size_t>(most * flags.width));
    const qtf::Random random{7, 7};
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(random.normal(i));
  }

  Json run() {
    Json results = Json::array();
    for (const double ratio : flags_.ratios) {
      std::vector<Layer> chains, matrices;
      for (int64_t layer = 0; layer < flags_.layers; ++layer) {
        chains.push_back(chain_layer(flags_, ratio, static_cast<uint64_t>(layer)));
        matrices.push_back(dense_layer(chains.back()));
      }
      Side factors(std::move(chains), flags_), dense(std::move(matrices), flags_);
      for (const int64_t rows : flags_.tokens) {
        results.push_back(compare(ratio, rows, factors, dense));
      }
    }
    return {{"threads", pool_.size()}, {"results", results}};
  }

 private:
  double seconds(Side& side, int64_t rows) {
    const qtf::ConstMatrix<float> x(x_.data(), rows, flags_.width);
    const auto start = std::chrono::steady_clock::now();
    team_.run([&](TeamMember& member) {
      Arena& scratch = arenas_[static_cast<size_t>(member.index())];
      if (rows <= qtf::model::kFewRows) return pass_few(side, flags_, x, member, scratch);
      pass_many(side, flags_, x, member.part(rows), scratch);
    });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  /// Largest difference of the last layer's outputs by their root mean square.
  double difference(Side& a, Side& b, int64_t rows) {
    seconds(a, rows), seconds(b, rows);
    double most = 0, squares = 0;
    for (int64_t i = 0; i < rows * flags_.width; ++i) {
      most = std::max(most, std::abs(static_cast<double>(a.y[i]) - b.y[i]));
      squares += static_cast<double>(b.y[i]) * b.y[i];
    }
    return most / std::sqrt(squares / static_cast<double>(rows * flags_.width));
  }

  Json compare(double ratio, int64_t rows, Side& factors, Side& dense) {
    const double error = difference(factors, dense, rows);
    // Two products of up to feed_forward rounded terms each, on either side, and then the next map's; the
    // worst of thousands of outputs is some 4 deviations off.
    const double tolerance =
        32 * std::sqrt(static_cast<double>(flags_.feed_forward)) * std::numeric_limits<float>::epsilon();
    if (!(error <= tolerance))
      throw std::runtime_error("outputs differ by " + std::to_string(error) + " of their size, more than " +
                               std::to_string(tolerance) + ": a speed would mean nothing");
    // A time must be long against the clock and the start of a job.
    const int passes = std::max(1, static_cast<int>(2e-3 / std::max(1e-6, seconds(dense, rows))));
    std::vector<double> chain_times, dense_times;
    for (int i = 0; i < flags_.repeat; ++i) {
      dense_times.push_back(time(dense, rows, passes));
      chain_times.push_back(time(factors, rows, passes));
    }
    int64_t stored = 0, macs = 0;
    for (const Weights& w : factors.layers[0]) {
      stored += qtf::tt::parameters(w.linear.map->shape());
      macs += qtf::tt::macs(w.linear.map->shape());
    }
    return {{"ratio", ratio},
            {"tokens", rows},
            {"error", error},
            {"parameters", stored},
            {"macs", macs},
            {"dense_parameters", 3 * flags_.width * flags_.feed_forward},
            {"dense_seconds", dense_times},
            {"chain_seconds", chain_times}};
  }

  /// Of one layer.
  double time(Side& side, int64_t rows, int passes) {
    double sum = 0;
    for (int i = 0; i < passes; ++i) sum += seconds(side, rows);
    return sum / static_cast<double>(passes * flags_.layers);
  }

  Flags flags_;
  qtf::ThreadPool pool_;
  qtf::Team team_;
  std::vector<Arena> arenas_;
  qtf::AlignedVector<float> x_;
};

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  qtf::benchmarks::Options app("Speed of compressed feed-forward layers, as JSON");
  app.add("--width", flags.width).between(2, 1 << 16);
  app.add("--feed-forward", flags.feed_forward).between(2, 1 << 16);
  app.add("--layers", flags.layers, "weights that a pass goes through: 1 stays in cache").between(1, 1024);
  app.add("--ratio", flags.ratios, "dense numbers by stored ones, of every map").between(1.0, 1000.0);
  app.add("--tokens", flags.tokens).between(1, 1 << 16);
  app.add("--repeat", flags.repeat, "times of each side").between(1, 1000);
  app.add("--threads", flags.threads, "0: all cores").between(0, 1024);
  app.add("--free-gauge", flags.free_gauge, "store the rank² numbers that a fixed gauge leaves out");
  app.parse(argc, argv);
  try {
    std::cout << Bench(flags).run().dump() << "\n";
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "feed_forward: " << e.what() << "\n";
    return 2;
  }
}
