// Words already encoded, for the length of one encode() call: text repeats its words, so that most cost one
// look-up.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qtf::text {

/// Maps words to their ids. Keys are views: the text must outlive the cache.
class WordCache {
 public:
  /// Appends the word's ids to `out` and returns true, or returns false if it is not known.
  bool find(std::string_view word, std::vector<int32_t>& out) const {
    const auto entry = words_.find(word);
    if (entry == words_.end()) return false;
    const auto first = ids_.begin() + entry->second.first;
    out.insert(out.end(), first, first + entry->second.count);
    return true;
  }

  /// Remembers the word. Long words seldom come again, so they are not kept.
  void insert(std::string_view word, std::span<const int32_t> ids) {
    if (word.size() > kLongestWord) return;
    if (words_.size() >= kMostWords) clear();
    words_.emplace(word, Entry{static_cast<int64_t>(ids_.size()), static_cast<int64_t>(ids.size())});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  struct Entry {
    int64_t first;
    int64_t count;
  };

  static constexpr size_t kLongestWord = 64;
  static constexpr size_t kMostWords = size_t{1} << 17;  // bounds memory to some 20 MB

  void clear() {
    words_.clear();
    ids_.clear();
  }

  std::unordered_map<std::string_view, Entry> words_;
  std::vector<int32_t> ids_;
};

}  // namespace qtf::text
