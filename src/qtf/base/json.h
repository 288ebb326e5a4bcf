// nlohmann/json, whose containers, parser and writer are compiled once (json.cc) and not in every file that
// names them. Include this rather than <nlohmann/json.hpp>.
#pragma once

#include <nlohmann/json.hpp>

extern template class nlohmann::basic_json<>;                       // nlohmann::json
extern template class nlohmann::basic_json<nlohmann::ordered_map>;  // nlohmann::ordered_json
