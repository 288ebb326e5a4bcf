#include "qtf/train/ranks.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/train/thread_ranks.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

void on_ranks(int size, const std::function<void(Ranks&)>& body) {
  ThreadRoom room(size);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadRanks ranks(room, rank);
      body(ranks);
    });
  }
}

TEST(Ranks, GatherInTheirOrder) {
  on_ranks(3, [](Ranks& ranks) {
    const auto rank = static_cast<float>(ranks.rank());
    const std::vector<float> mine(static_cast<size_t>(ranks.rank()), rank);  // rank 0 has none
    EXPECT_EQ(gather(ranks, mine), (std::vector<float>{1, 2, 2}));
  });
}

TEST(Ranks, AgreeOrSayWhatTheyDisagreeOn) {
  on_ranks(3, [](Ranks& ranks) {
    check_agreement(ranks, {{"text", "a"}, {"settings", {{"--steps", 3}}}});
    const auto error = [&](const nlohmann::json& identity) {
      return error_of<InputError>([&] { check_agreement(ranks, identity); });
    };
    EXPECT_EQ(
        error({{"settings", 1}, {"text", ranks.rank() == 2 ? "b" : "a"}}),
        "[train] 1 of 3 ranks differs from rank 0 in text; start all with the same command and the same "
        "files");
    EXPECT_EQ(error({{"settings", ranks.leads() ? 1 : 2}, {"text", "a"}}),
              "[train] 2 of 3 ranks differ from rank 0 in settings; start all with the same command and the "
              "same files");
  });
}

}  // namespace
}  // namespace qtf::train
