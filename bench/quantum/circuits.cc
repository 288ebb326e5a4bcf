// Speed of the circuit simulator: B tokens, RY angle embedding, StronglyEntanglingLayers, ⟨Z⟩ on all wires;
// forward, and forward with the vector-Jacobian product for inputs and weights. One thread, float. The
// built-in peer is one shared unitary through BLAS; --peer takes any program that answers as peer_torch.py
// does. Outputs are compared first; then the sides alternate, and medians and their ratios are printed.
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "../options.h"
#include "blas_peer.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/random.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/kernels/targets.h"
#include "qtf/quantum/simulator.h"
#include "qtf/quantum/templates.h"

extern "C" void openblas_set_num_threads(int);

namespace {

using namespace qtf;
using namespace qtf::quantum;
using nlohmann::json;

constexpr int kLargestPeer = 8;  // qubits; the shared unitary of 10 has a million entries

struct Flags {
  std::vector<int> qubits = {4, 6, 8, 10};
  int layers = 2, rounds = 21, threads = 1;
  int64_t tokens = 1024;
  std::string peer, file, instructions;
};

Flags parse(int argc, char** argv) {
  Flags flags;
  qtf::benchmarks::Options app("Times batches of tokens through a circuit, beside peers");
  app.add("--qubits", flags.qubits, "sizes to run").between(1, kMaxQubits);
  app.add("--layers", flags.layers).between(1, 100);
  app.add("--tokens", flags.tokens).between(1, 1 << 20);
  app.add("--rounds", flags.rounds, "times that each side runs").between(1, 100000);
  app.add("--threads", flags.threads, "of our side").between(1, 1024);
  app.add("--peer", flags.peer, "a program that answers as peer_torch.py does");
  app.add("--instructions", flags.instructions, "of our side, as AVX2; else the best there are");
  app.add("--json", flags.file, "save the figures here");
  app.parse(argc, argv);
  return flags;
}

/// One size of the work, token-major.
struct Work {
  int n, layers;
  int64_t tokens;
  std::vector<float> x, dy, w;

  Work(int qubits, const Flags& flags) : n(qubits), layers(flags.layers), tokens(flags.tokens) {
    const Random random{1, 0};
    uint64_t draw = 0;
    const auto fill = [&](std::vector<float>& values, int64_t count, double size) {
      for (int64_t i = 0; i < count; ++i) {
        values.push_back(static_cast<float>(size * (2 * random.uniform(draw++) - 1)));
      }
    };
    fill(x, tokens * n, 3.1);
    fill(dy, tokens * n, 1);
    fill(w, ansatz_weights(Ansatz::strongly, n, layers), 3.1);
  }
};

struct Values {
  std::vector<float> y, dx, dw;
};

/// Median seconds of each call, the calls taking turns.
std::vector<double> alternate(const std::vector<std::function<void()>>& calls, int rounds) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> seconds(calls.size());
  for (int r = -1; r < rounds; ++r) {  // the first round warms up
    for (size_t i = 0; i < calls.size(); ++i) {
      const auto start = Clock::now();
      calls[i]();
      if (r >= 0) seconds[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  std::vector<double> medians;
  for (auto& s : seconds) {
    std::nth_element(s.begin(), s.begin() + static_cast<std::ptrdiff_t>(s.size() / 2), s.end());
    medians.push_back(s[s.size() / 2]);
  }
  return medians;
}

void transpose(const std::vector<float>& from, int64_t rows, int64_t columns, std::vector<float>& to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      to[static_cast<size_t>(c * rows + r)] = from[static_cast<size_t>(r * columns + c)];
  }
}

/// The largest difference, over the largest value.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double error = a.size() == b.size() ? 0 : HUGE_VAL, size = 1e-30;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    error = std::isnan(d) ? HUGE_VAL : std::max(error, d);
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return error / size;
}

void compare(const char* who, const Values& theirs, const Values& ours) {
  constexpr double kTolerance = 1e-4;
  const std::pair<const char*, double> all[] = {{"y", difference(theirs.y, ours.y)},
                                                {"dx", difference(theirs.dx, ours.dx)},
                                                {"dw", difference(theirs.dw, ours.dw)}};
  for (const auto& [what, error] : all) {
    if (!(error <= kTolerance))
      throw_input_error("circuits", "{} of {} differs by {:.3g} of its size", what, who, error);
  }
}

/// BLAS' side. The same job as ours: tokens by rows, the unitary from the weights in every call, and in the
/// end the weights' gradient from the unitary's. Both of these are done by our own simulator, on the basis
/// vectors.
class BlasSide {
 public:
  explicit BlasSide(const Work& work)
      : work_(work),
        layers_(layers_of(work)),
        size_(layers_.circuit().dimension()),
        peer_(work.n, work.tokens) {
    basis_.resize(static_cast<size_t>(size_ * size_));
    for (int64_t k = 0; k < size_; ++k) basis_[static_cast<size_t>(k * size_ + k)] = 1;
    d_basis_.resize(basis_.size()), columns_.resize(basis_.size());
    x_.resize(work.x.size()), dy_ = y_ = dx_ = x_;
    values_ = {y_, dx_, std::vector<float>(work.w.size())};
  }

  void forward() {
    make_unitary();
    transpose(work_.x, work_.tokens, work_.n, x_);
    peer_.forward(x_.data(), y_.data());
    transpose(y_, work_.n, work_.tokens, values_.y);
  }

  void vjp() {
    make_unitary();
    transpose(work_.x, work_.tokens, work_.n, x_);
    transpose(work_.dy, work_.tokens, work_.n, dy_);
    peer_.vjp(x_.data(), dy_.data(), y_.data(), dx_.data());
    transpose(y_, work_.n, work_.tokens, values_.y);
    transpose(dx_, work_.n, work_.tokens, values_.dx);
    // λ of column k is half the derivative by it.
    for (int64_t row = 0; row < size_; ++row) {
      for (int64_t k = 0; k < size_; ++k) {
        const auto at = static_cast<size_t>(row * size_ + k);
        const float re = peer_.d_unitary()[at], im = peer_.d_unitary()[at + columns_.size()];
        columns_[static_cast<size_t>(k * size_ + row)] = {re / 2, im / 2};
      }
    }
    std::ranges::fill(values_.dw, 0.0F);
    layers_.states_vjp({basis_.data(), size_, size_}, columns_, {d_basis_.data(), size_, size_}, values_.dw,
                       workspace_);
  }

  const Values& values() {
    vjp();
    return values_;
  }

 private:
  static Circuit layers_of(const Work& work) {
    Circuit circuit(work.n);
    circuit.embed_amplitudes({.features = static_cast<int>(circuit.dimension())});
    strongly_entangling_layers(circuit, work.layers);
    return circuit;
  }

  void make_unitary() {
    layers_.prepare(work_.w);
    layers_.states({basis_.data(), size_, size_}, columns_, workspace_);
    for (int64_t row = 0; row < size_; ++row) {
      for (int64_t k = 0; k < size_; ++k) {
        const std::complex<float> value = columns_[static_cast<size_t>(k * size_ + row)];
        peer_.unitary()[static_cast<size_t>(row * size_ + k)] = value.real();
        peer_.unitary()[static_cast<size_t>((row + size_) * size_ + k)] = value.imag();
      }
    }
  }

  const Work& work_;
  Simulator<float> layers_;
  int64_t size_;
  bench::SharedUnitary peer_;
  Workspace<float> workspace_;
  std::vector<float> basis_, d_basis_, x_, dy_, y_, dx_;
  std::vector<std::complex<float>> columns_;
  Values values_;
};

/// Our side, by one path; every call reads the weights anew.
class OurSide {
 public:
  OurSide(const Work& work, Path path, ThreadPool* pool)
      : work_(work),
        pool_(pool),
        simulator_(layered_circuit({.qubits = work.n, .layers = work.layers}), {}, path) {
    values_.y.resize(work.x.size()), values_.dx.resize(work.x.size()), values_.dw.resize(work.w.size());
  }

  void forward() {
    simulator_.prepare(work_.w);
    simulator_.forward({work_.x.data(), work_.tokens, work_.n}, {values_.y.data(), work_.tokens, work_.n},
                       workspace_, pool_);
  }

  void vjp() {
    simulator_.prepare(work_.w);
    std::ranges::fill(values_.dw, 0.0F);
    const int64_t b = work_.tokens, n = work_.n;
    simulator_.vjp({work_.x.data(), b, n}, {work_.dy.data(), b, n}, {values_.y.data(), b, n},
                   {values_.dx.data(), b, n}, values_.dw, workspace_, pool_);
  }

  const Values& values() {
    vjp();
    return values_;
  }

 private:
  const Work& work_;
  ThreadPool* pool_;
  Simulator<float> simulator_;
  Workspace<float> workspace_;
  Values values_;
};

struct PeerAnswer {
  Values values;
  double forward_seconds, vjp_seconds;
};

/// Runs `program WORK ANSWER`, two JSON files.
PeerAnswer ask_peer(const std::string& program, const Work& work, int rounds) {
  const TemporaryFolder folder;
  const std::string question = (folder / "work.json").string(), answer = (folder / "answer.json").string();
  const json sent = {{"qubits", work.n}, {"layers", work.layers}, {"tokens", work.tokens},
                     {"rounds", rounds}, {"x", work.x},           {"dy", work.dy},
                     {"w", work.w}};
  write_file_atomically(question, sent.dump());
  const std::string command = "'" + program + "' '" + question + "' '" + answer + "'";
  if (std::system(command.c_str()) != 0) throw_input_error("circuits", "the peer failed: {}", command);
  const json got = json::parse(read_file(answer));
  return {{got.at("y"), got.at("dx"), got.at("dw")}, got.at("forward_seconds"), got.at("vjp_seconds")};
}

json run_size(int qubits, const Flags& flags, ThreadPool* pool) {
  const Work work(qubits, flags);
  OurSide fast(work, Path::automatic, pool), generic(work, Path::generic, pool);
  const Values& ours = fast.values();
  compare("the generic path", generic.values(), ours);
  std::vector<std::function<void()>> calls = {[&] { fast.forward(); }, [&] { fast.vjp(); },
                                              [&] { generic.forward(); }, [&] { generic.vjp(); }};
  std::unique_ptr<BlasSide> blas;
  if (qubits <= kLargestPeer) {
    blas = std::make_unique<BlasSide>(work);
    compare("BLAS", blas->values(), ours);
    calls.push_back([&] { blas->forward(); });
    calls.push_back([&] { blas->vjp(); });
  }
  const auto seconds = alternate(calls, flags.rounds);
  const auto rate = [&](double s) { return static_cast<double>(work.tokens) / s / 1e3; };
  json row = {{"qubits", qubits},
              {"forward", rate(seconds[0])},
              {"vjp", rate(seconds[1])},
              {"generic_forward", rate(seconds[2])},
              {"generic_vjp", rate(seconds[3])}};
  if (blas) row["blas_forward"] = rate(seconds[4]), row["blas_vjp"] = rate(seconds[5]);
  if (!flags.peer.empty()) {
    const PeerAnswer peer = ask_peer(flags.peer, work, flags.rounds);
    compare("the peer", peer.values, ours);
    row["peer_forward"] = rate(peer.forward_seconds), row["peer_vjp"] = rate(peer.vjp_seconds);
  }
  return row;
}

std::string with_ratio(const json& row, const char* side, const char* what) {
  const std::string key = std::string(side) + "_" + what;
  if (!row.contains(key)) return "-";
  const double theirs = row.at(key);
  return fmt::format("{:.0f} ({:.1f}x)", theirs, row.at(what).get<double>() / theirs);
}

void print(const json& row) {
  for (const char* what : {"forward", "vjp"}) {
    fmt::print("{:>2} {:<8} {:>9.0f} {:>20} {:>20} {:>20}\n", row.at("qubits").get<int>(), what,
               row.at(what).get<double>(), with_ratio(row, "generic", what), with_ratio(row, "blas", what),
               with_ratio(row, "peer", what));
  }
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

/// Holds our kernels to the instruction set named, or to none.
std::unique_ptr<kernels::UseInstructionSet> use_instructions(const std::string& name) {
  if (name.empty()) return nullptr;
  std::string known;
  for (const kernels::InstructionSet& set : kernels::instruction_sets()) {
    if (set.name == name) return std::make_unique<kernels::UseInstructionSet>(set);
    known += std::string(" ") + set.name;
  }
  throw_input_error("circuits", "no instruction set {}; there are{}", name, known);
}

int run(const Flags& flags) {
  openblas_set_num_threads(1);
  const auto instructions = use_instructions(flags.instructions);
  std::unique_ptr<ThreadPool> pool;
  if (flags.threads > 1) pool = std::make_unique<ThreadPool>(flags.threads);
  fmt::print("{} tokens, {} layers, {} thread{}, {}; thousand tokens/s, in brackets ours over theirs\n",
             flags.tokens, flags.layers, flags.threads, flags.threads == 1 ? "" : "s", processor());
  if (flags.peer.empty()) fmt::print("peer missing (--peer PATH)\n");
  fmt::print("{:>2} {:<8} {:>9} {:>20} {:>20} {:>20}\n", "n", "", "ours", "generic path", "BLAS, one unitary",
             "peer");
  json rows = json::array();
  for (int qubits : flags.qubits) {
    rows.push_back(run_size(qubits, flags, pool.get()));
    print(rows.back());
  }
  if (!flags.file.empty()) {
    const json all = {{"processor", processor()}, {"tokens", flags.tokens}, {"layers", flags.layers},
                      {"threads", flags.threads}, {"rounds", flags.rounds}, {"rows", rows}};
    write_file_atomically(flags.file, all.dump(1) + "\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& e) {
    std::cerr << "circuits: " << e.what() << "\n";
    return 2;
  }
}
