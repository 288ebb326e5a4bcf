// The JSON of answers, in OpenAI's forms.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "qtf/base/json.h"
#include "qtf/serve/completion_request.h"
#include "qtf/serve/engine.h"
#include "qtf/serve/http.h"

namespace qtf::serve {

/// {"error": {message, type, param, code}}; `parameter` empty: null.
HttpAnswer error_answer(int status, std::string_view message, std::string_view parameter = {},
                        std::string_view code = {});

/// A Trace as one object: position, entropy and level a layer each, routed, ms.
nlohmann::ordered_json trace_json(const Trace& trace);

/// What all parts of one answer begin with.
struct AnswerHead {
  Endpoint endpoint = Endpoint::completions;
  std::string id;
  std::string model;
  int64_t created = 0;
};

/// One text of an answer while it is written, as parts to be streamed and as a whole. Not thread-safe.
class Choice {
 public:
  /// tokenizer must outlive it.
  Choice(const CompletionRequest& request, Endpoint endpoint, const text::Tokenizer& tokenizer,
         int64_t index);

  /// Each adds to the text and returns the choice of a streamed part. begin: `prompt` with echoed logprobs.
  nlohmann::ordered_json begin(std::span<const TokenProbability> prompt);
  nlohmann::ordered_json add(const Written& written);
  nlohmann::ordered_json end(const Finished& finished);

  /// The choice of the whole answer, after end().
  nlohmann::ordered_json whole() const;

 private:
  nlohmann::ordered_json part(const std::string& text, nlohmann::ordered_json logprobs) const;
  nlohmann::ordered_json no_logprobs() const;
  void tell(nlohmann::ordered_json& logprobs, const TokenProbability& token,
            std::span<const TokenProbability> top, bool known = true);
  void keep(const nlohmann::ordered_json& logprobs);
  std::string text_of(int32_t token) const;

  bool chat_, wants_logprobs_, wants_trace_;
  std::string echoed_;
  const text::Tokenizer& tokenizer_;
  int64_t index_;
  int64_t offset_ = 0;  // of the next token's text, in bytes
  std::string text_, finish_reason_;
  nlohmann::ordered_json logprobs_, trace_, budget_;
};

/// An answer of several choices, or a streamed part of one.
nlohmann::ordered_json answer_json(const AnswerHead& head, nlohmann::ordered_json choices, bool streamed);

/// Tokens and joules of an answer's texts together.
nlohmann::ordered_json usage_json(std::span<const Finished> finished);

}  // namespace qtf::serve
