// Where the time went, for people.
#pragma once

#include <optional>
#include <string>

#include "qtf/base/profile.h"

namespace qtf::cli {

/// A line a part: seconds of all workers, share of them, and for products the arithmetic done meanwhile, a
/// worker, with its share of what the worker can do. fma_peak: FLOP/s of all workers together.
std::string profile_table(const ProfileReport& report, double fma_peak);

/// Ends the profile and measures the peak: its table.
std::string measured_profile(std::optional<Profile>& profile, ThreadPool& pool);

}  // namespace qtf::cli
