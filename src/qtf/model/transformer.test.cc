#include "qtf/model/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "qtf/base/error.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

struct Case {
  std::string name;
  Family family;
  std::vector<std::string> shapes;
  bool tied = true;
  double dropout = 0;
  int levels = 1;
  std::string quantum = {};
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"llama", Family::llama, {}},
      {"gpt2", Family::gpt2, {}},
      {"untied", Family::llama, {}, false},
      {"dropout", Family::llama, {}, true, 0.3},
      {"gpt2_dropout", Family::gpt2, {}, true, 0.3},
      {"chain", Family::llama, {"embedding=chain:rank=9", "attention=chain:rank=5", "ffn=chain:rank=7"}},
      {"chain_outer",
       Family::llama,
       {"up_proj=chain:rank=4,out=4x5,in=4x4,outer=3", "down_proj=chain:rank=3,out=4x4,in=5x4,outer=3"}},
      {"mpo", Family::llama, {"ffn=mpo:rank=3", "attention=mpo:rank=8", "embedding=mpo:rank=4"}},
      {"btt", Family::gpt2, {"ffn=btt:rank=2", "attention=btt:rank=1", "embedding=btt:rank=2"}},
      {"quantum", Family::llama, {}, true, 0, 1, "qubits=3,layers=2,fraction=0.29"},
      {"quantum_classical",
       Family::gpt2,
       {"ffn=chain:rank=8"},
       true,
       0.3,
       2,
       "qubits=2,layers=2,ansatz=classical,fraction=0.29"},
      {"levels",
       Family::llama,
       {"ffn=chain:rank=8", "o_proj=chain:rank=6", "embedding=chain:rank=8"},
       true,
       0,
       4},
  };
  return table;
}

ModelConfig config_of(const Case& c) {
  ModelConfig config = tiny_config(c.family);
  config.tied = c.tied;
  apply_shape_requests(config, c.shapes);
  apply_levels(config, c.levels);
  if (!c.quantum.empty()) config.quantum = parse_quantum(c.quantum);
  return config;
}

/// A model with no zero weights, so that every gradient is exercised; but the router takes as many as its
/// quota allows, as a decision has no derivative, and no entropy, whose own derivative is left out.
template <class T>
void randomise(Transformer<T>& model, ThreadPool& pool) {
  const Random random{5, 5};
  auto values = model.parameters();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(0.3 * random.normal(i));
  for (const Parameter& p : model.layout().parameters) {
    if (p.dims.size() != 1 || p.name.ends_with("bias")) continue;
    for (int64_t i = 0; i < p.size; ++i) values[static_cast<size_t>(p.offset + i)] += T{1};
  }
  if (const auto& quantum = model.layout().quantum) {
    values[static_cast<size_t>(quantum->threshold)] = -100;
    values[static_cast<size_t>(quantum->layer.signal_weight)] = 0;
  }
  model.prepare(tt::Use::training, pool);
}

class EveryModel : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryModel, testing::ValuesIn(cases()),
                         [](const auto& param_info) { return param_info.param.name; });

/// Holds forward_backward's gradients of some of every tensor's numbers against central differences of what
/// it returns.
void expect_gradients(Transformer<double>& model, const TokenBatch& batch, const StepOptions& options,
                      const Teacher<double>& teacher = {}) {
  ThreadPool pool(1);
  Arena arena;
  model.prepare(tt::Use::training, pool);
  std::vector<double> gradients(static_cast<size_t>(model.gradient_size()));
  model.forward_backward(batch, options, gradients.data(), arena, teacher);
  model.pull_back(gradients.data(), pool);

  const auto loss = [&] {
    model.prepare(tt::Use::training, pool);
    std::vector<double> unused(static_cast<size_t>(model.gradient_size()));
    return options.gradient_scale * model.forward_backward(batch, options, unused.data(), arena, teacher);
  };
  const auto values = model.parameters();
  double worst = 0;
  std::string worst_name;
  for (const Parameter& p : model.layout().parameters) {
    for (int64_t k = 0; k < std::min<int64_t>(p.size, 6); ++k) {
      const auto i = static_cast<size_t>(p.offset + k * (p.size - 1) / 5);
      const double before = values[i], step = 1e-5;
      values[i] = before + step;
      const double up = loss();
      values[i] = before - step;
      const double down = loss();
      values[i] = before;
      const double error = std::abs((up - down) / (2 * step) - gradients[i]);
      if (error > worst) worst = error, worst_name = p.name;
    }
  }
  // Truncation ~ step² times the third derivative, which these large random weights make some hundreds.
  EXPECT_LT(worst, 1e-7) << worst_name;
}

TEST_P(EveryModel, GradientsEqualCentralDifferences) {
  ThreadPool pool(1);
  Transformer<double> model(config_of(GetParam()));
  randomise(model, pool);
  auto inputs = random_tokens(14, 24, 1), targets = random_tokens(14, 24, 2);
  targets[3] = -1;
  StepOptions options;
  options.gradient_scale = 0.1;
  options.dropout = {GetParam().dropout, 77, 3};
  expect_gradients(model, {inputs, targets, 2, 7}, options);
}

TEST_P(EveryModel, LearnsFromAModelOfAnotherArchitecture) {
  ThreadPool pool(1);
  ModelConfig other = tiny_config(GetParam().family == Family::llama ? Family::gpt2 : Family::llama);
  other.width = 24, other.layers = 1;
  Transformer<double> model(config_of(GetParam())), expert(other);
  randomise(model, pool), randomise(expert, pool);
  auto inputs = random_tokens(14, 24, 1), targets = random_tokens(14, 24, 2);
  targets[3] = -1;
  const TokenBatch batch{inputs, targets, 2, 7};
  StepOptions options;
  options.gradient_scale = 0.1;
  options.dropout = {GetParam().dropout, 77, 3};
  expect_gradients(model, batch, options, {&expert, 1, 1.5});

  // The mixture's gradient is the mixture of the gradients.
  Arena arena;
  const auto gradients = [&](double weight) {
    std::vector<double> sum(static_cast<size_t>(model.gradient_size()));
    model.prepare(tt::Use::training, pool);
    const Teacher<double> teacher{weight > 0 ? &expert : nullptr, weight, 1.5};
    model.forward_backward(batch, options, sum.data(), arena, teacher);
    return sum;
  };
  const auto text = gradients(0), taught = gradients(1), both = gradients(0.3);
  for (size_t i = 0; i < both.size(); ++i) ASSERT_NEAR(both[i], 0.7 * text[i] + 0.3 * taught[i], 1e-11);
}

/// Logits of a sequence run in pieces of the given sizes.
std::vector<float> logits_in_pieces(const Transformer<float>& model, std::span<const int32_t> tokens,
                                    const std::vector<int64_t>& pieces, int level) {
  const auto& config = model.config();
  Arena arena;
  auto cache = model.make_cache(config.context);
  std::vector<float> hidden(tokens.size() * static_cast<size_t>(config.width));
  std::vector<float> logits(tokens.size() * static_cast<size_t>(config.vocabulary));
  int64_t done = 0;
  for (int64_t piece : pieces) {
    const Chunk<float> chunk{tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(piece)), &cache};
    const Matrix<float> h(hidden.data() + done * config.width, piece, config.width);
    model.forward({&chunk, 1}, level, h, arena);
    model.logits(h, level, {logits.data() + done * config.vocabulary, piece, config.vocabulary}, arena);
    done += piece;
  }
  return logits;
}

TEST_P(EveryModel, WholeChunkedAndTokenByTokenAgreeBitForBit) {
  ThreadPool pool(1);
  Transformer<float> model(config_of(GetParam()));
  randomise(model, pool);
  const auto tokens = random_tokens(12, 24, 3);
  for (int level = 0; level <= (GetParam().levels > 1 ? GetParam().levels : 0); ++level) {
    const auto whole = logits_in_pieces(model, tokens, {12}, level);
    EXPECT_EQ(whole, logits_in_pieces(model, tokens, {5, 1, 6}, level));
    EXPECT_EQ(whole, logits_in_pieces(model, tokens, std::vector<int64_t>(12, 1), level));

    Arena arena;
    std::vector<float> hidden(12 * 16), logits(12 * 24);
    const TokenBatch batch{tokens, {}, 1, 12};
    model.hidden_states(batch, level, {hidden.data(), 12, 16}, arena);
    model.logits(ConstMatrix<float>(hidden.data(), 12, 16), level, {logits.data(), 12, 24}, arena);
    EXPECT_EQ(whole, logits) << "without a cache";
  }
}

TEST_P(EveryModel, ABatchOf64AgreesBitForBitWithEachAlone) {
  ThreadPool pool(2);
  Transformer<float> model(config_of(GetParam()));
  randomise(model, pool);
  Arena arena;
  std::vector<std::vector<int32_t>> texts;
  std::vector<nn::KvCache<float>> caches;
  std::vector<Chunk<float>> chunks;
  int64_t rows = 0;
  for (size_t i = 0; i < 64; ++i) {
    texts.push_back(random_tokens(1 + i % 12, 24, 100 + i));
    caches.push_back(model.make_cache(12));
    rows += static_cast<int64_t>(texts.back().size());
  }
  for (size_t i = 0; i < 64; ++i) chunks.push_back({texts[i], &caches[i]});
  std::vector<float> hidden(static_cast<size_t>(rows) * 16), logits(static_cast<size_t>(rows) * 24);
  model.forward(chunks, 0, {hidden.data(), rows, 16}, arena);
  model.logits(ConstMatrix<float>(hidden.data(), rows, 16), 0, {logits.data(), rows, 24}, arena);
  auto at = logits.begin();
  for (const auto& text : texts) {
    const auto alone = logits_in_pieces(model, text, {static_cast<int64_t>(text.size())}, 0);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), at));
    at += static_cast<std::ptrdiff_t>(alone.size());
  }
}

TEST_P(EveryModel, CountsEqualWhatIsStored) {
  const ModelConfig config = config_of(GetParam());
  const Transformer<float> model(config);
  EXPECT_EQ(parameter_count(config), model.layout().size);
  EXPECT_EQ(static_cast<int64_t>(model.parameters().size()), model.layout().size);
  int64_t expected_offset = 0;
  for (const Parameter& p : model.layout().parameters) {
    EXPECT_EQ(p.offset, expected_offset);
    EXPECT_EQ(p.size, std::accumulate(p.dims.begin(), p.dims.end(), int64_t{1}, std::multiplies<>()));
    expected_offset += p.size;
  }
}

TEST(Transformer, TheQuantumLayerSeesAsManyTokensAsItsQuotaAllows) {
  ThreadPool pool(1);
  Transformer<double> model(config_of(cases()[cases().size() - 3]));
  randomise(model, pool);
  const auto tokens = random_tokens(24, model.config().vocabulary, 3);
  std::vector<double> hidden(24 * 16), entropy(24), nats(24), other(hidden);
  std::vector<uint8_t> routed(24);
  Arena arena;
  const TokenBatch batch{tokens, tokens, 2, 12};
  model.hidden_states(batch, 0, {hidden.data(), 24, 16}, arena, {},
                      {.routed = routed.data(), .entropy = entropy.data(), .circuit_entropy = nats.data()});
  for (size_t t = 0; t < 24; ++t)  // 29 % of 4, 7 and 11 tokens are one, two and three
    EXPECT_EQ(routed[t], t % 12 == 3 || t % 12 == 6 || t % 12 == 10) << t;
  EXPECT_EQ(entropy[0], 1);
  model.parameters()[static_cast<size_t>(model.layout().quantum->threshold)] = 1e6;
  model.prepare(tt::Use::training, pool);
  model.hidden_states(batch, 0, {other.data(), 24, 16}, arena);
  EXPECT_TRUE(std::equal(hidden.begin(), hidden.begin() + 3 * 16, other.begin())) << "none was routed so far";
  EXPECT_FALSE(std::equal(hidden.begin() + 3 * 16, hidden.begin() + 4 * 16, other.begin() + 3 * 16));
}

TEST(Transformer, InitialLossIsNearUniform) {
  ThreadPool pool(2);
  for (const Case& c : cases()) {
    Transformer<float> model(config_of(c));
    model.initialise(3);
    model.prepare(tt::Use::inference, pool);
    const auto inputs = random_tokens(120, 24, 1), targets = random_tokens(120, 24, 2);
    Arena arena;
    const double loss = model.loss({inputs, targets, 10, 12}, 0, nullptr, arena) / 120;
    EXPECT_NEAR(loss, std::log(24.0), 0.1) << c.name;
  }
}

TEST(Transformer, SandwichAddsTheGradientsOfSmallerLevels) {
  ThreadPool pool(1);
  Transformer<double> model(config_of(cases().back()));
  randomise(model, pool);
  const auto inputs = random_tokens(10, 24, 1), targets = random_tokens(10, 24, 2);
  const TokenBatch batch{inputs, targets, 2, 5};
  const auto gradients = [&](std::vector<int> levels) {
    std::vector<double> g(static_cast<size_t>(model.gradient_size()));
    Arena arena;
    StepOptions options;
    options.distilled_levels = std::move(levels);
    model.forward_backward(batch, options, g.data(), arena);
    return g;
  };
  const auto none = gradients({}), one = gradients({1}), top = gradients({4});
  EXPECT_NE(none, one);
  double change = 0;
  for (size_t i = 0; i < none.size(); ++i) change = std::max(change, std::abs(top[i] - none[i]));
  EXPECT_LT(change, 1e-12) << "the largest level has nothing to learn from itself";
}

TEST(Transformer, LevelsOfTheSandwichTakeSequencesInTurn) {
  ThreadPool pool(1);
  Transformer<double> model(config_of(cases().back()));
  randomise(model, pool);
  constexpr int64_t kSequences = 5, kLength = 4;
  const auto inputs = random_tokens(kSequences * kLength, 24, 1), targets = random_tokens(20, 24, 2);
  // Gradients of some sequences, the number of the first of all being `first`.
  const auto gradients = [&](const std::vector<int64_t>& sequences, std::vector<int> levels, int64_t first) {
    std::vector<int32_t> in, out;
    for (const int64_t i : sequences) {
      in.insert(in.end(), inputs.begin() + i * kLength, inputs.begin() + (i + 1) * kLength);
      out.insert(out.end(), targets.begin() + i * kLength, targets.begin() + (i + 1) * kLength);
    }
    std::vector<double> g(static_cast<size_t>(model.gradient_size()));
    Arena arena;
    StepOptions options;
    options.distilled_levels = std::move(levels);
    options.in_turns = true;
    options.first_sequence = first;
    model.forward_backward({in, out, static_cast<int64_t>(sequences.size()), kLength}, options, g.data(),
                           arena);
    return g;
  };
  const std::vector<int64_t> all = {0, 1, 2, 3, 4}, even = {0, 2, 4}, odd = {1, 3};
  const auto none = gradients(all, {}, 0), none_even = gradients(even, {}, 0),
             none_odd = gradients(odd, {}, 0);
  for (const int64_t first : {0, 1, 6}) {
    const auto both = gradients(all, {1, 2}, first);
    const auto one = gradients(first % 2 ? odd : even, {1}, 0),
               two = gradients(first % 2 ? even : odd, {2}, 0);
    for (size_t i = 0; i < both.size(); ++i)
      EXPECT_NEAR(both[i] - none[i], 2 * (one[i] + two[i] - none_even[i] - none_odd[i]), 1e-11) << first;
  }
  // A batch of one sequence has one level's turn only.
  EXPECT_EQ(gradients({0}, {1, 2}, 0).size(), none.size());
  EXPECT_NE(gradients({0}, {1, 2}, 0), gradients({0}, {1, 2}, 1));
}

TEST(Transformer, RefusesWhatDoesNotFit) {
  ThreadPool pool(1);
  Transformer<float> model(tiny_config(Family::llama));
  randomise(model, pool);
  Arena arena;
  std::vector<float> hidden(13 * 16);
  auto cache = model.make_cache(12);
  const auto long_text = random_tokens(13, 24, 1);
  const Chunk<float> too_long{long_text, &cache};
  EXPECT_THROW(model.forward({&too_long, 1}, 0, {hidden.data(), 13, 16}, arena), InputError);
  EXPECT_EQ(cache.length(), 0);
  const std::vector<int32_t> foreign = {1, 24};
  const Chunk<float> unknown{foreign, &cache};
  EXPECT_THROW(model.forward({&unknown, 1}, 0, {hidden.data(), 2, 16}, arena), InputError);
  const std::vector<int32_t> fine = {1, 2};
  std::vector<float> gradients(static_cast<size_t>(model.gradient_size()));
  EXPECT_THROW(model.forward_backward({fine, foreign, 1, 2}, {}, gradients.data(), arena), InputError);
  EXPECT_THROW(model.loss({fine, foreign, 1, 2}, 0, nullptr, arena), InputError);
  EXPECT_THROW(model.hidden_states({long_text, {}, 1, 13}, 0, {hidden.data(), 13, 16}, arena), InputError);
}

}  // namespace
}  // namespace qtf::model
