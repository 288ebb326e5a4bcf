#include "qtf/train/checkpoint.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/io/safetensors.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

using nlohmann::json;

/// The numbers of a run, with or without averaged weights.
struct Numbers {
  std::vector<float> parameters, first, second, average, guides, guide_first, guide_second;

  explicit Numbers(size_t n, bool averaged, double scale, size_t guided = 0)
      : parameters(normal_numbers(n, scale, 1)),
        first(normal_numbers(n, scale, 2)),
        second(normal_numbers(n, scale, 3)),
        average(normal_numbers(averaged ? n : 0, scale, 4)),
        guides(normal_numbers(guided, scale, 5)),
        guide_first(normal_numbers(guided, scale, 6)),
        guide_second(normal_numbers(guided, scale, 7)) {}
  CheckpointArrays arrays() {
    return {parameters, first, second, average, guides, guide_first, guide_second};
  }
  auto given() {
    return [this](const RunState&) { return arrays(); };
  }
  bool operator==(const Numbers&) const = default;
};

const RunState kState{.step = 12345678901,
                      .seconds = 1.0 / 3,
                      .best_step = 12,
                      .best_nats = 0.1 + 0.2,
                      .best_error = 1e-17,
                      .bad_validations = 3,
                      .metrics_bytes = 99};
const json kIdentity = {{"seed", 1}, {"text", "abc"}, {"settings", {{"--steps", {"9"}}}}};

class Checkpoint : public testing::Test {
 protected:
  void save(bool averaged = true) {
    save_checkpoint(folder_.path(), kState, kIdentity, Numbers(50, averaged, 1).arrays());
  }
  std::string load_error(const json& identity = kIdentity, size_t n = 50, bool averaged = true) {
    Numbers numbers(n, averaged, 0);
    const auto load = [&] { load_checkpoint(folder_.path(), identity, numbers.given()); };
    const std::string input = error_of<InputError>([&] {
      try {
        load();
      } catch (const IoError&) {
      }
    });
    return input.empty() ? "io: " + error_of<IoError>(load) : "input: " + input;
  }
  std::filesystem::path file() const { return folder_ / "checkpoint.safetensors"; }

  TemporaryFolder folder_;
};

TEST_F(Checkpoint, ComesBackBitForBit) {
  for (bool averaged : {false, true}) {
    save(averaged);
    Numbers numbers(50, averaged, 0);
    const RunState state = load_checkpoint(folder_.path(), kIdentity, numbers.given());
    EXPECT_EQ(numbers, Numbers(50, averaged, 1));
    EXPECT_EQ(state.step, kState.step);
    EXPECT_EQ(state.seconds, kState.seconds);
    EXPECT_EQ(state.best_step, kState.best_step);
    EXPECT_EQ(state.best_nats, kState.best_nats);
    EXPECT_EQ(state.best_error, kState.best_error);
    EXPECT_EQ(state.bad_validations, kState.bad_validations);
    EXPECT_EQ(state.metrics_bytes, kState.metrics_bytes);
  }
}

TEST_F(Checkpoint, HoldsGuidesWhileThereAreSome) {
  RunState guided = kState;
  guided.guided = true;
  save_checkpoint(folder_.path(), guided, kIdentity, Numbers(50, false, 1, 70).arrays());
  Numbers numbers(50, false, 0, 0);
  load_checkpoint(folder_.path(), kIdentity, [&](const RunState& state) {
    EXPECT_TRUE(state.guided);
    numbers = Numbers(50, false, 0, 70);
    return numbers.arrays();
  });
  EXPECT_EQ(numbers, Numbers(50, false, 1, 70));
  save(false);
  EXPECT_FALSE(load_checkpoint(folder_.path(), kIdentity, Numbers(50, false, 0).given()).guided);
  Numbers too_many(50, false, 0, 70);
  const auto load = [&] { load_checkpoint(folder_.path(), kIdentity, too_many.given()); };
  EXPECT_NE(error_of<IoError>(load).find("guides"), std::string::npos);
}

TEST_F(Checkpoint, NamesWhatDiffers) {
  save();
  for (const auto& [key, value] : kIdentity.items()) {
    json other = kIdentity;
    other[key] = "else";
    const std::string error = load_error(other);
    EXPECT_TRUE(error.starts_with("input:")) << error;
    EXPECT_NE(error.find(fmt::format("{} = {}", key, value.dump())), std::string::npos) << error;
    EXPECT_NE(error.find("\"else\""), std::string::npos) << error;
  }
  json more = kIdentity;
  more["threads"] = 2;
  EXPECT_NE(load_error(more).find("threads = none, this run has 2"), std::string::npos) << load_error(more);
}

TEST_F(Checkpoint, IsMissingOrRemoved) {
  EXPECT_FALSE(has_checkpoint(folder_.path()));
  EXPECT_TRUE(load_error().starts_with("input:"));
  EXPECT_NE(load_error().find("has no checkpoint"), std::string::npos);
  save();
  EXPECT_TRUE(has_checkpoint(folder_.path()));
  remove_checkpoint(folder_.path());
  EXPECT_FALSE(has_checkpoint(folder_.path()));
  remove_checkpoint(folder_.path());
}

TEST_F(Checkpoint, OfAnotherModelIsRefused) {
  save(false);
  EXPECT_TRUE(load_error(kIdentity, 51, false).starts_with("io: [")) << load_error(kIdentity, 51, false);
  EXPECT_NE(load_error(kIdentity, 51, false).find("50 numbers, this model 51"), std::string::npos);
  EXPECT_NE(load_error(kIdentity, 50, true).find("average"), std::string::npos);
}

TEST_F(Checkpoint, IsDamaged) {
  save();
  const std::string whole = read_file(file());
  for (size_t kept = 0; kept < whole.size(); kept += 7) {
    write_file_atomically(file(), whole.substr(0, kept));
    ASSERT_TRUE(load_error().starts_with("io: [")) << kept << " bytes: " << load_error();
  }
  write_file_atomically(file(), std::string(whole.size(), 'x'));
  EXPECT_TRUE(load_error().starts_with("io: ["));
}

TEST_F(Checkpoint, LacksItsEntries) {
  const std::vector<float> values(50);
  const auto write = [&](const std::map<std::string, std::string>& entries) {
    io::SafetensorsWriter writer;
    for (const char* name : {"parameters", "first_moments", "second_moments", "average"})
      writer.add(name, {50}, std::span<const float>(values));
    for (const auto& [key, value] : entries) writer.set_metadata(key, value);
    writer.write(file());
  };
  const struct {
    std::map<std::string, std::string> entries;
    std::string reason;
  } cases[] = {{{}, "identity"},
               {{{"identity", "{"}}, "identity"},
               {{{"identity", kIdentity.dump()}}, "progress"},
               {{{"identity", kIdentity.dump()}, {"progress", "[]"}}, "progress"},
               {{{"identity", kIdentity.dump()}, {"progress", "{\"step\": \"a\"}"}}, "progress"}};
  for (const auto& c : cases) {
    write(c.entries);
    EXPECT_TRUE(load_error().starts_with("io: [")) << load_error();
    EXPECT_NE(load_error().find(c.reason), std::string::npos) << load_error();
  }
}

}  // namespace
}  // namespace qtf::train
