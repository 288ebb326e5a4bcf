#include "qtf/serve/call.h"

#include <algorithm>
#include <utility>

namespace qtf::serve {

using Json = nlohmann::ordered_json;

std::string event_text(const Json& json) {
  return "data: " + json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n\n";
}

Call::Call(CompletionRequest request, AnswerHead head, const text::Tokenizer& tokenizer,
           std::shared_ptr<Reply> reply)
    : request_(std::move(request)),
      head_(std::move(head)),
      reply_(std::move(reply)),
      finished_(static_cast<size_t>(request_.n)),
      begun_(finished_.size()),
      open_(finished_.size()) {
  for (int64_t i = 0; i < request_.n; ++i) choices_.emplace_back(request_, head_.endpoint, tokenizer, i);
}

void Call::begin(size_t index, std::span<const TokenProbability> prompt) {
  if (begun_[index]) return;
  begun_[index] = true;
  Json part = choices_[index].begin(prompt);
  if (request_.stream) send_part(std::move(part));
}

void Call::add(size_t index, const Written& written) {
  begin(index, {});
  Json part = choices_[index].add(written);
  const bool says_nothing = written.text.empty() && !request_.logprobs && !request_.trace;
  if (request_.stream && !says_nothing) send_part(std::move(part));
}

void Call::end(size_t index, Finished&& finished) {
  begin(index, {});
  Json part = choices_[index].end(finished);
  finished_[index] = std::move(finished);
  if (request_.stream) send_part(std::move(part));
  if (--open_ == 0) end_all();
}

void Call::send_part(Json&& choice) {
  if (!std::exchange(streaming_, true)) {
    reply_->begin({.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-store"}}});
  }
  reply_->write(event_text(answer_json(head_, Json::array({std::move(choice)}), true)));
}

void Call::end_stream(bool failed) {
  if (request_.include_usage) {
    Json last = answer_json(head_, Json::array(), true);
    last["usage"] = usage_json(finished_);
    reply_->write(event_text(last));
  }
  if (!failed) reply_->write("data: [DONE]\n\n");
  reply_->end();
}

void Call::end_all() {
  const auto bad = std::ranges::find_if(finished_, [](const Finished& one) {
    return one.ending != Ending::stop && one.ending != Ending::length;
  });
  const bool failed = bad != finished_.end();
  if (request_.stream) return end_stream(failed);
  if (failed) {
    if (bad->ending == Ending::shutdown)
      return reply_->send(error_answer(503, "the server is shutting down"));
    return reply_->send(error_answer(500, bad->error.empty() ? "the request was cancelled" : bad->error));
  }
  Json texts = Json::array();
  for (const Choice& choice : choices_) texts.push_back(choice.whole());
  Json answer = answer_json(head_, std::move(texts), false);
  answer["usage"] = usage_json(finished_);
  reply_->send({.body = answer.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

}  // namespace qtf::serve
