// The last texts that were written, as tokens, so that a caller can ask why one took its ranks: what decided
// is computed again from them (explain/token_decisions.h).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "qtf/serve/engine.h"

namespace qtf::serve {

struct RecentText {
  std::weak_ptr<Engine> engine;  ///< that writes it
  std::vector<int32_t> tokens;   ///< the prompt's, then those written
  int64_t prompt_tokens = 0;
  int level = 0;
  std::shared_ptr<const model::RankScheduler> scheduler;  ///< null: `level` for all maps
  bool driven = false;                                    ///< by budgets: `scheduler` changed meanwhile
  /// Of each token written: where the model's context began in `tokens` when it was drawn.
  std::vector<int64_t> begins;

  /// How many of its tokens can be asked about: those written, of a very long text the first ones.
  int64_t written() const { return static_cast<int64_t>(begins.size()); }
  /// What the model had read when it drew a token, 0 to written() - 1; the last one's decisions are those
  /// behind it.
  std::vector<int32_t> read_before(int64_t token) const;
};

/// Of all callers, the last `most`, each seen under its scope alone. Any thread.
class RecentTexts {
 public:
  static constexpr int64_t kMostWritten = 16'384;  ///< tokens kept of a text

  explicit RecentTexts(size_t most) : most_(most) {}

  /// id, index: as the answer names its text.
  void add(const std::string& scope, const std::string& id, size_t index, RecentText text);
  void append(const std::string& id, size_t index, int32_t token, int64_t begin);
  std::optional<RecentText> find(const std::string& scope, const std::string& id, size_t index) const;
  void clear();

 private:
  struct Kept {
    std::string scope;
    RecentText text;
  };
  using Name = std::pair<std::string, size_t>;

  size_t most_;
  mutable std::mutex mutex_;
  std::map<Name, Kept> texts_;
  std::deque<Name> order_;  // the oldest first
};

}  // namespace qtf::serve
