// Our side of bench/inference/: makes a Llama-family model of random weights, continues token ids greedily,
// and measures prompts and decoded tokens as llama-bench does, each as one JSON object. compare.py runs it.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "../options.h"
#include "qtf/adapt/energy.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/kernels/softmax.h"
#include "qtf/kernels/vector.h"
#include "qtf/model/config_file.h"
#include "qtf/model/inference.h"
#include "qtf/model/model_folder.h"

namespace {

using qtf::Matrix;
using qtf::Range;
using qtf::TeamMember;
using Json = nlohmann::json;

struct Flags {
  std::string model;
  qtf::model::ModelConfig config;
  uint64_t seed = 1;
  std::string from, dtype = "int8", block = "32", cache_dtype = "f32";
  std::vector<std::string> shapes;
  std::vector<int32_t> tokens;
  int64_t prompt = 512, generate = 128, start = 0, sequences = 1;
  int repeat = 3, threads = 0;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Normal weights of deviation 1/sqrt(inputs), so that every layer matters; norms are one.
Json make_model(const Flags& flags) {
  qtf::model::ModelConfig config = flags.config;
  qtf::model::apply_shape_requests(config, flags.shapes);
  qtf::model::Transformer<float> model(config);
  const qtf::Random random{flags.seed, 0};
  const auto values = model.parameters();
  for (const qtf::model::Parameter& p : model.layout().parameters) {
    const double deviation = 1 / std::sqrt(static_cast<double>(p.dims.back()));
    for (int64_t i = p.offset; i < p.offset + p.size; ++i) {
      values[static_cast<size_t>(i)] =
          p.dims.size() == 1 ? 1.F : static_cast<float>(deviation * random.normal(static_cast<uint64_t>(i)));
    }
  }
  std::filesystem::create_directories(flags.model);
  qtf::write_file_atomically(std::filesystem::path(flags.model) / "config.json",
                             qtf::model::config_to_json(config, ""));
  qtf::model::save_weights(flags.model, model.layout(), values);
  return {{"parameters", model.layout().size}};
}

/// The same with the weights as codes.
Json quantize_model(const Flags& flags) {
  const qtf::model::LoadedModel loaded = qtf::model::load_model(flags.from);
  qtf::model::Transformer<float>& model = *loaded.model;
  const qtf::Coding coding = qtf::model::parse_coding(flags.dtype, flags.block, "--dtype");
  model.set_codes(qtf::model::quantize(model.layout(), std::as_const(model).parameters(), coding));
  qtf::model::save_quantized_folder(flags.model, model, nullptr);
  return {{"bytes", std::filesystem::file_size(std::filesystem::path(flags.model) / "model.safetensors")}};
}

/// A loaded model with what some sequences of the same tokens need.
struct Session {
  qtf::ThreadPool pool;
  qtf::model::LoadedModel loaded;
  qtf::model::Inference<float> inference;
  const qtf::model::ModelConfig& config;
  std::vector<qtf::nn::KvCache<float>> caches;  // one a sequence
  std::vector<float> hidden, logits;

  explicit Session(const Flags& flags)
      : pool(flags.threads),
        loaded(prepared(flags, pool)),
        inference(*loaded.model, pool),
        config(loaded.model->config()),
        caches(static_cast<size_t>(flags.sequences), loaded.model->make_cache(config.context)),
        hidden(static_cast<size_t>(std::max(config.context, flags.sequences) * config.width)),
        logits(static_cast<size_t>(flags.sequences * config.vocabulary)) {}

  static qtf::model::LoadedModel prepared(const Flags& flags, qtf::ThreadPool& pool) {
    qtf::model::LoadedModel loaded = qtf::model::load_model(flags.model);
    loaded.model->set_cache_type(qtf::code_type_named(flags.cache_dtype));
    loaded.model->prepare(qtf::tt::Use::inference, pool);
    return loaded;
  }

  void forget() {
    for (auto& cache : caches) cache.truncate(0);
  }

  /// Adds a token to every sequence.
  void step(int32_t token) {
    std::vector<qtf::model::Chunk<float>> chunks;
    for (auto& cache : caches) chunks.push_back({{&token, 1}, &cache});
    const auto rows = static_cast<int64_t>(chunks.size());
    const Matrix<float> states(hidden.data(), rows, config.width);
    inference.forward(chunks, 0, states);
    inference.logits(states, 0, {logits.data(), rows, config.vocabulary});
  }

  /// Adds tokens to a sequence; logits are those after the last.
  void extend(std::span<const int32_t> tokens, size_t sequence = 0) {
    const auto rows = static_cast<int64_t>(tokens.size());
    const qtf::model::Chunk<float> chunk{tokens, &caches[sequence]};
    const Matrix<float> states(hidden.data(), rows, config.width);
    inference.forward({&chunk, 1}, 0, states);
    inference.logits(states.row_block(rows - 1, 1), 0, {logits.data(), 1, config.vocabulary});
  }

  std::vector<int32_t> random_tokens(int64_t n) const {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    const qtf::Random random{3, 3};
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(config.vocabulary)));
    return tokens;
  }
};

Json continue_greedily(const Flags& flags) {
  Session session(flags);
  std::vector<int32_t> made;
  session.extend(flags.tokens);
  while (static_cast<int64_t>(made.size()) < flags.generate) {
    made.push_back(
        static_cast<int32_t>(qtf::kernels::argmax<float>(session.config.vocabulary, session.logits.data())));
    session.extend({&made.back(), 1});
  }
  return {{"tokens", made}};
}

/// Bytes per second that the pool's workers read together from the packed weights' size of memory, and that a
/// STREAM triad moves in arrays of that size together. The best of some passes.
struct Bandwidth {
  double read, triad;
};

Bandwidth measure_bandwidth(qtf::ThreadPool& pool, int64_t bytes) {
  const int64_t n = bytes / 4, third = n / 3;
  qtf::AlignedVector<float> data(static_cast<size_t>(n), 1.F);
  std::vector<float> sums(static_cast<size_t>(pool.size()));
  float* a = data.data();
  const auto best = [](const std::function<void()>& pass) {
    double seconds = 1e9;
    for (int i = 0; i < 20; ++i) seconds = std::min(seconds, seconds_of(pass));
    return seconds;
  };
  const double read = best([&] {
    pool.parallel_for(n, [&](int worker, Range part) {
      sums[static_cast<size_t>(worker)] +=
          qtf::kernels::dot<float>(part.size(), a + part.begin, a + part.begin);
    });
  });
  const double triad = best([&] {
    pool.parallel_for(third, [&](int, Range part) {
      float *to = a + part.begin, *x = a + third + part.begin, *y = a + 2 * third + part.begin;
      for (int64_t i = 0; i < part.size(); ++i) to[i] = x[i] + 0.5F * y[i];
    });
  });
  return {static_cast<double>(4 * n) / read, static_cast<double>(12 * third) / triad};
}

/// What a token costs on average: a prompt's in FLOPs (logits of its last token only), a decoded one's in
/// bytes.
struct Work {
  double prefill_flops, weight_bytes, cache_bytes;
};

/// The most memory that the process has had so far.
double peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);
}

/// Joules of a span of work, their interval and tier; null where no meter can be had, or none so short.
Json energy_of(int threads, const std::function<void()>& work) {
  try {
    qtf::adapt::MeterOptions options;
    options.threads = threads;
    const auto meter = qtf::adapt::open_meter("auto", options);
    meter->start();
    work();
    const qtf::adapt::Energy energy = meter->stop();
    return {{"joules", energy.joules},
            {"low", energy.low},
            {"high", energy.high},
            {"tier", qtf::adapt::tier_name(energy.tier)}};
  } catch (const qtf::InputError&) {
    return nullptr;
  }
}

Work work_of(const qtf::model::Transformer<float>& model, const Flags& flags,
             const qtf::nn::KvCache<float>& cache) {
  const qtf::model::ModelConfig& config = model.config();
  const auto attention = [&](double tokens_seen) {
    return 2 * static_cast<double>(config.layers * config.width) * tokens_seen;
  };
  const double products = static_cast<double>(qtf::model::macs_per_token(config, 0)) - attention(1);
  const auto head = static_cast<double>(config.vocabulary * config.width);
  const auto prompt = static_cast<double>(std::max<int64_t>(flags.prompt, 1));
  const double seen = static_cast<double>(flags.start) + static_cast<double>(flags.generate + 1) / 2;
  // A product reads each of its weights once, as they are stored.
  const qtf::model::QuantizedWeights* codes = model.codes();
  const double bytes = codes
                           ? static_cast<double>(qtf::model::quantized_bytes(model.layout(), codes->coding)) /
                                 static_cast<double>(qtf::model::parameter_count(config))
                           : 4;
  return {2 * (products - head + head / prompt + attention((prompt + 1) / 2)), bytes * products,
          static_cast<double>(cache.bytes()) / static_cast<double>(cache.capacity()) * seen};
}

Json measure(const Flags& flags) {
  Session session(flags);
  const auto tokens =
      session.random_tokens(std::max({flags.prompt, flags.generate, flags.start, int64_t{1}}));
  const std::span all(tokens);
  const auto prompt = all.first(static_cast<size_t>(flags.prompt));
  session.extend(all.first(1));  // touches the memory
  std::vector<double> prefill, decode;
  Json energy;  // of the last decoding
  for (int i = 0; i < flags.repeat; ++i) {
    if (flags.prompt > 0) {
      session.forget();
      prefill.push_back(static_cast<double>(flags.prompt) / seconds_of([&] { session.extend(prompt); }));
    }
    if (flags.generate > 0) {
      session.forget();
      for (size_t s = 0; flags.start > 0 && s < session.caches.size(); ++s)
        session.extend(all.first(static_cast<size_t>(flags.start)), s);
      double seconds = 0;
      energy = energy_of(session.pool.size(), [&] {
        seconds = seconds_of([&] {
          for (const int32_t token : all.first(static_cast<size_t>(flags.generate))) session.step(token);
        });
      });
      decode.push_back(static_cast<double>(flags.generate * flags.sequences) / seconds);
    }
  }
  const double peak = peak_bytes();  // before the arrays of the bandwidth
  const Work work = work_of(*session.loaded.model, flags, session.caches.front());
  const Bandwidth bandwidth = measure_bandwidth(session.pool, static_cast<int64_t>(work.weight_bytes));
  return {
      {"prefill_tokens_per_second", prefill},
      {"decode_tokens_per_second", decode},
      {"threads", session.pool.size()},
      {"prefill_flops_per_token", work.prefill_flops},
      {"weight_bytes", work.weight_bytes},
      {"cache_bytes", session.caches.front().bytes()},
      {"peak_bytes", peak},
      {"decode_energy", energy},
      {"decode_bytes_per_token", work.weight_bytes / static_cast<double>(flags.sequences) + work.cache_bytes},
      {"read_bytes_per_second", bandwidth.read},
      {"triad_bytes_per_second", bandwidth.triad}};
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  auto& c = flags.config;
  qtf::benchmarks::Options app("Speed of inference, as JSON");
  app.add("--model", flags.model, "model folder").required();
  app.add("--threads", flags.threads, "0: all cores");
  qtf::benchmarks::Options make = app.command("make", "write a model of random weights");
  make.add("--width", c.width).required();
  make.add("--layers", c.layers).required();
  make.add("--heads", c.heads).required();
  make.add("--kv-heads", c.kv_heads).required();
  make.add("--feed-forward", c.feed_forward).required();
  make.add("--vocabulary", c.vocabulary).required();
  make.add("--context", c.context).required();
  make.add("--seed", flags.seed);
  make.add("--shape", flags.shapes, "PART=SHAPE, as of qtf train; may be repeated");
  qtf::benchmarks::Options quantize = app.command("quantize", "write a model with its weights as codes");
  quantize.add("--from", flags.from, "model folder of floats").required();
  quantize.add("--dtype", flags.dtype, "f16, int8 or int4");
  quantize.add("--block", flags.block, "weights that share a scale, or row");
  qtf::benchmarks::Options greedy = app.command("greedy", "continue tokens with the most likely ones");
  greedy.add("--tokens", flags.tokens).required();
  greedy.add("--generate", flags.generate);
  qtf::benchmarks::Options speed =
      app.command("speed", "tokens per second of prompts and decoding, each repetition's");
  speed.add("--prompt", flags.prompt, "tokens passed at once; 0: none");
  speed.add("--generate", flags.generate, "tokens decoded one by one; 0: none");
  speed.add("--start", flags.start, "tokens in the cache before decoding");
  speed.add("--sequences", flags.sequences, "sequences decoded together");
  speed.add("--cache-dtype", flags.cache_dtype, "f32, f16, int8 or int4");
  speed.add("--repeat", flags.repeat);
  app.parse(argc, argv);
  try {
    const Json result = make.chosen()       ? make_model(flags)
                        : quantize.chosen() ? quantize_model(flags)
                        : greedy.chosen()   ? continue_greedily(flags)
                                            : measure(flags);
    std::cout << result.dump() << "\n";
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "inference_steps: " << e.what() << "\n";
    return 2;
  }
}
