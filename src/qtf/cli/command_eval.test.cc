#include <cmath>

#include "qtf/cli/cli_test.h"
#include "qtf/text/corpus.h"

namespace qtf::cli {
namespace {

using nlohmann::json;

class Eval : public testing::Test {
 protected:
  json eval(const std::vector<std::string>& more, const std::string& model = {}) const {
    std::vector<std::string> args = {"eval", model.empty() ? model_ : model, "--text", place_.book()};
    args.insert(args.end(), more.begin(), more.end());
    return call_json(args);
  }

  const Workplace place_;
  const std::string model_ = place_.train("model", {"--steps", "20"});
};

TEST_F(Eval, PrintsOneObjectWhoseFiguresAgree) {
  const json e = eval({});
  const text::TextCounts counts = text::count_text(small_book());
  const double nats = e.at("nats_per_token"), tokens = static_cast<double>(counts.bytes);
  EXPECT_EQ(e.at("tokens"), counts.bytes - 1) << "the first byte is given, not predicted";
  EXPECT_EQ(e.at("bytes"), counts.bytes);
  EXPECT_EQ(e.at("words"), counts.words);
  EXPECT_NEAR(e.at("perplexity"), std::exp(nats), 1e-9 * std::exp(nats));
  EXPECT_NEAR(std::log(e.at("word_perplexity").get<double>()),
              nats * tokens / static_cast<double>(counts.words), 1e-9);
  EXPECT_NEAR(e.at("bits_per_byte"), nats / std::log(2.0), 1e-9) << "a token is a byte";
  EXPECT_GT(e.at("stderr"), 0);
  EXPECT_LT(e.at("stderr"), 0.2 * nats);
  EXPECT_GT(e.at("tokens_per_second"), 0);
  EXPECT_EQ(e.at("context"), 32);
  EXPECT_EQ(e.at("stride"), 16);
  EXPECT_FALSE(e.contains("kl_divergence"));
  EXPECT_LT(nats, std::log(257.0)) << "learned nothing";
}

TEST_F(Eval, TellsOfTheQuantumLayer) {
  const std::string model = place_.train("quantum", {"--quantum", "qubits=3,layers=1,fraction=0.25",
                                                     "--steps", "20", "--learning-rate", "0.01"});
  const std::string trace = place_ / "trace.jsonl";
  const json e = eval({"--trace", trace}, model);
  EXPECT_GT(e.at("routed_share"), 0);
  EXPECT_LE(e.at("routed_share"), 0.25);
  EXPECT_GT(e.at("circuit_entropy"), 0);
  std::istringstream lines(read_file(trace));
  int64_t tokens = 0, routed = 0;
  for (std::string line; std::getline(lines, line);) {
    const json token = json::parse(line);
    EXPECT_EQ(token.contains("routed"), token.at("layer") == 1) << "the layer is in block 1 of 3";
    EXPECT_EQ(token.at("level"), 1);
    EXPECT_FALSE(token.contains("rank")) << "no map has levels";
    if (token.at("layer") != 1) continue;
    ++tokens;
    EXPECT_EQ(token.contains("circuit_entropy"), token.at("routed").get<bool>());
    routed += token.at("routed").get<bool>();
  }
  EXPECT_DOUBLE_EQ(e.at("routed_share"), static_cast<double>(routed) / static_cast<double>(tokens));
  const json shots = eval({"--shots", "20"}, model), noise = eval({"--noise", "depolarizing=0.3"}, model);
  EXPECT_NE(shots.at("nats_per_token"), e.at("nats_per_token"));
  EXPECT_NE(noise.at("nats_per_token"), e.at("nats_per_token"));
  EXPECT_EQ(shots.at("nats_per_token"), eval({"--shots", "20"}, model).at("nats_per_token"));
  EXPECT_NE(shots.at("nats_per_token"),
            eval({"--shots", "20", "--measurement-seed", "2"}, model).at("nats_per_token"));
  const json halves = eval({"--cache-dtype", "f16"}, model);
  EXPECT_NEAR(halves.at("routed_share"), e.at("routed_share"), 0.02);
  EXPECT_NEAR(halves.at("circuit_entropy"), e.at("circuit_entropy"), 0.02);
  EXPECT_FALSE(eval({}).contains("routed_share"));
  EXPECT_NE(call({"eval", model, "--text", place_.book()}).out.find("% of the tokens routed"),
            std::string::npos);

  const json info = call_json({"info", model}).at("quantum");
  EXPECT_EQ(info.at("block"), 1);
  EXPECT_EQ(info.at("gates"), 3 + 3 + 3) << "embedding, rotations, ring";
  EXPECT_EQ(info.at("two_qubit_gates"), 3);
  EXPECT_NE(call({"info", model}).out.find("at most 25.0 % of the tokens, routed by score"),
            std::string::npos);

  const Result generated = call({"generate", model, "--prompt", "Line 1", "--tokens", "90", "--stats"});
  EXPECT_NE(generated.err.find("quantum layer: "), std::string::npos) << generated.err;
  EXPECT_NE(call({"report", model}).out.find("routed share"), std::string::npos);
}

TEST_F(Eval, ALayerMayBeAddedToATrainedModel) {
  const std::string more = place_ / "more";
  const Result result =
      call({"train", "--train", place_.book(), "--from", model_, "--quantum", "qubits=2,layers=1", "--out",
            more, "--steps", "2", "--batch", "2", "--learning-rate", "1e-9", "--quiet"});
  EXPECT_EQ(result.status, 0) << result.err;
  const json before = eval({}), after = eval({}, more);
  EXPECT_NEAR(before.at("nats_per_token"), after.at("nats_per_token"), 1e-5) << "a new layer adds nothing";
  EXPECT_GT(after.at("routed_share"), 0);
}

TEST_F(Eval, ALayerComesAfterADenseStart) {
  const std::string model =
      place_.train("chain", {"--quantum", "qubits=2,layers=1", "--ratio", "1.5", "--steps", "8"});
  const json info = call_json({"info", model});
  EXPECT_EQ(info.at("quantum").at("qubits"), 2);
  EXPECT_GT(info.at("ratio"), 1.2);
  EXPECT_TRUE(eval({}, model).contains("routed_share"));
}

/// A trained model with four nested levels, which training has calibrated.
class EvalRanks : public testing::Test {
 protected:
  json eval(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"eval", model_, "--text", place_.book()};
    args.insert(args.end(), more.begin(), more.end());
    return call_json(args);
  }

  const Workplace place_;
  const std::string model_ =
      place_.train("nested", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "30"});
};

TEST_F(EvalRanks, TellTheMixThatAPolicyCameTo) {
  EXPECT_FALSE(eval({}).contains("ranks"));
  for (const char* policy : {"entropy", "random"}) {
    const json ranks = eval({"--rank-policy", policy, "--mean-rank", "0.4"}).at("ranks");
    EXPECT_EQ(ranks.at("policy"), policy);
    EXPECT_EQ(ranks.at("asked_mean_rank"), 0.4);
    // A first token of 32, or of 16 new ones, takes the largest; the validation text is another.
    EXPECT_NEAR(ranks.at("mean_rank"), 0.4, 0.12) << policy;
    double shares = 0, mean = 0;
    for (size_t level = 0; level < 4; ++level) {
      shares += ranks.at("level_shares")[level].get<double>();
      mean += ranks.at("level_shares")[level].get<double>() * static_cast<double>(level) / 3;
    }
    EXPECT_NEAR(shares, 1, 1e-9);
    EXPECT_NEAR(mean, ranks.at("mean_rank"), 1e-6) << "equal steps";
  }
  EXPECT_EQ(eval({"--mean-rank", "0.4"}).at("ranks").at("policy"), "gate") << "the model's own";
  const std::string text = call({"eval", model_, "--text", place_.book(), "--mean-rank", "0.4"}).out;
  EXPECT_NE(text.find("ranks            gate, mean rank 0."), std::string::npos) << text;
  EXPECT_NE(text.find("(asked 0.400); levels 1 to 4: "), std::string::npos) << text;
}

TEST_F(EvalRanks, FixedIsTheLevel) {
  for (const char* level : {"1", "2", "3", "4"}) {
    const json fixed = eval({"--rank-policy", std::string("fixed:") + level});
    EXPECT_EQ(fixed.at("nats_per_token"), eval({"--level", level}).at("nats_per_token")) << level;
    EXPECT_EQ(fixed.at("ranks").at("policy"), std::string("fixed:") + level);
    EXPECT_FALSE(fixed.at("ranks").contains("asked_mean_rank"));
  }
}

TEST_F(EvalRanks, SeedsAndHysteresisCount) {
  const auto nats = [&](const std::vector<std::string>& more) {
    return eval(more).at("nats_per_token").get<double>();
  };
  const double exact = nats({});
  EXPECT_EQ(nats({"--cache-dtype", "f32"}), exact);
  double before = 0;
  for (const auto& [dtype, most] : {std::pair{"f16", 1e-3}, {"int8", 1e-2}, {"int4", 0.3}}) {
    const double coded = nats({"--cache-dtype", dtype}), cost = std::fabs(coded - exact);
    EXPECT_GT(cost, before) << dtype;
    EXPECT_LT(cost, most) << dtype;
    before = cost;
    for (const char* threads : {"1", "3"})
      EXPECT_EQ(nats({"--cache-dtype", dtype, "--threads", threads}), coded);
  }
}

TEST_F(Eval, ThreadsChangeNoDigit) {
  const json one = eval({"--threads", "1"}), two = eval({"--threads", "2"});
  EXPECT_EQ(one.at("nats_per_token"), two.at("nats_per_token"));
  EXPECT_EQ(one.at("stderr"), two.at("stderr"));
}

}  // namespace
}  // namespace qtf::cli
