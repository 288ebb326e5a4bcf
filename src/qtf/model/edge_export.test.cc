#include "qtf/model/edge_export.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "qtf/base/aligned.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/edge/format.h"
#include "qtf/edge/qtf_edge.h"
#include "qtf/model/folder_test.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/random_text.h"
#include "qtf/text/sentencepiece.h"

namespace qtf::model {
namespace {

const std::filesystem::path kImportedTokenizer =
    std::filesystem::path(QTF_SHARED_DIR) / "data/stories260K/tok512.model";

/// A file in memory as a program maps it.
struct EdgeBytes {
  AlignedVector<char> bytes;
  std::vector<std::string> notes;

  EdgeBytes(const Transformer<float>& model, const text::Tokenizer* tokenizer = nullptr,
            io::TensorType type = io::TensorType::f32) {
    const TemporaryFolder folder;
    notes = save_edge(folder / "x.edge", model, tokenizer, type);
    const std::string file = read_file(folder / "x.edge");
    bytes.assign(file.begin(), file.end());
  }
  const void* data() const { return bytes.data(); }
  size_t size() const { return bytes.size(); }
};

qtf_edge_options edge_options(uint32_t level = 0, uint32_t batch = 0, uint32_t text_bytes = 0) {
  return {sizeof(qtf_edge_options), 0, batch, level, 0, 0, text_bytes};
}

/// A session in exactly the memory that it asks for, which begins at an odd address.
class EdgeSession {
 public:
  explicit EdgeSession(const EdgeBytes& file, const qtf_edge_options& options = edge_options()) {
    qtf_edge_message message;
    size_t room = 0;
    EXPECT_EQ(qtf_edge_room(file.data(), file.size(), &options, &room, &message), QTF_EDGE_OK)
        << message.text;
    arena_.resize(room + 1);
    const auto status =
        qtf_edge_open(file.data(), file.size(), &options, arena_.data() + 1, room, &session_, &message);
    EXPECT_EQ(status, QTF_EDGE_OK) << message.text;
  }
  qtf_edge* get() const { return session_; }

  std::vector<float> logits(const std::vector<int32_t>& tokens, size_t vocabulary) {
    EXPECT_EQ(qtf_edge_feed(session_, tokens.data(), tokens.size()), QTF_EDGE_OK) << qtf_edge_error(session_);
    const float* logits = qtf_edge_logits(session_);
    return {logits, logits + vocabulary};
  }

 private:
  std::vector<char> arena_;
  qtf_edge* session_ = nullptr;
};

/// The whole model's logits of what follows some tokens.
std::vector<float> logits_of(const Transformer<float>& model, const std::vector<int32_t>& tokens, int level) {
  const ModelConfig& c = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  std::vector<float> hidden(static_cast<size_t>(rows * c.width)), logits(static_cast<size_t>(c.vocabulary));
  Arena arena;
  nn::KvCache<float> cache = model.make_cache(c.context);
  const Chunk<float> chunk{tokens, &cache};
  const Matrix<float> all(hidden.data(), rows, c.width);
  model.forward(std::span(&chunk, 1), level, all, arena);
  model.logits(all.row_block(rows - 1, 1), level, Matrix<float>(logits.data(), 1, c.vocabulary), arena);
  return logits;
}

/// Whether products are the same chains of sums on both sides.
bool has_same_bits(const ModelConfig& config) {
  for (const auto& [name, shape] : config.shapes)
    if (shape.kind == tt::ShapeKind::mpo || shape.kind == tt::ShapeKind::btt) return false;
  return true;
}

class EdgeExport : public testing::Test {
 protected:
  void expect_model(Transformer<float>& model, const EdgeBytes& file) {
    const ModelConfig& c = model.config();
    const auto vocabulary = static_cast<size_t>(c.vocabulary);
    const std::vector<int32_t> tokens = random_tokens(20, c.vocabulary, 3);
    for (int level = 0; level <= level_count(c); ++level) {
      SCOPED_TRACE(level);
      const std::vector<float> expected = logits_of(model, tokens, level);
      EdgeSession whole(file, edge_options(static_cast<uint32_t>(level), 7));
      const std::vector<float> logits = whole.logits(tokens, vocabulary);
      if (has_same_bits(c)) {
        EXPECT_EQ(logits, expected);
      } else {
        for (size_t i = 0; i < vocabulary; ++i) ASSERT_NEAR(logits[i], expected[i], 2e-3) << i;
      }
      EdgeSession parts(file, edge_options(static_cast<uint32_t>(level), 1));
      for (const int32_t token : tokens) parts.logits({token}, vocabulary);
      EXPECT_EQ(0, std::memcmp(qtf_edge_logits(parts.get()), logits.data(), vocabulary * sizeof(float)))
          << "token by token";
    }
  }

  ThreadPool pool_{1};
};

TEST_F(EdgeExport, LogitsHaveTheModelsBitsAtEveryLevel) {
  for (const SmallModel& small : small_models()) {
    if (!small.quantum.empty()) continue;
    SCOPED_TRACE(small.name);
    Transformer<float> model(small_config(small));
    randomise(model);
    model.set_plan({});  // merged matrices have sums of their own
    model.prepare(tt::Use::inference, pool_);
    expect_model(model, EdgeBytes(model));
  }
}

TEST_F(EdgeExport, ChainsKeepAFixedGauge) {
  ModelConfig config = small_config(small_models().front());
  apply_shape_requests(config, {"ffn=chain:rank=7", "q_proj=chain:rank=5,pivots=2x3x5x9x16"});
  Transformer<float> model(config);
  randomise(model);
  model.prepare(tt::Use::inference, pool_);
  expect_model(model, EdgeBytes(model));
}

TEST_F(EdgeExport, CodesStayCodes) {
  for (const char* name : {"llama", "gpt2", "llama_chain", "llama_levels"}) {
    for (const char* type : {"f16", "int8", "int4"}) {
      SCOPED_TRACE(fmt::format("{} in {}", name, type));
      const SmallModel& small = small_model(name);
      Transformer<float> model(small_config(small));
      randomise(model);
      model.prepare(tt::Use::inference, pool_);
      const EdgeBytes floats(model);
      model.set_codes(quantize(model.layout(), model.parameters(), parse_coding(type, "8", "test")));
      model.prepare(tt::Use::inference, pool_);
      const EdgeBytes codes(model);
      EXPECT_LT(codes.size(), floats.size());
      expect_model(model, codes);
    }
  }
}

TEST_F(EdgeExport, HalvesAreNearTheFloatsAndSmaller) {
  Transformer<float> model(small_config(small_models().front()));
  randomise(model);
  model.prepare(tt::Use::inference, pool_);
  const EdgeBytes floats(model), halves(model, nullptr, io::TensorType::f16);
  EXPECT_LT(halves.size(), floats.size() * 2 / 3);
  const std::vector<int32_t> tokens = random_tokens(20, 257, 3);
  EdgeSession a(floats), b(halves);
  const auto wide = a.logits(tokens, 257), narrow = b.logits(tokens, 257);
  for (size_t i = 0; i < wide.size(); ++i) EXPECT_NEAR(wide[i], narrow[i], 0.05);
}

/// Levels and logits of the whole model under a policy.
struct Scheduled {
  std::vector<uint8_t> levels;  ///< [layers, tokens]
  std::vector<float> logits;
};

Scheduled scheduled(const Transformer<float>& model, const RankScheduler& scheduler,
                    const std::vector<int32_t>& tokens) {
  const ModelConfig& c = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  Scheduled result{std::vector<uint8_t>(static_cast<size_t>(c.layers * rows)),
                   std::vector<float>(static_cast<size_t>(c.vocabulary))};
  std::vector<float> hidden(static_cast<size_t>(rows * c.width));
  Arena arena;
  nn::KvCache<float> cache = model.make_cache(c.context);
  const Chunk<float> chunk{tokens, &cache};
  const Matrix<float> all(hidden.data(), rows, c.width);
  model.forward(std::span(&chunk, 1), {0, &scheduler, result.levels.data()}, all, arena);
  model.logits(all.row_block(rows - 1, 1), 0, Matrix<float>(result.logits.data(), 1, c.vocabulary), arena);
  return result;
}

TEST_F(EdgeExport, PoliciesPickTheLevelsThatTheModelsDo) {
  for (const adapt::RankSignal signal : {adapt::RankSignal::entropy, adapt::RankSignal::gate}) {
    for (const int64_t hysteresis : {int64_t{0}, adapt::kUnit / 20}) {
      SCOPED_TRACE(fmt::format("{}, hysteresis {}", adapt::info(signal).name, hysteresis));
      const SmallModel& small = small_model("llama_levels");
      Transformer<float> bare(small_config(small));
      randomise(bare);
      bare.prepare(tt::Use::inference, pool_);
      ModelConfig config = bare.config();
      std::vector<int64_t> ends;
      for (int64_t end = 24; end <= 480; end += 24) ends.push_back(end);
      config.rank_policy = calibrate_ranks(bare, random_tokens(480, 257, 1), ends, {.signal = signal}, pool_);
      config.rank_policy->hysteresis = hysteresis;
      Transformer<float> model(config);
      std::copy(bare.parameters().begin(), bare.parameters().end(), model.parameters().begin());
      model.prepare(tt::Use::inference, pool_);
      const EdgeBytes file(model);
      const std::vector<int32_t> tokens = random_tokens(24, 257, 4);
      RankScheduler scheduler(config, {.policy = {signal, 0}, .mean = {}, .alpha = {}, .hysteresis = {}});
      int64_t levels_seen = 0;
      for (const uint32_t mean : {0U, 20U, 80U}) {
        if (mean) scheduler.set_mean(mean * adapt::kUnit / 100);
        const Scheduled expected = scheduled(model, scheduler, tokens);
        for (const uint32_t batch : {1U, 5U}) {
          qtf_edge_options options = edge_options(0, batch);
          options.policy = signal == adapt::RankSignal::gate ? QTF_EDGE_GATE : QTF_EDGE_ENTROPY;
          EdgeSession session(file, options);
          ASSERT_EQ(qtf_edge_set_mean_rank(session.get(), mean), QTF_EDGE_OK);
          EXPECT_EQ(session.logits(tokens, 257), expected.logits);
          for (uint32_t layer = 0; layer < 2; ++layer) {
            for (uint32_t t = 0; t < 24; ++t) {
              uint32_t level = 99;
              ASSERT_EQ(qtf_edge_level(session.get(), t, layer, &level), QTF_EDGE_OK);
              ASSERT_EQ(level, expected.levels[layer * 24 + t]) << "token " << t << ", layer " << layer;
              levels_seen |= 1 << level;
            }
          }
        }
      }
      EXPECT_EQ(levels_seen, 0b11110) << "all four levels were taken";
    }
  }
}

TEST_F(EdgeExport, SaysWhatTheFileDoesNotHold) {
  const auto notes_of = [](const char* name) {
    const SmallModel& small = small_model(name);
    const auto tokenizer = text::make_byte_tokenizer();
    std::string notes;
    for (const std::string& note : EdgeBytes(Transformer<float>(small_config(small)), tokenizer.get()).notes)
      notes += note + "\n";
    return notes;
  };
  EXPECT_EQ(notes_of("llama"), "");
  expect_contains(notes_of("llama_quantum"), "the quantum layer is left out");
  expect_contains(notes_of("gpt2_btt"), "maps became the matrices that they multiply out to");
  expect_contains(EdgeBytes(Transformer<float>(small_config(small_models().front()))).notes.front(),
                  "no tokenizer");
}

TEST_F(EdgeExport, AModelIsDescribed) {
  Transformer<float> model(small_config(small_models().front()));
  const auto tokenizer = text::make_byte_tokenizer();
  const EdgeBytes file(model, tokenizer.get());
  qtf_edge_message message;
  qtf_edge_model of = {};
  of.size = sizeof of;
  ASSERT_EQ(qtf_edge_describe(file.data(), file.size(), &of, &message), QTF_EDGE_OK) << message.text;
  EXPECT_EQ(of.vocabulary, 257U);
  EXPECT_EQ(of.context, 24U);
  EXPECT_EQ(of.levels, 1U);
  EXPECT_EQ(of.bos, -1);
  EXPECT_EQ(of.eos, 256);
  EXPECT_EQ(of.text, 1);
  EXPECT_EQ(static_cast<int64_t>(of.parameters), parameter_count(model.config()));
}

class EdgeSessions : public testing::Test {
 protected:
  EdgeSessions() : model_(small_config(small_models().front())), tokenizer_(text::make_byte_tokenizer()) {
    randomise(model_);
    file_.emplace(model_, tokenizer_.get());
  }

  Transformer<float> model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::optional<EdgeBytes> file_;
};

TEST_F(EdgeSessions, ASmallArenaIsToldHowMuchIsMissing) {
  qtf_edge_message message;
  size_t room = 0;
  ASSERT_EQ(qtf_edge_room(file_->data(), file_->size(), nullptr, &room, &message), QTF_EDGE_OK);
  AlignedVector<char> arena(room);
  qtf_edge* session = nullptr;
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, room / 2, room - 64}) {
    EXPECT_EQ(qtf_edge_open(file_->data(), file_->size(), nullptr, arena.data(), bytes, &session, &message),
              QTF_EDGE_NO_ROOM);
    EXPECT_EQ(session, nullptr);
    unsigned long long needed = 0, has = 0, missing = 0;
    ASSERT_EQ(std::sscanf(message.text,
                          "the arena is too small: %llu bytes are needed, it has %llu, %llu are missing",
                          &needed, &has, &missing),
              3)
        << message.text;
    EXPECT_EQ(has, bytes);
    EXPECT_EQ(needed, has + missing);
    EXPECT_EQ(qtf_edge_open(file_->data(), file_->size(), nullptr, arena.data(), bytes + missing, &session,
                            &message),
              QTF_EDGE_OK)
        << message.text;
  }
  qtf_edge_options small = edge_options();
  small.context = 4, small.batch = 1, small.text_bytes = 1;
  size_t less = 0;
  ASSERT_EQ(qtf_edge_room(file_->data(), file_->size(), &small, &less, &message), QTF_EDGE_OK);
  EXPECT_LT(less, room);
}

TEST_F(EdgeSessions, WhatCannotBeIsRefusedAndChangesNothing) {
  EdgeSession session(*file_);
  qtf_edge* s = session.get();
  EXPECT_EQ(qtf_edge_logits(s), nullptr);
  int32_t token = -5;
  EXPECT_EQ(qtf_edge_draw(s, nullptr, &token), QTF_EDGE_BAD_ARGUMENT);
  expect_contains(qtf_edge_error(s), "nothing was read");
  const std::vector<int32_t> bad = {1, 257}, negative = {-1}, many(25, 1), some = {1, 2, 3};
  EXPECT_EQ(qtf_edge_feed(s, bad.data(), 2), QTF_EDGE_BAD_ARGUMENT);
  expect_contains(qtf_edge_error(s), "token 257, number 1, is none of the model's 257");
  EXPECT_EQ(qtf_edge_feed(s, negative.data(), 1), QTF_EDGE_BAD_ARGUMENT);
  EXPECT_EQ(qtf_edge_feed(s, many.data(), 25), QTF_EDGE_FULL);
  expect_contains(qtf_edge_error(s),
                  "the session's context is 24 tokens: 0 are read, and 25 more do not fit");
  EXPECT_EQ(qtf_edge_length(s), 0U);
  ASSERT_EQ(qtf_edge_feed(s, some.data(), 3), QTF_EDGE_OK);
  EXPECT_EQ(qtf_edge_length(s), 3U);
  EXPECT_EQ(qtf_edge_rewind(s, 4), QTF_EDGE_BAD_ARGUMENT);
  uint32_t level = 9;
  EXPECT_EQ(qtf_edge_level(s, 2, 1, &level), QTF_EDGE_OK);
  EXPECT_EQ(level, 0U) << "no policy chose one";
  EXPECT_EQ(qtf_edge_level(s, 3, 0, &level), QTF_EDGE_BAD_ARGUMENT);
  EXPECT_EQ(qtf_edge_level(s, 0, 2, &level), QTF_EDGE_BAD_ARGUMENT);
  EXPECT_EQ(qtf_edge_set_mean_rank(s, 50), QTF_EDGE_BAD_ARGUMENT);
  qtf_edge_sampling sampling = {sizeof sampling, 0, -1, 0, 0};
  EXPECT_EQ(qtf_edge_draw(s, &sampling, &token), QTF_EDGE_BAD_ARGUMENT);
  sampling = {0, 0, 1, 0, 0};
  EXPECT_EQ(qtf_edge_draw(s, &sampling, &token), QTF_EDGE_BAD_ARGUMENT);
  const char* text = nullptr;
  size_t bytes = 0;
  EXPECT_EQ(qtf_edge_decode(s, 257, &text, &bytes), QTF_EDGE_BAD_ARGUMENT);
  size_t count = 0;
  EXPECT_EQ(qtf_edge_encode(s, "a\xFF", 2, nullptr, 0, &count), QTF_EDGE_BAD_ARGUMENT);
  expect_contains(qtf_edge_error(s), "not valid UTF-8 at byte 1");
  int32_t one = 0;
  EXPECT_EQ(qtf_edge_encode(s, "abc", 3, &one, 1, &count), QTF_EDGE_NO_ROOM);
  EXPECT_EQ(count, 3U);
}

TEST_F(EdgeSessions, OptionsThatCannotBeAreRefused) {
  const auto refusal = [&](qtf_edge_options options) {
    qtf_edge_message message;
    size_t room = 0;
    EXPECT_EQ(qtf_edge_room(file_->data(), file_->size(), &options, &room, &message), QTF_EDGE_BAD_ARGUMENT);
    return std::string(message.text);
  };
  expect_contains(refusal({0, 0, 0, 0, 0, 0, 0}), "options.size must be");
  expect_contains(refusal({sizeof(qtf_edge_options), 25, 0, 0, 0, 0, 0}),
                  "context is 24 tokens, and 25 are asked for");
  expect_contains(refusal(edge_options(0, 65)), "batch must be 1 to 64");
  expect_contains(refusal(edge_options(2)), "the model has 1 nested levels");
  expect_contains(refusal({sizeof(qtf_edge_options), 0, 0, 0, QTF_EDGE_GATE, 0, 0}),
                  "no calibrated policy 2");
  expect_contains(refusal({sizeof(qtf_edge_options), 0, 0, 0, 9, 0, 0}), "no calibrated policy 9");
  expect_contains(refusal({sizeof(qtf_edge_options), 0, 0, 0, 0, 50, 0}), "a mean rank needs a policy");
}

TEST_F(EdgeSessions, RewoundTextsGoOnAsIfTheyWereShort) {
  EdgeSession a(*file_), b(*file_);
  const auto tokens = random_tokens(12, 257, 1);
  a.logits(tokens, 257);
  ASSERT_EQ(qtf_edge_rewind(a.get(), 5), QTF_EDGE_OK);
  EXPECT_EQ(qtf_edge_logits(a.get()), nullptr);
  b.logits({tokens.begin(), tokens.begin() + 5}, 257);
  EXPECT_EQ(a.logits({9, 8, 7}, 257), b.logits({9, 8, 7}, 257));
}

TEST_F(EdgeSessions, DrawsFollowTheProbabilities) {
  EdgeSession session(*file_);
  const auto logits = session.logits({3, 1, 4}, 257);
  const auto likeliest =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const auto draw = [&](uint32_t top_k, float temperature, float top_p, uint64_t seed) {
    const qtf_edge_sampling sampling = {sizeof sampling, top_k, temperature, top_p, seed};
    int32_t token = -1;
    EXPECT_EQ(qtf_edge_draw(session.get(), &sampling, &token), QTF_EDGE_OK);
    return token;
  };
  int32_t token = -1;
  EXPECT_EQ(qtf_edge_draw(session.get(), nullptr, &token), QTF_EDGE_OK);
  EXPECT_EQ(token, likeliest);
  std::vector<double> probabilities;
  double total = 0;
  for (const float logit : logits)
    total += probabilities.emplace_back(std::exp(double{logit} - logits[static_cast<size_t>(likeliest)]));
  constexpr int kDraws = 4000;
  std::vector<int> drawn(257);
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    ++drawn[static_cast<size_t>(draw(0, 1, 0, seed))];
    EXPECT_EQ(draw(1, 1, 0, seed), likeliest);
    EXPECT_EQ(draw(0, 1, 1e-6F, seed), likeliest);
  }
  for (size_t i = 0; i < 257; ++i) {
    const double p = probabilities[i] / total;
    EXPECT_NEAR(drawn[i], kDraws * p, 5 * std::sqrt(kDraws * p) + 1) << i;
  }
  // The three likeliest of top-k, and those that top-p's sum reaches.
  std::vector<double> sorted = probabilities;
  std::sort(sorted.rbegin(), sorted.rend());
  const double two = (sorted[0] + sorted[1]) / total;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    EXPECT_GE(probabilities[static_cast<size_t>(draw(3, 1, 0, seed))], sorted[2]);
    EXPECT_GE(probabilities[static_cast<size_t>(draw(0, 1, static_cast<float>(two) * 0.999F, seed))],
              sorted[1]);
  }
  EXPECT_EQ(draw(0, 1, 0, 7), draw(0, 1, 0, 7));
}

TEST_F(EdgeSessions, DamagedFilesAreToldOrRunWithoutHarm) {
  qtf_edge_message message;
  qtf_edge_model of = {};
  of.size = sizeof of;
  EXPECT_EQ(qtf_edge_describe(nullptr, 0, &of, &message), QTF_EDGE_BAD_ARGUMENT);
  AlignedVector<char> shifted(file_->size() + 1);
  std::copy(file_->bytes.begin(), file_->bytes.end(), shifted.begin() + 1);
  EXPECT_EQ(qtf_edge_describe(shifted.data() + 1, file_->size(), &of, &message), QTF_EDGE_BAD_ARGUMENT);
  expect_contains(message.text, "aligned to 64 bytes");
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, file_->size() / 2, file_->size() - 1})
    EXPECT_EQ(qtf_edge_describe(file_->data(), size, &of, &message), QTF_EDGE_BAD_FILE) << size;
  expect_contains(message.text, "copy it again");

  // Every byte of the records, set to values that lie.
  const auto* header = reinterpret_cast<const edge::Header*>(file_->data());
  std::vector<size_t> places;
  const auto add = [&](uint64_t begin, uint64_t bytes) {
    for (uint64_t i = begin; i < begin + bytes; ++i) places.push_back(static_cast<size_t>(i));
  };
  add(0, sizeof(edge::Header));
  add(header->matrices.offset, header->matrices.count * sizeof(edge::Matrix));
  add(header->maps.offset, header->maps.count * sizeof(edge::Map));
  add(header->blocks.offset, header->blocks.count * sizeof(edge::Block));
  add(header->tokenizer.starts.offset, 64);
  add(header->tokenizer.byte_tokens.offset, 64);
  int refused = 0;
  for (const size_t place : places) {
    for (const char value : {'\x01', '\x80', '\xFF'}) {
      EdgeBytes damaged = *file_;
      if (damaged.bytes[place] == value) continue;
      damaged.bytes[place] = value;
      qtf_edge_options options = edge_options();
      size_t room = 0;
      if (qtf_edge_room(damaged.data(), damaged.size(), &options, &room, &message) != QTF_EDGE_OK) {
        ++refused;
        continue;
      }
      if (room > 1 << 24) continue;  // a larger context, which this program would not give memory
      EdgeSession session(damaged);
      const int32_t tokens[] = {1, 2};
      qtf_edge_feed(session.get(), tokens, 2);
      int32_t ids[8];
      size_t count = 0;
      qtf_edge_encode(session.get(), "abc", 3, ids, 8, &count);
      const char* text = nullptr;
      qtf_edge_decode(session.get(), 97, &text, &count);
    }
  }
  EXPECT_GT(refused, static_cast<int>(places.size()));
}

class EdgeTokenizer : public testing::Test {
 protected:
  /// Ids of the library's and of the edge's, of nasty and of ordinary texts, at the begin and behind other
  /// text.
  static void expect_same_ids(const std::shared_ptr<const text::Tokenizer>& tokenizer) {
    ModelConfig config = small_config(small_models().front());
    config.vocabulary = tokenizer->vocabulary_size();
    const EdgeBytes file(Transformer<float>(config), tokenizer.get());
    ASSERT_TRUE(file.notes.empty()) << file.notes.front();
    EdgeSession session(file, edge_options(0, 0, 1 << 16));
    std::vector<std::string> texts = {
        "",   " ",          "  ",       "\n",    "\n\n a",        " a",
        "a ", "  ta  ri  ", "tari\nmo", "<unk>", "x<unk>y <unk>", text::made_up_text(40, " <unk>")};
    for (uint64_t seed = 0; seed < 200; ++seed) texts.push_back(text::random_text(seed, 1 + seed % 60));
    for (const bool behind : {false, true}) {
      const int32_t token = 5;
      if (behind) {
        ASSERT_EQ(qtf_edge_feed(session.get(), &token, 1), QTF_EDGE_OK);
      }
      for (const std::string& text : texts) {
        std::vector<int32_t> expected;
        behind ? tokenizer->encode_continuation(text, expected) : tokenizer->encode(text, expected);
        size_t count = 0;
        ASSERT_EQ(qtf_edge_encode(session.get(), text.data(), text.size(), nullptr, 0, &count), QTF_EDGE_OK);
        std::vector<int32_t> ids(count + 1);
        ASSERT_EQ(qtf_edge_encode(session.get(), text.data(), text.size(), ids.data(), ids.size(), &count),
                  QTF_EDGE_OK);
        ids.resize(count);
        ASSERT_EQ(ids, expected) << text;
        std::string bytes;
        for (const int32_t id : ids) {
          const char* of = nullptr;
          size_t size = 0;
          ASSERT_EQ(qtf_edge_decode(session.get(), id, &of, &size), QTF_EDGE_OK);
          bytes.append(of, size);
          ASSERT_EQ(std::string(of, size), tokenizer->token_bytes(id));
        }
      }
    }
  }

  static std::shared_ptr<const text::Tokenizer> trained(text::SentencePieceModel model) {
    const std::string text = text::made_up_text(400, " <unk>");
    const std::string_view views[] = {text};
    return text::open_sentencepiece(
        text::train_sentencepiece(views, {.vocabulary_size = 400, .model = model}), "test");
  }
};

TEST_F(EdgeTokenizer, SplitsAsUnigramModelsDo) {
  expect_same_ids(trained(text::SentencePieceModel::kUnigram));
}

TEST_F(EdgeTokenizer, SplitsAsBpeModelsDo) {
  expect_same_ids(trained(text::SentencePieceModel::kBpe));
}

TEST_F(EdgeTokenizer, SplitsIntoBytes) {
  expect_same_ids(text::make_byte_tokenizer());
}

TEST_F(EdgeTokenizer, KeepsAnImportedModelsBlanks) {
  if (!std::filesystem::exists(kImportedTokenizer)) GTEST_SKIP() << "skipped: shared data are missing";
  expect_same_ids(text::load_tokenizer(kImportedTokenizer));
}

TEST_F(EdgeTokenizer, AWordBeyondTheRoomIsToldHowToOpen) {
  const auto tokenizer = trained(text::SentencePieceModel::kUnigram);
  ModelConfig config = small_config(small_models().front());
  config.vocabulary = tokenizer->vocabulary_size();
  const EdgeBytes file(Transformer<float>(config), tokenizer.get());
  EdgeSession session(file, edge_options(0, 0, 8));
  size_t count = 0;
  EXPECT_EQ(qtf_edge_encode(session.get(), "tari mo lek su vor", 18, nullptr, 0, &count), QTF_EDGE_OK);
  EXPECT_EQ(qtf_edge_encode(session.get(), "taritaritari", 12, nullptr, 0, &count), QTF_EDGE_NO_ROOM);
  expect_contains(qtf_edge_error(session.get()), "open it with larger text_bytes");
}

}  // namespace
}  // namespace qtf::model
