// Keys and values of texts that were read before, so that a prompt which begins like one of them is read from
// where they part. The engine asks before it reads a prompt.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qtf/model/rank_scheduler.h"
#include "qtf/nn/kv_cache.h"

namespace qtf::serve {

/// Who may find a text again, and with which ranks it was read: keys and values depend on them.
struct PrefixScope {
  std::string caller;
  int level = 0;
  std::shared_ptr<const model::RankScheduler> scheduler = {};
  bool operator==(const PrefixScope&) const = default;
};

/// Holds at most so many bytes; what was not asked for the longest goes first. Not thread-safe.
class PrefixCache {
 public:
  explicit PrefixCache(int64_t bytes) : most_bytes_(bytes) {}

  struct Hit {
    nn::KvCache<float> cache;  ///< of at least `tokens` tokens
    int64_t tokens = 0;        ///< with which the prompt begins as well
  };

  /// A copy of the cache that shares most with the prompt; none if nothing does.
  std::optional<Hit> find(const PrefixScope& scope, std::span<const int32_t> prompt);

  /// tokens: those that the cache holds. A text that begins like them and is no longer is dropped.
  void keep(const PrefixScope& scope, std::vector<int32_t> tokens, nn::KvCache<float>&& cache);

  int64_t bytes() const { return bytes_; }
  size_t texts() const { return entries_.size(); }

 private:
  struct Entry {
    PrefixScope scope;
    std::vector<int32_t> tokens;
    nn::KvCache<float> cache;
  };

  void erase(std::list<Entry>::iterator entry);

  int64_t most_bytes_, bytes_ = 0;
  std::list<Entry> entries_;  // the last asked for first
};

}  // namespace qtf::serve
