// Our side of bench/adaptive/compare.py: passes the same tokens under several rank policies, the policies in
// turn, as prompts of the context's length and token by token, and prints the seconds of every round and what
// the parts of a pass took as one JSON object. The model is a folder, or one of random weights and given
// sizes whose feed-forward layers have four levels at equal steps of their rank.
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "../options.h"
#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/model/inference.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/model/rank_mix.h"
#include "qtf/text/token_file.h"

namespace {

using qtf::Matrix;
using Json = nlohmann::json;
namespace model = qtf::model;

constexpr int64_t kWindows = 8;  // of the context's length, passed in turn

struct Flags {
  std::string model, text;
  std::vector<std::string> policies;
  int64_t width = 512, feed_forward = 1368, rank = 368, layers = 4, context = 512;
  int64_t decode = 64;
  int repeat = 9, threads = 0;
};

/// "level:2" is no policy; "entropy:0.5", "gate:0.5" and "random:0.5" name the mean rank; "fixed:2".
struct Side {
  std::string name;
  model::Levels levels;
  std::unique_ptr<model::RankScheduler> scheduler;
};

model::ModelConfig random_config(const Flags& flags) {
  model::ModelConfig config;
  config.width = flags.width, config.feed_forward = flags.feed_forward, config.layers = flags.layers;
  config.heads = 8, config.kv_heads = 4, config.context = flags.context, config.vocabulary = 512;
  model::apply_shape_requests(config, {"ffn=chain:rank=" + std::to_string(flags.rank)});
  model::apply_levels(config, 4);
  return config;
}

/// The model, tokens to pass and a calibrated configuration.
struct Session {
  explicit Session(const Flags& flags) : pool(flags.threads) {
    if (flags.model.empty()) {
      loaded.model = std::make_unique<model::Transformer<float>>(random_config(flags));
      loaded.model->initialise(1);
    } else {
      loaded = model::load_model(flags.model);
    }
    config = loaded.model->config();
    loaded.model->prepare(qtf::tt::Use::inference, pool);
    for (int64_t i = 1; i <= kWindows; ++i) ends.push_back(i * config.context);
    tokens.resize(static_cast<size_t>(ends.back()));
    if (flags.text.empty()) {
      const qtf::Random random{3, 3};
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(config.vocabulary)));
    } else {
      const auto file = qtf::text::tokenize_corpus(flags.text, *loaded.tokenizer);
      if (file.size() < ends.back())
        qtf::throw_input_error("--text", "{} tokens are too few; give at least {}", file.size(), ends.back());
      file.copy(0, tokens);
    }
    if (!config.rank_policy)
      config.rank_policy = model::calibrate_ranks(*loaded.model, tokens, ends, {}, pool);
    inference = std::make_unique<model::Inference<float>>(*loaded.model, pool);
    cache = std::make_unique<qtf::nn::KvCache<float>>(loaded.model->make_cache(config.context));
    hidden.resize(static_cast<size_t>(config.context * config.width));
  }

  /// Passes a window in pieces and returns the seconds of those after the first, if that has tokens.
  double pass(const model::Levels& levels, int64_t window, int64_t first_piece, int64_t pieces_of) {
    cache->truncate(0);
    const auto extend = [&](int64_t rows) {
      const auto at = static_cast<size_t>(window * config.context + cache->length());
      const model::Chunk<float> chunk{std::span(tokens).subspan(at, static_cast<size_t>(rows)), cache.get()};
      inference->forward({&chunk, 1}, levels, {hidden.data(), rows, config.width});
    };
    if (first_piece > 0) extend(first_piece);
    const auto start = std::chrono::steady_clock::now();
    while (cache->length() < config.context) extend(pieces_of);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  qtf::ThreadPool pool;
  model::LoadedModel loaded;
  model::ModelConfig config;
  std::vector<int32_t> tokens;
  std::vector<int64_t> ends;
  std::unique_ptr<model::Inference<float>> inference;
  std::unique_ptr<qtf::nn::KvCache<float>> cache;
  std::vector<float> hidden;
};

/// Calibrated on the session's tokens for signals that the model is not calibrated for.
Side read_side(const std::string& name, Session& session) {
  model::ModelConfig config = session.config;
  Side side{name, {}, nullptr};
  const size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const std::string number = colon == std::string::npos ? "" : name.substr(colon + 1);
  const int levels = model::level_count(config);
  if (kind == "level") {
    const int level = std::stoi(number);
    side.levels = level == levels ? 0 : level;
    return side;
  }
  model::RankOptions options;
  options.policy = qtf::adapt::parse_rank_policy(kind == "fixed" ? name : kind, levels);
  if (kind != "fixed")
    options.mean = std::llround(std::stod(number) * static_cast<double>(qtf::adapt::kUnit));
  const qtf::adapt::RankSignal signal = options.policy.signal;
  if (qtf::adapt::info(signal).calibrated && config.rank_policy->signal != signal)
    config.rank_policy = model::calibrate_ranks(*session.loaded.model, session.tokens, session.ends,
                                                {.signal = signal}, session.pool);
  side.scheduler = std::make_unique<model::RankScheduler>(config, options);
  side.levels = {0, side.scheduler.get()};
  return side;
}

/// Adds the seconds of a profile's parts at the top.
void add_parts(const qtf::ProfileReport& report, Json& parts) {
  for (const qtf::ProfileRow& row : report.rows)
    if (row.depth == 0) parts[row.path].push_back(row.seconds);
}

/// One side's figures of one use: a prompt, or decoding.
struct Use {
  const char* name;
  int64_t first, pieces;
};

Json measure(Session& session, const Flags& flags, const std::vector<Side>& sides, const Use& use) {
  std::vector<Json> results(sides.size());
  for (int round = 0; round <= flags.repeat; ++round) {  // the first warms up
    for (Json& result : results) {
      const Side& side = sides[static_cast<size_t>(&result - results.data())];
      const double took = session.pass(side.levels, round % kWindows, use.first, use.pieces);
      qtf::Profile profile(session.pool);
      session.pass(side.levels, round % kWindows, use.first, use.pieces);
      if (round == 0) continue;
      result["seconds"].push_back(took);
      add_parts(profile.report(), result["parts"]);
    }
  }
  for (size_t s = 0; s < sides.size(); ++s) {
    results[s]["policy"] = sides[s].name;
    if (sides[s].scheduler) {
      model::RankMix mix(*sides[s].scheduler, session.config.layers);
      mix.add(*sides[s].scheduler, *session.cache);
      results[s]["mean_rank"] = mix.mean_rank(*sides[s].scheduler);
    }
  }
  return results;
}

Json run(const Flags& flags) {
  Session session(flags);
  if (flags.decode >= session.config.context)
    qtf::throw_input_error("--decode", "must be below the context of {}", session.config.context);
  std::vector<Side> sides;
  for (const std::string& name : flags.policies) sides.push_back(read_side(name, session));
  const int64_t context = session.config.context;
  return {{"threads", session.pool.size()},
          {"context", context},
          {"decoded", flags.decode},
          {"prompt", measure(session, flags, sides, {"prompt", 0, context})},
          {"decode", measure(session, flags, sides, {"decode", context - flags.decode, 1})}};
}

Flags parse(int argc, char** argv) {
  Flags flags;
  qtf::benchmarks::Options options("Times rank policies, prints one JSON object");
  options.add("--model", flags.model, "a model with levels; without it one of random weights");
  options.add("--text", flags.text, "tokens to pass; without it random ones");
  options.add("--policy", flags.policies, "level:K, fixed:K, random:M, or a signal and its mean, entropy:M")
      .required();
  options.add("--width", flags.width).between(8, 1 << 14);
  options.add("--feed-forward", flags.feed_forward).between(8, 1 << 16);
  options.add("--rank", flags.rank, "of the feed-forward maps").between(4, 1 << 14);
  options.add("--layers", flags.layers).between(1, 64);
  options.add("--context", flags.context, "tokens of a prompt").between(2, 1 << 14);
  options.add("--decode", flags.decode, "tokens decoded after the rest of the context").between(1, 1 << 14);
  options.add("--repeat", flags.repeat, "rounds").between(1, 1000);
  options.add("--threads", flags.threads, "0: all cores").between(0, 64);
  options.parse(argc, argv);
  return flags;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::cout << run(parse(argc, argv)).dump() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "rank_steps: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
