// What the tests of kernels share: arrays whose end is guarded, a run on every instruction set, and the
// comparison with a plain loop in double.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <vector>

#include "qtf/base/random.h"
#include "qtf/kernels/targets.h"

namespace qtf::kernels {

/// Calls `body` under every instruction set; a failure names it.
template <class Body>
void for_each_instruction_set(Body&& body) {
  for (const InstructionSet& set : instruction_sets()) {
    SCOPED_TRACE(set.name);
    const UseInstructionSet use(set);
    body();
  }
}

/// n numbers that end where a page ends, and the next page may not be touched: a kernel that reads or writes
/// one number too far dies, on any instruction set, with or without sanitizers.
template <class T>
class GuardedArray {
 public:
  explicit GuardedArray(int64_t n) : size_(static_cast<size_t>(n)) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t used = (size_ * sizeof(T) + page - 1) / page * page;
    mapped_ = used + page;
    base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    auto* guard = static_cast<std::byte*>(base_) + used;
    mprotect(guard, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(guard) - size_;
  }
  GuardedArray(const std::vector<T>& values) : GuardedArray(static_cast<int64_t>(values.size())) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~GuardedArray() { munmap(base_, mapped_); }
  GuardedArray(const GuardedArray&) = delete;
  GuardedArray& operator=(const GuardedArray&) = delete;

  T* data() const { return data_; }
  int64_t size() const { return static_cast<int64_t>(size_); }
  T& operator[](int64_t i) const { return data_[i]; }
  std::vector<T> values() const { return {data_, data_ + size_}; }

 private:
  size_t size_;
  size_t mapped_;
  void* base_;
  T* data_;
};

/// Standard normal draws, times `deviation`, plus `mean`.
template <class T>
std::vector<T> normal_values(int64_t n, uint64_t stream, double deviation = 1, double mean = 0) {
  std::vector<T> values(static_cast<size_t>(n));
  const Random random{7, stream};
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<T>(mean + deviation * random.normal(i));
  }
  return values;
}

/// Every tail: 0 to twice the widest vector (16 floats) and three more; and a few long ones.
inline std::vector<int64_t> test_lengths() {
  std::vector<int64_t> lengths = {64, 100, 257, 1000, 4099};
  for (int64_t n = 0; n <= 2 * 16 + 3; ++n) lengths.push_back(n);
  return lengths;
}

/// A number computed in double, and what roundings of the numbers behind it add up to: an error allowed is
/// epsilon of T times `magnitude`.
struct Expected {
  double value;
  double magnitude;
};

/// Compares each number with the expected one; prints the worst.
template <class T>
void expect_close(const char* what, std::span<const T> got, const std::vector<Expected>& want) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double epsilon = std::numeric_limits<T>::epsilon(), smallest = std::numeric_limits<T>::min();
  double worst = 0;
  size_t place = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i].value);
    const double share = error / (epsilon * want[i].magnitude + smallest);
    if (!(share <= worst)) worst = share, place = i;  // not-a-number is the worst
    if (std::isnan(share)) break;
  }
  if (want.empty()) return;
  EXPECT_LE(worst, 1) << what << " of " << want.size() << ", worst at " << place << ": got " << got[place]
                      << ", want " << want[place].value << ", allowed error "
                      << epsilon * want[place].magnitude;
}

template <class T>
void expect_close(const char* what, const GuardedArray<T>& got, const std::vector<Expected>& want) {
  expect_close<T>(what, std::span<const T>(got.data(), want.size()), want);
}

template <class T>
void expect_close(const char* what, const std::vector<T>& got, const std::vector<Expected>& want) {
  expect_close<T>(what, std::span<const T>(got), want);
}

template <class T>
void expect_close(const char* what, T got, Expected want) {
  expect_close<T>(what, std::span<const T>(&got, 1), {want});
}

/// Equal bit for bit: tells 0 from -0, and equals itself where a number is none.
template <class T>
bool same_bits(const T* a, const T* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * sizeof(T)) == 0;
}

}  // namespace qtf::kernels
