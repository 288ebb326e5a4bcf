#include "qtf/cli/training_ranks.h"

#include <gtest/gtest.h>

namespace qtf::cli {
namespace {

TEST(TrainingRanks, ShareTheCoresOfAMachine) {
  EXPECT_EQ(threads_of_a_rank(8, 8, 1), 8);
  EXPECT_EQ(threads_of_a_rank(8, 8, 3), 2);
  EXPECT_EQ(threads_of_a_rank(2, 2, 4), 1);
  EXPECT_EQ(threads_of_a_rank(1, 8, 4), 1);  // bound to a core of its own
  EXPECT_EQ(threads_of_a_rank(4, 8, 2), 4);
  EXPECT_EQ(threads_of_a_rank(2, 2, 0), 2);  // a launcher that does not say
}

TEST(TrainingRanks, AreNoneWhereNobodyLaunchedAny) {
  EXPECT_EQ(open_ranks(), nullptr);
}

}  // namespace
}  // namespace qtf::cli
