// A served model of random weights, and callers that wait, for the tests of this folder.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "qtf/model/small_model.h"
#include "qtf/serve/engine.h"
#include "qtf/serve/http.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::serve {

/// endless: no token ends its texts.
inline model::LoadedModel loaded_model(const model::SmallModel& small, bool endless = false) {
  model::LoadedModel loaded;
  model::ModelConfig config = model::small_config(small);
  if (endless) config.eos_token = -1;
  loaded.model = std::make_unique<model::Transformer<float>>(config);
  model::randomise(*loaded.model);
  loaded.tokenizer = text::make_byte_tokenizer();
  return loaded;
}

inline const model::SmallModel& small_model(std::string_view name) {
  for (const model::SmallModel& small : model::small_models())
    if (small.name == name) return small;
  throw std::out_of_range(std::string(name));
}

/// What a job's listener heard.
struct Heard {
  std::vector<TokenProbability> prompt;
  std::vector<Written> written;
  std::string text;
  Finished finished;
};

/// Waits for one job.
class Ear {
 public:
  Listener listener() {
    return {.on_prompt = [this](auto prompt) { heard_.prompt.assign(prompt.begin(), prompt.end()); },
            .on_token =
                [this](Written&& written) {
                  heard_.text += written.text;
                  const std::lock_guard lock(mutex_);
                  heard_.written.push_back(std::move(written));
                  changed_.notify_all();
                },
            .on_end =
                [this](Finished&& finished) {
                  const std::lock_guard lock(mutex_);
                  heard_.text += finished.text;
                  heard_.finished = std::move(finished);
                  ended_ = true;
                  changed_.notify_all();
                }};
  }

  /// Until `tokens` were written, or the end.
  void wait_for_tokens(size_t tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60),
                      [&] { return ended_ || heard_.written.size() >= tokens; });
  }
  const Heard& wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_; }))
      throw std::runtime_error("the job did not end");
    return heard_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  Heard heard_;
};

/// Keeps what is answered.
class FakeReply final : public Reply {
 public:
  void send(HttpAnswer answer) override {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
    done_ = true;
    changed_.notify_all();
  }
  void begin(HttpAnswer answer) override {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
    begun_ = true;
  }
  void write(std::string piece) override {
    const std::lock_guard lock(mutex_);
    answer_.body += piece;
    changed_.notify_all();
  }
  void end() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  void on_gone(std::function<void()> gone) override {
    const std::lock_guard lock(mutex_);
    gone_ = std::move(gone);
  }

  const HttpAnswer& wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return done_; }))
      throw std::runtime_error("no answer came");
    return answer_;
  }
  /// Until the streamed body has so many bytes.
  void wait_for_bytes(size_t bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return done_ || answer_.body.size() >= bytes; });
  }
  void hang_up() {
    std::function<void()> gone;
    {
      const std::lock_guard lock(mutex_);
      gone = gone_;
    }
    if (gone) gone();
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool begun_ = false, done_ = false;
  HttpAnswer answer_;
  std::function<void()> gone_;
};

}  // namespace qtf::serve
