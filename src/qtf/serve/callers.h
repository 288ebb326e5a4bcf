// What the server keeps of each caller: how much it may still ask, and where it listens.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "qtf/base/json.h"
#include "qtf/serve/answers.h"
#include "qtf/serve/http.h"

namespace qtf::serve {

/// Requests that each caller may still make: a bucket that fills evenly.
class RateLimit {
 public:
  explicit RateLimit(double per_second) : per_second_(per_second), most_(std::max(1.0, per_second)) {}

  bool allows(const std::string& caller) {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    auto [place, fresh] = buckets_.try_emplace(caller, Bucket{most_, now});
    Bucket& bucket = place->second;
    bucket.left =
        std::min(most_, bucket.left + per_second_ * std::chrono::duration<double>(now - bucket.at).count());
    bucket.at = now;
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    return true;
  }

 private:
  struct Bucket {
    double left;
    std::chrono::steady_clock::time_point at;
  };
  double per_second_, most_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;  // a caller a key: no more than there are keys
};

/// Who listens to /v1/trace, by the scope whose requests they may see.
class Watchers {
 public:
  bool add(const std::string& scope, const std::shared_ptr<Reply>& reply, int64_t most) {
    const std::lock_guard lock(mutex_);
    if (static_cast<int64_t>(watchers_.size()) >= most) return false;
    const int64_t number = next_++;
    watchers_.emplace(number, Watcher{scope, reply});
    any_ = true;
    return true;
  }
  void remove(const std::shared_ptr<Reply>& reply) {
    const std::lock_guard lock(mutex_);
    std::erase_if(watchers_, [&](const auto& entry) { return entry.second.reply == reply; });
    any_ = !watchers_.empty();
  }
  bool any() const { return any_; }
  void tell(const std::string& scope, const nlohmann::ordered_json& json) {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, watcher] : watchers_)
      if (watcher.scope == scope) watcher.reply->write(event_text(json));
  }

 private:
  struct Watcher {
    std::string scope;
    std::shared_ptr<Reply> reply;
  };
  std::mutex mutex_;
  std::atomic<bool> any_ = false;
  int64_t next_ = 0;
  std::map<int64_t, Watcher> watchers_;
};

}  // namespace qtf::serve
