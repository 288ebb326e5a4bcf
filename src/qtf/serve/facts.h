// What the server tells of its models and of itself.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "qtf/serve/engine.h"

namespace qtf::serve {

/// What /v1/models tells of one.
nlohmann::ordered_json model_facts(const Engine& engine);

/// The counts of /metrics, in Prometheus' text format.
std::string prometheus_text(const EngineState& state);

/// Whether the records of how a model was made are consistent, with the command that checks it. Throws like
/// audit::verify.
nlohmann::ordered_json records_facts(const std::filesystem::path& file, const std::string& model_name);

}  // namespace qtf::serve
