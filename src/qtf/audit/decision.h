// A decision as records hold it, with all that it was made from, and how to take it again. Layers above give
// their decision structs as Decisions and their kinds as DecisionKinds; cli/decision_kinds.cc lists them all.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qtf/base/json.h"

namespace qtf::audit {

/// Question and answer hold strings, small integers, lists and objects only (canonical.h).
struct Decision {
  std::string kind;  ///< a DecisionKind's name
  nlohmann::json question, answer;
};

/// Decisions in the order in which they were taken, each as a record and as a line for people.
struct DecisionList {
  std::vector<Decision> records;
  std::string lines;  ///< of decisions.jsonl

  void add(Decision record, const nlohmann::ordered_json& readable) {
    records.push_back(std::move(record));
    lines += readable.dump() + "\n";
  }
  void append(const DecisionList& more) {
    records.insert(records.end(), more.records.begin(), more.records.end());
    lines += more.lines;
  }
  bool empty() const { return records.empty(); }
};

/// One kind of decision.
struct DecisionKind {
  std::string_view name;     ///< "allocation": its records are of the kind "decision.allocation"
  std::string_view summary;  ///< what is decided, for documents and `qtf audit show`
  /// Takes the decision: a pure function. Throws InputError for what is no question of its kind.
  nlohmann::json (*decide)(const nlohmann::json& question);
};

}  // namespace qtf::audit
