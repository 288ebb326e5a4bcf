// What the tests of circuits share: random numbers, and a central difference of every path.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/quantum/gradient.h"
#include "qtf/quantum/templates.h"

namespace qtf::quantum {

template <class T = double>
std::vector<T> normal_values(int64_t n, uint64_t stream, double deviation = 1) {
  std::vector<T> values;
  const Random random{11, stream};
  for (int64_t i = 0; i < n; ++i)
    values.push_back(static_cast<T>(deviation * random.normal(static_cast<uint64_t>(i))));
  return values;
}

/// ‖a − b‖, the largest element.
inline double largest_difference(std::span<const double> a, std::span<const double> b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double error = std::abs(a[i] - b[i]);
    if (std::isnan(error)) return error;
    worst = std::max(worst, error);
  }
  return worst;
}

/// Expects InputError whose text contains `part`.
inline void expect_refused(const std::function<void()>& call, const std::string& part) {
  try {
    call();
    FAIL() << "nothing thrown; expected an error with '" << part << "'";
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

}  // namespace qtf::quantum
