// How each kind of decision becomes subjects; subjects.cc lists them. Of this folder only.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "qtf/explain/subject.h"

namespace qtf::explain {

using Kinds = std::span<const audit::DecisionKind>;

/// Throws InputError for a kind that cannot be taken again.
const audit::DecisionKind& kind_called(std::string_view name, Kinds kinds);

/// The question with one number changed. path: a JSON pointer.
nlohmann::json moved(const nlohmann::json& question, const std::string& path, int64_t value);

/// Whether a map's decisions are wanted. Nothing wanted means the whole model alone.
bool is_wanted(const Wanted& wanted, const std::string& map);

std::string parameters_text(int64_t count);
std::string loss_text(int64_t nano);
/// "2,000,000 parameters", "12.3 ms": by the unit in a limit's name.
std::string limit_text(const std::string& name, int64_t value);

std::vector<Subject> of_rank(const audit::Decision& d, const Wanted& wanted, Kinds kinds);
std::vector<Subject> of_rank_thresholds(const audit::Decision& d, const Wanted& wanted, Kinds kinds);
std::vector<Subject> of_budget(const audit::Decision& d, const Wanted& wanted, Kinds kinds);
std::vector<Subject> of_budget_measurement(const audit::Decision& d, const Wanted& wanted, Kinds kinds);

}  // namespace qtf::explain
