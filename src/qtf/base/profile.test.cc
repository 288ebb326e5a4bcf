#include "qtf/base/profile.h"

#include <gtest/gtest.h>

#include "qtf/base/team.h"

namespace qtf {
namespace {

void spin(double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
  }
}

const ProfileRow* find(const ProfileReport& report, const std::string& path) {
  for (const ProfileRow& row : report.rows)
    if (row.path == path) return &row;
  return nullptr;
}

double top_level_seconds(const ProfileReport& report) {
  double sum = 0;
  for (const ProfileRow& row : report.rows)
    if (row.depth == 0) sum += row.seconds;
  return sum;
}

TEST(Profile, ScopesAloneMeasureNothing) {
  const ProfileScope scope("unseen");
  ThreadPool pool(2);
  {
    const Profile profile(pool);
    EXPECT_EQ(find(profile.report(), "unseen"), nullptr);
  }
  EXPECT_EQ(internal::profile_tree, nullptr);
}

TEST(Profile, PartsHoldTheirParts) {
  ThreadPool pool(1);
  const Profile profile(pool);
  for (int i = 0; i < 3; ++i) {
    const ProfileScope outer("outer");
    spin(0.002);
    const ProfileScope inner("inner", 100);
    spin(0.004);
  }
  const ProfileReport report = profile.report();
  const ProfileRow *outer = find(report, "outer"), *inner = find(report, "outer/inner");
  ASSERT_TRUE(outer && inner);
  EXPECT_EQ(outer->calls, 3);
  EXPECT_EQ(inner->calls, 3);
  EXPECT_EQ(inner->depth, 1);
  EXPECT_GE(inner->seconds, 3 * 0.004);
  EXPECT_GE(outer->seconds, inner->seconds + 3 * 0.002);
  EXPECT_EQ(inner->flops, 300);
  EXPECT_EQ(outer->flops, 300);
  EXPECT_NEAR(top_level_seconds(report), report.wall_seconds, 1e-3);
}

TEST(Profile, WorkersCountInTheCallersScope) {
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    const Profile profile(pool);
    {
      const ProfileScope scope("job");
      pool.run([](int worker) {
        const ProfileScope part("part");
        spin(worker == 0 ? 0.002 : 0.006);
      });
    }
    const ProfileReport report = profile.report();
    const ProfileRow *part = find(report, "job/part"), *waiting = find(report, "waiting");
    ASSERT_TRUE(part && waiting);
    EXPECT_EQ(part->calls, threads);
    EXPECT_GE(part->seconds, 0.002 + 0.006 * (threads - 1));
    EXPECT_EQ(report.threads, threads);
    EXPECT_NEAR(top_level_seconds(report), report.wall_seconds * threads, 0.01);
  }
}

TEST(Profile, WaitingIsNobodysPart) {
  ThreadPool pool(2);
  const Profile profile(pool);
  {
    const ProfileScope scope("job");
    Team team(pool);
    team.run([](TeamMember& member) {
      if (member.index() == 1) spin(0.02);
      member.barrier();
      if (member.index() == 0) spin(0.02);
    });
  }
  const ProfileReport report = profile.report();
  EXPECT_EQ(find(report, "job/waiting"), nullptr);
  EXPECT_GE(find(report, "waiting")->seconds, 0.03);
}

TEST(Profile, SurvivesJobsThatThrow) {
  ThreadPool pool(2);
  const Profile profile(pool);
  EXPECT_THROW(pool.run([](int worker) {
    const ProfileScope scope("thrower");
    if (worker == 1) throw std::runtime_error("no");
  }),
               std::runtime_error);
  pool.run([](int) { const ProfileScope scope("after"); });
  EXPECT_EQ(find(profile.report(), "after")->calls, 2);
}

}  // namespace
}  // namespace qtf
