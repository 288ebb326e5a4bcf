// The bodies of /v1/completions and /v1/chat/completions as a native struct, by one table of fields: parsing,
// checks and docs/api.md read it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/model/sampler.h"
#include "qtf/serve/request_body.h"

namespace qtf::serve {

enum class Endpoint { completions, chat };

struct Message {
  std::string role;  ///< system, user or assistant
  std::string content;
};

struct CompletionRequest {
  std::string model;
  std::string prompt;             ///< of completions
  std::vector<Message> messages;  ///< of chat
  int64_t max_tokens = 0;         ///< 0: not given
  model::SamplingOptions sampling{.temperature = 1};
  std::vector<std::string> stop;
  int64_t n = 1;
  bool stream = false;
  bool include_usage = false;  ///< stream_options.include_usage
  bool echo = false;
  bool logprobs = false;
  int64_t top_logprobs = 0;
  bool trace = false;
  int64_t level = 0;
  std::string rank_policy;
  std::optional<double> mean_rank;
  std::optional<double> max_latency_ms;        ///< of a token
  std::optional<double> max_energy_per_query;  ///< joules
};

/// How a field's value is read.
enum class FieldType {
  text,
  integer,
  number,
  boolean,
  texts,     ///< a string or an array of strings
  messages,  ///< an array of {role, content}
  object,
  ignored,  ///< taken for its default or null only
};

struct Field {
  std::string_view name;
  FieldType type = FieldType::text;
  bool completions = true, chat = true;  ///< where it may stand
  bool required = false;
  double min = 0, max = 0;  ///< of numbers
  std::string_view initial = {};
  std::string_view help = {};
  void (*store)(CompletionRequest& request,
                const nlohmann::json& value) = nullptr;  ///< of a value that was checked
};

/// Every field that is understood.
std::span<const Field> completion_fields();

/// Throws RequestError naming the field for JSON that is none, fields that are unknown (with a suggestion),
/// missing, of another type or out of range.
CompletionRequest parse_completion(std::string_view body, Endpoint endpoint);

/// "a string", "an integer from 0 to 5": what a field takes.
std::string field_range(const Field& field);

}  // namespace qtf::serve
