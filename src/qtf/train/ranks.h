// Processes that train one model together, each on its part of every batch (docs/distributed.md). What they
// speak through (MPI, threads in tests) implements this; without one a run is alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <stdexcept>
#include <vector>

namespace qtf::train {

/// The other ranks can no longer be heard. What was being summed is lost; what was finished before is whole.
class RanksLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Every function but rank() and size() is a meeting: all ranks call the same ones in the same order, one at
/// a time, and leave with the same bits. They throw RanksLost.
class Ranks {
 public:
  virtual ~Ranks() = default;

  virtual int rank() const = 0;  ///< from 0; rank 0 leads: it validates, writes and speaks
  virtual int size() const = 0;

  /// values become their sums over the ranks.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;

  /// bytes become rank 0's.
  virtual void share(std::span<std::byte> bytes) = 0;

  /// The last meeting of a run that went well: returns when all ranks have come.
  virtual void close() = 0;

  bool leads() const { return rank() == 0; }

  /// What a signal sets; a meeting that lasts while it is set gives the others up.
  void watch(const std::atomic<int>* stop) { stop_ = stop; }

 protected:
  bool told_to_stop() const { return stop_ && stop_->load() != 0; }

 private:
  const std::atomic<int>* stop_ = nullptr;
};

/// All ranks' values, end to end in the order of ranks.
std::vector<float> gather(Ranks& ranks, std::span<const float> values);

/// Throws the same InputError on every rank if an entry of one's identity (texts, settings, tokenizer; a JSON
/// object) is not rank 0's, naming it.
void check_agreement(Ranks& ranks, const nlohmann::json& identity);

}  // namespace qtf::train
