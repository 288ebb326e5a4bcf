#include "qtf/serve/answers.h"

#include <fmt/format.h>

#include <string>
#include <utility>

namespace qtf::serve {

using Json = nlohmann::ordered_json;

namespace {

std::string_view reason_text(Ending ending) {
  switch (ending) {
    case Ending::stop:
      return "stop";
    case Ending::length:
      return "length";
    case Ending::cancelled:
    case Ending::shutdown:
    case Ending::error:
      break;
  }
  return "error";
}

Json bytes_json(std::string_view text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

}  // namespace

HttpAnswer error_answer(int status, std::string_view message, std::string_view parameter,
                        std::string_view code) {
  const auto or_null = [](std::string_view text) { return text.empty() ? Json(nullptr) : Json(text); };
  const Json error{{"message", message},
                   {"type", status < 500 ? "invalid_request_error" : "server_error"},
                   {"param", or_null(parameter)},
                   {"code", or_null(code)}};
  return {.status = status,
          .body = Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

Json trace_json(const Trace& trace) {
  return {{"position", trace.position},
          {"entropy", trace.entropies},
          {"level", trace.levels},
          {"routed", trace.routed},
          {"ms", trace.ms}};
}

Choice::Choice(const CompletionRequest& request, Endpoint endpoint, const text::Tokenizer& tokenizer,
               int64_t index)
    : chat_(endpoint == Endpoint::chat),
      wants_logprobs_(request.logprobs),
      wants_trace_(request.trace),
      echoed_(request.echo ? request.prompt : std::string()),
      tokenizer_(tokenizer),
      index_(index),
      logprobs_(no_logprobs()),
      trace_(Json::array()) {}

Json Choice::no_logprobs() const {
  if (!wants_logprobs_) return nullptr;
  if (chat_) return {{"content", Json::array()}};
  return {{"tokens", Json::array()},
          {"token_logprobs", Json::array()},
          {"top_logprobs", Json::array()},
          {"text_offset", Json::array()}};
}

std::string Choice::text_of(int32_t token) const {
  return tokenizer_.token_bytes(token);
}

/// known: false for a prompt's first token, which nothing comes before.
void Choice::tell(Json& logprobs, const TokenProbability& token, std::span<const TokenProbability> top,
                  bool known) {
  if (!wants_logprobs_) return;
  const std::string text = text_of(token.token);
  if (chat_) {
    Json alternatives = Json::array();
    for (const TokenProbability& other : top) {
      const std::string other_text = text_of(other.token);
      alternatives.push_back(
          {{"token", other_text}, {"logprob", other.logprob}, {"bytes", bytes_json(other_text)}});
    }
    logprobs["content"].push_back({{"token", text},
                                   {"logprob", token.logprob},
                                   {"bytes", bytes_json(text)},
                                   {"top_logprobs", std::move(alternatives)}});
    return;
  }
  Json alternatives = Json::object();
  for (const TokenProbability& other : top) alternatives[text_of(other.token)] = other.logprob;
  logprobs["tokens"].push_back(text);
  logprobs["token_logprobs"].push_back(known ? Json(token.logprob) : Json(nullptr));
  logprobs["top_logprobs"].push_back(known ? std::move(alternatives) : Json(nullptr));
  logprobs["text_offset"].push_back(offset_);
  offset_ += static_cast<int64_t>(text.size());
}

Json Choice::part(const std::string& text, Json logprobs) const {
  Json choice{{"index", index_}};
  if (chat_) {
    choice["delta"] = text.empty() ? Json::object() : Json{{"content", text}};
  } else {
    choice["text"] = text;
  }
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = nullptr;
  return choice;
}

/// Adds a part's log-probabilities to the whole answer's.
void Choice::keep(const Json& logprobs) {
  if (!wants_logprobs_) return;
  for (const auto& [name, values] : logprobs.items())
    for (const Json& value : values) logprobs_[name].push_back(value);
}

Json Choice::begin(std::span<const TokenProbability> prompt) {
  Json logprobs = no_logprobs();
  bool known = false;
  for (const TokenProbability& token : prompt) tell(logprobs, token, {}, std::exchange(known, true));
  keep(logprobs);
  text_ = echoed_;
  Json choice = part(echoed_, std::move(logprobs));
  if (chat_) choice["delta"] = Json{{"role", "assistant"}, {"content", ""}};
  return choice;
}

Json Choice::add(const Written& written) {
  text_ += written.text;
  Json logprobs = no_logprobs();
  tell(logprobs, {written.token, written.logprob}, written.top);
  keep(logprobs);
  Json choice = part(written.text, std::move(logprobs));
  if (wants_trace_) {
    Json trace = trace_json(written.trace);
    trace["token"] = text_of(written.token);
    choice["trace"] = Json::array({trace});
    trace_.push_back(std::move(trace));
  }
  return choice;
}

namespace {

/// What a text's budgets did to its ranks: each change with what it was decided by.
Json budget_json(const Finished& finished) {
  Json json{{"mean_rank", static_cast<double>(*finished.mean_rank) / static_cast<double>(adapt::kUnit)},
            {"kept", std::ranges::none_of(finished.decisions,
                                          [](const adapt::LatencyDecision& d) { return d.too_slow; })},
            {"decisions", Json::array()}};
  for (const adapt::LatencyDecision& decision : finished.decisions)
    json["decisions"].push_back(adapt::to_json(decision));
  return json;
}

}  // namespace

Json Choice::end(const Finished& finished) {
  text_ += finished.text;
  finish_reason_ = reason_text(finished.ending);
  Json choice = part(finished.text, nullptr);
  choice["finish_reason"] = finish_reason_;
  if (finished.mean_rank) choice["budget"] = budget_ = budget_json(finished);
  return choice;
}

Json Choice::whole() const {
  Json choice{{"index", index_}};
  if (chat_) {
    choice["message"] = Json{{"role", "assistant"}, {"content", text_}};
  } else {
    choice["text"] = text_;
  }
  choice["logprobs"] = logprobs_;
  choice["finish_reason"] = finish_reason_;
  if (wants_trace_) choice["trace"] = trace_;
  if (!budget_.is_null()) choice["budget"] = budget_;
  return choice;
}

Json answer_json(const AnswerHead& head, Json choices, bool streamed) {
  const bool chat = head.endpoint == Endpoint::chat;
  const std::string_view object = !chat      ? "text_completion"
                                  : streamed ? "chat.completion.chunk"
                                             : "chat.completion";
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

Json usage_json(std::span<const Finished> finished) {
  int64_t prompt = 0, cached = 0, tokens = 0;
  std::optional<adapt::Energy> energy = adapt::Energy{};
  for (const Finished& one : finished) {
    prompt = one.prompt_tokens;  // that of each is the same
    cached += one.cached_tokens;
    tokens += one.tokens;
    if (energy && one.energy) {
      *energy = {energy->joules + one.energy->joules, energy->low + one.energy->low,
                 energy->high + one.energy->high, one.energy->tier};
    } else {
      energy.reset();
    }
  }
  Json usage{{"prompt_tokens", prompt},
             {"completion_tokens", tokens},
             {"total_tokens", prompt + tokens},
             {"prompt_tokens_details", {{"cached_tokens", cached}}},
             {"energy", nullptr}};
  if (energy)
    usage["energy"] = {{"joules", energy->joules},
                       {"low", energy->low},
                       {"high", energy->high},
                       {"tier", adapt::tier_name(energy->tier)}};
  return usage;
}

}  // namespace qtf::serve
