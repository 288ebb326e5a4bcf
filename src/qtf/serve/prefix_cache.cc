#include "qtf/serve/prefix_cache.h"

#include <algorithm>
#include <utility>

namespace qtf::serve {

namespace {

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

}  // namespace

std::optional<PrefixCache::Hit> PrefixCache::find(const PrefixScope& scope, std::span<const int32_t> prompt) {
  auto best = entries_.end();
  int64_t most = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!(entry->scope == scope)) continue;
    const int64_t shared = common_prefix(entry->tokens, prompt);
    if (shared > most) most = shared, best = entry;
  }
  if (best == entries_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, best);
  Hit hit{best->cache, most};
  hit.cache.truncate(most);
  return hit;
}

void PrefixCache::keep(const PrefixScope& scope, std::vector<int32_t> tokens, nn::KvCache<float>&& cache) {
  const auto size = static_cast<int64_t>(cache.bytes());
  if (size > most_bytes_ || tokens.empty()) return;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    const bool covered = entry->scope == scope &&
                         common_prefix(entry->tokens, tokens) == static_cast<int64_t>(entry->tokens.size());
    if (covered) erase(entry);
    entry = next;
  }
  while (bytes_ + size > most_bytes_) erase(std::prev(entries_.end()));
  entries_.push_front({scope, std::move(tokens), std::move(cache)});
  bytes_ += size;
}

void PrefixCache::erase(std::list<Entry>::iterator entry) {
  bytes_ -= static_cast<int64_t>(entry->cache.bytes());
  entries_.erase(entry);
}

}  // namespace qtf::serve
