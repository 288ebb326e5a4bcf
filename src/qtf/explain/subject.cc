#include "qtf/explain/subject.h"

#include <fmt/format.h>

#include <algorithm>

#include "qtf/audit/canonical.h"
#include "qtf/base/error.h"
#include "qtf/base/sha256.h"

namespace qtf::explain {

const Fact* Subject::fact(std::string_view id) const {
  const auto found = std::ranges::find(facts, id, &Fact::id);
  return found == facts.end() ? nullptr : &*found;
}

const Reason* Subject::reason(std::string_view id) const {
  const auto found = std::ranges::find(reasons, id, &Reason::id);
  return found == reasons.end() ? nullptr : &*found;
}

std::string Subject::hash() const {
  nlohmann::json told = {{"kind", kind},
                         {"title", title},
                         {"facts", nlohmann::json::array()},
                         {"reasons", nlohmann::json::array()}};
  for (const Fact& fact : facts) told["facts"].push_back({fact.id, fact.text, fact.names});
  for (const Reason& reason : reasons)
    told["reasons"].push_back({reason.id, reason.meaning, reason.text, reason.facts, reason.words});
  return sha256_hex(audit::canonical(told));
}

bool survives(const Reason& reason, const Subject& subject, std::span<const audit::DecisionKind> kinds) {
  if (!reason.counterfactual) return !reason.causal;
  const auto kind = std::ranges::find(kinds, subject.kind, &audit::DecisionKind::name);
  if (kind == kinds.end())
    throw_input_error("explain", "decisions of the kind '{}' cannot be taken again", subject.kind);
  const nlohmann::json::json_pointer path(reason.counterfactual->path);
  try {
    const nlohmann::json other = kind->decide(reason.counterfactual->question);
    return !other.contains(path) || other.at(path) != subject.answer.at(path);
  } catch (const InputError&) {
    return true;  // such a question has no answer at all: a budget below the smallest size
  }
}

int drop_false_reasons(Subject& subject, std::span<const audit::DecisionKind> kinds) {
  return static_cast<int>(std::erase_if(
      subject.reasons, [&](const Reason& reason) { return !survives(reason, subject, kinds); }));
}

std::string grouped(int64_t number) {
  std::string digits = fmt::format("{}", number);
  const size_t first = number < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string nano_text(int64_t number) {
  const uint64_t size =
      number < 0 ? uint64_t{0} - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  const uint64_t micro = (size + 500) / 1000;
  std::string text =
      fmt::format("{}{}.{:06}", number < 0 && micro > 0 ? "-" : "", micro / 1'000'000, micro % 1'000'000);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace qtf::explain
