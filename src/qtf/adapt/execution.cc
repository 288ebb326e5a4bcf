#include "qtf/adapt/execution.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::adapt {

namespace {

void check_time(const ExecutionQuestion& question, const char* form, int64_t tokens,
                const MeasuredTime& time) {
  if (time.median_ns < 1 || time.spread_ns < 0)
    throw_input_error("execution plan", "the time of {} as {} at {} tokens is missing; measure it again",
                      question.map, form, tokens);
}

bool is_slower(const ExecutionQuestion& q, size_t i) {
  return q.factors[i].median_ns > q.merged[i].median_ns;
}

nlohmann::ordered_json times_json(const MeasuredTimes& times) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (size_t i = 0; i < times.size(); ++i)
    json.push_back({{"tokens", std::to_string(kTimedTokens[i])},
                    {"median_ns", std::to_string(times[i].median_ns)},
                    {"spread_ns", std::to_string(times[i].spread_ns)}});
  return json;
}

}  // namespace

MeasuredTime summarise(std::vector<int64_t> ns) {
  QTF_ASSERT(!ns.empty());
  std::sort(ns.begin(), ns.end());
  const size_t n = ns.size();
  return {std::max<int64_t>(1, ns[n / 2]), (ns[n * 3 / 4] - ns[n / 4]) / 2};
}

ExecutionChoice choose_execution(const ExecutionQuestion& question) {
  ExecutionChoice choice{question};
  for (size_t i = 0; i < kTimedTokens.size(); ++i) {
    check_time(question, "factors", kTimedTokens[i], question.factors[i]);
    check_time(question, "a merged matrix", kTimedTokens[i], question.merged[i]);
    choice.merged = choice.merged || is_slower(question, i);
  }
  return choice;
}

nlohmann::ordered_json to_json(const ExecutionChoice& choice) {
  const ExecutionQuestion& q = choice.question;
  nlohmann::ordered_json slower = nlohmann::ordered_json::array();
  for (size_t i = 0; i < kTimedTokens.size(); ++i)
    if (is_slower(q, i)) slower.push_back(std::to_string(kTimedTokens[i]));
  return {{"decision", "execution"},
          {"map", q.map},
          {"shape", q.shape},
          {"level", std::to_string(q.level)},
          {"chosen", choice.merged ? "merged" : "factors"},
          {"factors_slower_at", slower},
          {"factors", times_json(q.factors)},
          {"merged", times_json(q.merged)}};
}

}  // namespace qtf::adapt
