// One request for texts while it is answered: what the engine tells of its texts becomes an answer or a
// stream.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "qtf/serve/answers.h"
#include "qtf/serve/engine.h"
#include "qtf/serve/http.h"

namespace qtf::serve {

/// JSON of server-sent events: "data: …" and a blank line. Bytes that are no UTF-8 become U+FFFD.
std::string event_text(const nlohmann::ordered_json& json);

/// The engine's thread alone calls it.
class Call {
 public:
  Call(CompletionRequest request, AnswerHead head, const text::Tokenizer& tokenizer,
       std::shared_ptr<Reply> reply);

  void begin(size_t index, std::span<const TokenProbability> prompt);
  void add(size_t index, const Written& written);
  void end(size_t index, Finished&& finished);

 private:
  void send_part(nlohmann::ordered_json&& choice);
  void end_all();
  void end_stream(bool failed);

  CompletionRequest request_;
  AnswerHead head_;
  std::shared_ptr<Reply> reply_;
  std::vector<Choice> choices_;
  std::vector<Finished> finished_;
  std::vector<bool> begun_;
  size_t open_;
  bool streaming_ = false;
};

}  // namespace qtf::serve
