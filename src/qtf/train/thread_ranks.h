// Ranks that are threads of one process: for tests and measurements of what several ranks compute.
#pragma once

#include <algorithm>
#include <barrier>
#include <vector>

#include "qtf/train/ranks.h"

namespace qtf::train {

/// What `size` ranks share; each thread makes its own ThreadRanks of it.
class ThreadRoom {
 public:
  explicit ThreadRoom(int size)
      : size_(size), floats_(static_cast<size_t>(size)), doubles_(floats_.size()), meeting_(size) {}

 private:
  friend class ThreadRanks;
  int size_;
  std::vector<std::vector<float>> floats_;
  std::vector<std::vector<double>> doubles_;
  std::vector<std::byte> bytes_;
  std::barrier<> meeting_;
};

class ThreadRanks : public Ranks {
 public:
  ThreadRanks(ThreadRoom& room, int rank) : room_(room), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return room_.size_; }
  void sum(std::span<float> values) override { sum_in_order(values, room_.floats_); }
  void sum(std::span<double> values) override { sum_in_order(values, room_.doubles_); }
  void share(std::span<std::byte> bytes) override {
    if (leads()) room_.bytes_.assign(bytes.begin(), bytes.end());
    room_.meeting_.arrive_and_wait();
    std::ranges::copy(room_.bytes_, bytes.begin());
    room_.meeting_.arrive_and_wait();
  }
  void close() override { room_.meeting_.arrive_and_wait(); }

 private:
  template <class T>
  void sum_in_order(std::span<T> values, std::vector<std::vector<T>>& all) {
    all[static_cast<size_t>(rank_)].assign(values.begin(), values.end());
    room_.meeting_.arrive_and_wait();
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = all[0][i];
      for (size_t from = 1; from < all.size(); ++from) values[i] += all[from][i];
    }
    room_.meeting_.arrive_and_wait();
  }

  ThreadRoom& room_;
  int rank_;
};

}  // namespace qtf::train
