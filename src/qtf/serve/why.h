// "Why?" of a token that was written: its ranks and its route in plain language, by the program's own
// sentences at once or by K2 Think, checked (explain/explainer.h). A thread of its own, so that neither the
// model's owner nor the connections wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "qtf/explain/explainer.h"
#include "qtf/serve/engine.h"
#include "qtf/serve/http.h"
#include "qtf/serve/recent_texts.h"

namespace qtf::serve {

/// What is asked, as JSON: {"id", "index", "token", "explainer"}.
struct WhyRequest {
  std::string id;                      ///< the answer's
  int64_t index = 0;                   ///< of its choice
  int64_t token = 0;                   ///< of the written ones, from 0
  std::string explainer = "template";  ///< a name of explain::explainer_kinds()
};

/// Throws RequestError naming the field that is wrong.
WhyRequest parse_why(std::string_view body);

/// Explains one token after the other.
class TokenExplainer {
 public:
  TokenExplainer();
  ~TokenExplainer();  ///< closes it
  TokenExplainer(const TokenExplainer&) = delete;
  TokenExplainer& operator=(const TokenExplainer&) = delete;

  /// Answers `reply`, later; false, and no answer, if too many wait already or it is closed.
  bool explain(WhyRequest request, RecentText text, std::shared_ptr<Engine> engine,
               std::shared_ptr<Reply> reply);

  /// What waits is refused, what is being asked of a service is given up; nothing is answered after it.
  void close();

 private:
  struct Question;
  void work(const std::stop_token& stop);
  HttpAnswer answer(Question& question);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Question> waiting_;
  explain::KnownAnswers known_;  // of services
  std::atomic<bool> given_up_ = false;
  std::jthread thread_;  // the last member: it uses the others
};

}  // namespace qtf::serve
