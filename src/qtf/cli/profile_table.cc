#include "qtf/cli/profile_table.h"

#include <fmt/format.h>

#include "qtf/train/step.h"

namespace qtf::cli {

namespace {

constexpr double kSmallestShare = 0.001;  // share of the time below which a part is not worth a line

std::string line(const ProfileRow& row, double all_seconds, double worker_peak) {
  const std::string name =
      std::string(static_cast<size_t>(2 * row.depth), ' ') + row.path.substr(row.path.rfind('/') + 1);
  std::string text =
      fmt::format("  {:34} {:10.3f} s {:6.1f} %", name, row.seconds, 100 * row.seconds / all_seconds);
  if (row.flops > 0 && row.seconds > 0) {
    const double speed = row.flops / row.seconds;
    text += fmt::format(" {:8.1f} {:6.0f} %", speed / 1e9, 100 * speed / worker_peak);
  }
  return text + "\n";
}

}  // namespace

std::string profile_table(const ProfileReport& report, double fma_peak) {
  const double all = report.wall_seconds * report.threads, worker_peak = fma_peak / report.threads;
  std::string text =
      fmt::format("Where the time went: {:.2f} s on {} thread{} of {:.0f} GFLOP/s\n", report.wall_seconds,
                  report.threads, report.threads == 1 ? "" : "s", worker_peak / 1e9);
  text += fmt::format("  {:34} {:>12} {:>8} {:>8} {:>8}\n", "part", "time", "share", "GFLOP/s", "of peak");
  for (const ProfileRow& row : report.rows)
    if (row.seconds >= kSmallestShare * all) text += line(row, all, worker_peak);
  return text;
}

std::string measured_profile(std::optional<Profile>& profile, ThreadPool& pool) {
  const ProfileReport report = profile->report();
  profile.reset();
  return profile_table(report, train::measure_pool_peak(pool, 0.02));
}

}  // namespace qtf::cli
