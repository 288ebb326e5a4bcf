#include "qtf/serve/why.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/explain/page.h"
#include "qtf/explain/token_decisions.h"
#include "qtf/serve/answers.h"
#include "qtf/serve/request_body.h"

namespace qtf::serve {

namespace {

using nlohmann::json;

constexpr size_t kMostQuestions = 32, kMostKnown = 1024;

std::string text_of(const json& body, const char* name, std::string initial) {
  if (!body.contains(name)) return initial;
  if (!body.at(name).is_string()) throw RequestError(name, fmt::format("{} must be a text", name));
  return body.at(name).get<std::string>();
}

int64_t count_of(const json& body, const char* name) {
  if (!body.contains(name)) return 0;
  const json& value = body.at(name);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > (uint64_t{1} << 31U))
    throw RequestError(name, fmt::format("{} must be a whole number from 0", name));
  return value.get<int64_t>();
}

/// Why nothing can be said of a token.
std::string why_nothing(const RecentText& text, const model::ModelConfig& config) {
  if (text.driven) {
    return "This text kept a budget: its ranks followed times and energies measured while it was written, "
           "which "
           "its choice's \"budget\" tells.";
  }
  if (model::level_count(config) < 2 && !config.quantum)
    return "This model has neither nested ranks nor a quantum layer: every token takes the same way.";
  return "Nothing was decided here: the text was written with the same ranks for every token. Ask for a "
         "\"rank_policy\".";
}

}  // namespace

WhyRequest parse_why(std::string_view body) {
  const json parsed = parse_object(body);
  constexpr std::array<std::string_view, 4> kNames = {"id", "index", "token", "explainer"};
  for (const auto& [name, value] : parsed.items())
    if (std::ranges::find(kNames, name) == kNames.end()) refuse_field(name, kNames);
  WhyRequest request;
  request.id = text_of(parsed, "id", "");
  if (request.id.empty()) throw RequestError("id", "id is missing: that of the answer");
  request.index = count_of(parsed, "index");
  request.token = count_of(parsed, "token");
  request.explainer = text_of(parsed, "explainer", request.explainer);
  return request;
}

struct TokenExplainer::Question {
  WhyRequest request;
  RecentText text;
  std::shared_ptr<Engine> engine;
  std::shared_ptr<Reply> reply;
};

TokenExplainer::TokenExplainer() : thread_([this](const std::stop_token& stop) { work(stop); }) {}

TokenExplainer::~TokenExplainer() {
  close();
}

void TokenExplainer::close() {
  {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
  }
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

bool TokenExplainer::explain(WhyRequest request, RecentText text, std::shared_ptr<Engine> engine,
                             std::shared_ptr<Reply> reply) {
  const std::lock_guard lock(mutex_);
  if (given_up_ || waiting_.size() >= kMostQuestions) return false;
  waiting_.push_back({std::move(request), std::move(text), std::move(engine), std::move(reply)});
  changed_.notify_one();
  return true;
}

void TokenExplainer::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !waiting_.empty(); })) {
    Question question = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    HttpAnswer found;
    try {
      found = given_up_ ? error_answer(503, "the server is shutting down") : answer(question);
    } catch (const InputError& error) {
      found = error_answer(400, error.what());
    } catch (const std::exception&) {
      found = error_answer(500, "the explanation could not be made");
    }
    question.engine.reset();  // not held while a slow caller reads
    question.reply->send(std::move(found));
    lock.lock();
  }
}

HttpAnswer TokenExplainer::answer(Question& question) {
  const RecentText& text = question.text;
  std::vector<explain::Subject> subjects;
  std::string note;
  {
    const model::Transformer<float>& model = question.engine->model();
    if (!text.driven) {
      const std::vector<int32_t> read = text.read_before(question.request.token);
      const explain::DecidedTokens decided =
          explain::decide_tokens(model, text.scheduler.get(), text.level, read);
      subjects = explain::subjects_of_token(decided, decided.tokens - 1, model, text.scheduler.get(), {},
                                            adapt::decision_kinds());
    }
    if (subjects.empty()) note = why_nothing(text, model.config());
  }
  question.engine.reset();  // a service takes its time, and the model may go meanwhile

  explain::ChatOptions options;
  options.stop = &given_up_;
  const auto explainer = explain::make_explainer(question.request.explainer, options);
  const std::vector<explain::Explanation> explanations =
      explain::explain_all(std::move(subjects), *explainer, known_);
  if (known_.size() > kMostKnown) known_.clear();
  for (const explain::Explanation& explanation : explanations)
    if (!explainer->model().empty() && explanation.answer.problem.empty())
      known_[sha256_hex(explainer->prompt(explanation.subject))] = explanation.answer;

  const nlohmann::ordered_json told =
      explain::as_json(explanations, {.title = {},
                                      .note = {},
                                      .tally = explain::tally(explanations, *explainer),
                                      .root = {},
                                      .records = 0,
                                      .verify = {}});
  nlohmann::ordered_json json{{"object", "explanation"},
                              {"id", question.request.id},
                              {"index", question.request.index},
                              {"token", question.request.token},
                              {"explained_by", explanations.empty() ? "" : told["tally"]},
                              {"explanations", told["explanations"]}};
  if (!note.empty()) json["note"] = note;
  return {.body = json.dump()};
}

}  // namespace qtf::serve
