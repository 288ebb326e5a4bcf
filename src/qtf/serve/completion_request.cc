#include "qtf/serve/completion_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/text/utf8.h"

namespace qtf::serve {

using nlohmann::json;

namespace {

// Beyond what any request needs, so that what is multiplied to whole units fits.
constexpr double kLongestTokenMs = 60'000, kMostJoules = 1'000'000;

/// Stores a value in the member that it is for.
template <auto member>
void store_member(CompletionRequest& request, const json& value) {
  value.get_to(request.*member);
}
template <auto member>
void store_sampling(CompletionRequest& request, const json& value) {
  value.get_to(request.sampling.*member);
}

std::string joined(const json& texts) {
  std::string text;
  for (const json& part : texts) text += part.get<std::string>();
  return text;
}

/// The text of a message: a string, or an array of {"type": "text", "text": …}.
std::string message_text(const json& content) {
  if (content.is_string()) return content;
  std::string text;
  if (!content.is_array()) throw RequestError("messages", "a message's content must be a string");
  for (const json& part : content) {
    if (!part.is_object() || part.value("type", "") != "text" || !part.contains("text") ||
        !part["text"].is_string())
      throw RequestError("messages", "only parts of type \"text\" are supported in a message's content");
    text += part["text"].get<std::string>();
  }
  return text;
}

void store_messages(CompletionRequest& request, const json& value) {
  for (const json& message : value) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string() ||
        !message.contains("content"))
      throw RequestError("messages", "every message must be an object with a role and a content");
    const std::string role = message["role"];
    if (role != "system" && role != "developer" && role != "user" && role != "assistant")
      throw RequestError("messages",
                         fmt::format("a message's role must be system, developer, user or assistant, got {}",
                                     message["role"].dump(-1, ' ', true, json::error_handler_t::replace)));
    request.messages.push_back({role == "developer" ? "system" : role, message_text(message["content"])});
  }
  if (request.messages.empty()) throw RequestError("messages", "messages must hold at least one message");
}

void store_stream_options(CompletionRequest& request, const json& value) {
  for (const auto& [name, option] : value.items()) {
    if (name != "include_usage" || !option.is_boolean())
      throw RequestError("stream_options", "stream_options takes include_usage, true or false, only");
    request.include_usage = option;
  }
}

/// Of completions: how many of the most likely tokens; of chat: whether any are told.
void store_logprob_count(CompletionRequest& request, const json& value) {
  request.logprobs = true;
  request.top_logprobs = value;
}

constexpr double kMost = 1e15;
constexpr double kMostSeed = 9'007'199'254'740'991;  // what a JSON number holds exactly

const Field kFields[] = {
    {.name = "model",
     .help =
         "the name of the parent (`--parent`) asks it, any other the model (`/v1/models` tells the names)",
     .store = store_member<&CompletionRequest::model>},
    {.name = "prompt",
     .type = FieldType::texts,
     .chat = false,
     .required = true,
     .help = "the text to continue; the parts of an array are joined",
     .store = [](CompletionRequest& request, const json& value) { request.prompt = joined(value); }},
    {.name = "messages",
     .type = FieldType::messages,
     .completions = false,
     .required = true,
     .help = "objects of role (system, developer, user, assistant) and content",
     .store = store_messages},
    {.name = "max_tokens",
     .type = FieldType::integer,
     .min = 1,
     .max = 1e6,
     .initial = "16; chat: what the context has room for",
     .help = "most tokens to write",
     .store = store_member<&CompletionRequest::max_tokens>},
    {.name = "max_completion_tokens",
     .type = FieldType::integer,
     .completions = false,
     .min = 1,
     .max = 1e6,
     .help = "the same",
     .store = store_member<&CompletionRequest::max_tokens>},
    {.name = "temperature",
     .type = FieldType::number,
     .min = 0,
     .max = 100,
     .initial = "1",
     .help = "0: always the most likely token",
     .store = store_sampling<&model::SamplingOptions::temperature>},
    {.name = "top_p",
     .type = FieldType::number,
     .min = 0,
     .max = 1,
     .initial = "1",
     .help = "keep the fewest tokens whose probabilities sum to this; 0: the most likely one",
     .store = [](CompletionRequest& request,
                 const json& value) { request.sampling.top_p = std::max(value.get<double>(), 1e-9); }},
    {.name = "top_k",
     .type = FieldType::integer,
     .max = 1e9,
     .initial = "0",
     .help = "keep the most likely tokens; 0: all",
     .store = store_sampling<&model::SamplingOptions::top_k>},
    {.name = "min_p",
     .type = FieldType::number,
     .max = 1,
     .initial = "0",
     .help = "keep tokens of at least this share of the largest probability",
     .store = store_sampling<&model::SamplingOptions::min_p>},
    {.name = "repeat_penalty",
     .type = FieldType::number,
     .min = 0.01,
     .max = 100,
     .initial = "1",
     .help = "make the last 64 tokens less likely",
     .store = store_sampling<&model::SamplingOptions::repeat_penalty>},
    {.name = "seed",
     .type = FieldType::integer,
     .max = kMostSeed,
     .initial = "0",
     .help = "of the draws: the same request gives the same text; choice i draws with seed + i",
     .store = store_sampling<&model::SamplingOptions::seed>},
    {.name = "n",
     .type = FieldType::integer,
     .min = 1,
     .max = 16,
     .initial = "1",
     .help = "how many texts",
     .store = store_member<&CompletionRequest::n>},
    {.name = "stop",
     .type = FieldType::texts,
     .help = "end before the first of these texts",
     .store =
         [](CompletionRequest& request, const json& value) {
           request.stop = value.get<std::vector<std::string>>();
           if (request.stop.size() > 16 || std::ranges::any_of(request.stop, &std::string::empty))
             throw RequestError("stop", "stop takes at most 16 texts, none of them empty");
         }},
    {.name = "stream",
     .type = FieldType::boolean,
     .initial = "false",
     .help = "send the text as it is written, as server-sent events",
     .store = store_member<&CompletionRequest::stream>},
    {.name = "stream_options",
     .type = FieldType::object,
     .help = "{\"include_usage\": true}: a last event with usage",
     .store = store_stream_options},
    {.name = "echo",
     .type = FieldType::boolean,
     .chat = false,
     .initial = "false",
     .help = "put the prompt in front of the text",
     .store = store_member<&CompletionRequest::echo>},
    {.name = "logprobs",
     .type = FieldType::integer,
     .chat = false,
     .max = 20,
     .help = "tell every token's log-probability, and of so many of the most likely ones",
     .store = store_logprob_count},
    {.name = "logprobs",
     .type = FieldType::boolean,
     .completions = false,
     .initial = "false",
     .help = "tell every token's log-probability",
     .store = store_member<&CompletionRequest::logprobs>},
    {.name = "top_logprobs",
     .type = FieldType::integer,
     .completions = false,
     .max = 20,
     .initial = "0",
     .help = "with logprobs: of so many of the most likely ones",
     .store = store_member<&CompletionRequest::top_logprobs>},
    {.name = "level",
     .type = FieldType::integer,
     .max = 4,
     .initial = "0",
     .help = "nested level, 1 the smallest; 0: the largest",
     .store = store_member<&CompletionRequest::level>},
    {.name = "rank_policy",
     .help = "what picks each token's level (`qtf generate --rank-policy`): entropy, random, fixed:2 …",
     .store = store_member<&CompletionRequest::rank_policy>},
    {.name = "mean_rank",
     .type = FieldType::number,
     .max = 1,
     .help = "of the policy, as a share of the range of ranks, above 0 and below 1",
     .store = [](CompletionRequest& request, const json& value) { request.mean_rank = value.get<double>(); }},
    {.name = "max_latency_ms",
     .type = FieldType::number,
     .max = kLongestTokenMs,
     .help =
         "time that a token may take, in ms: the policy's mean rank falls where tokens take longer, and the "
         "text then depends on the machine; what it came to stands in the choice's `budget`",
     .store = [](CompletionRequest& request,
                 const json& value) { request.max_latency_ms = value.get<double>(); }},
    {.name = "max_energy_per_query",
     .type = FieldType::number,
     .max = kMostJoules,
     .help =
         "joules that the prompt and all max_tokens may take: the mean rank falls where what is left would "
         "not last",
     .store = [](CompletionRequest& request,
                 const json& value) { request.max_energy_per_query = value.get<double>(); }},
    {.name = "trace",
     .type = FieldType::boolean,
     .initial = "false",
     .help = "add every token's entropies, levels, route and time to its choice",
     .store = store_member<&CompletionRequest::trace>},
    {.name = "user", .help = "taken and not used"},
    {.name = "best_of", .type = FieldType::ignored, .chat = false, .initial = "1", .help = "not supported"},
    {.name = "suffix", .type = FieldType::ignored, .chat = false, .help = "not supported"},
    {.name = "frequency_penalty", .type = FieldType::ignored, .initial = "0", .help = "not supported"},
    {.name = "presence_penalty", .type = FieldType::ignored, .initial = "0", .help = "not supported"},
    {.name = "logit_bias", .type = FieldType::ignored, .initial = "{}", .help = "not supported"},
};

bool stands_in(const Field& field, Endpoint endpoint) {
  return endpoint == Endpoint::chat ? field.chat : field.completions;
}

std::vector<std::string_view> field_names(Endpoint endpoint) {
  std::vector<std::string_view> names;
  for (const Field& field : kFields)
    if (stands_in(field, endpoint)) names.push_back(field.name);
  return names;
}

bool is_valid_text(const json& value) {
  const std::string& text = value.get_ref<const std::string&>();
  return text::find_invalid_utf8(text) >= text.size();
}

bool is_in_range(const Field& field, const json& value) {
  if (!value.is_number()) return false;
  const double number = value;
  const double max = field.max == 0 ? kMost : field.max;
  return std::isfinite(number) && number >= field.min && number <= max;
}

bool fits(const Field& field, const json& value) {
  switch (field.type) {
    case FieldType::text:
      return value.is_string() && is_valid_text(value);
    case FieldType::integer:
      return value.is_number_integer() && is_in_range(field, value);
    case FieldType::number:
      return is_in_range(field, value);
    case FieldType::boolean:
      return value.is_boolean();
    case FieldType::texts:
      return (value.is_string() && is_valid_text(value)) ||
             (value.is_array() && std::ranges::all_of(value, [](const json& part) {
                return part.is_string() && is_valid_text(part);
              }));
    case FieldType::messages:
      return value.is_array();
    case FieldType::object:
      return value.is_object();
    case FieldType::ignored:
      return value == json::parse(field.initial.empty() ? "null" : field.initial);
  }
  return false;
}

void read_field(const Field& field, const json& value, CompletionRequest& request) {
  if (value.is_null() && !field.required) return;  // as if it were not there
  if (!fits(field, value)) {
    if (field.type == FieldType::ignored)
      throw RequestError(field.name, fmt::format("{} is not supported; leave it out", field.name));
    throw RequestError(field.name,
                       fmt::format("{} must be {}, got {}", field.name, field_range(field),
                                   value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80)));
  }
  if (!field.store) return;
  if (field.type == FieldType::texts && value.is_string()) {
    field.store(request, json::array({value}));
  } else {
    field.store(request, value);
  }
}

}  // namespace

std::span<const Field> completion_fields() {
  return kFields;
}

namespace {

/// Whole numbers in full.
std::string limit_text(double limit) {
  return limit == std::floor(limit) ? fmt::format("{:.0f}", limit) : fmt::format("{:g}", limit);
}

}  // namespace

std::string field_range(const Field& field) {
  switch (field.type) {
    case FieldType::text:
      return "a string of UTF-8";
    case FieldType::integer:
    case FieldType::number: {
      const std::string_view what = field.type == FieldType::integer ? "an integer" : "a number";
      if (field.max >= kMostSeed || field.max == 0)
        return fmt::format("{} of at least {}", what, limit_text(field.min));
      return fmt::format("{} from {} to {}", what, limit_text(field.min), limit_text(field.max));
    }
    case FieldType::boolean:
      return "true or false";
    case FieldType::texts:
      return "a string or an array of strings, of UTF-8";
    case FieldType::messages:
      return "an array of messages";
    case FieldType::object:
      return "an object";
    case FieldType::ignored:
      break;
  }
  return "left out";
}

CompletionRequest parse_completion(std::string_view body, Endpoint endpoint) {
  const json given = parse_object(body);
  CompletionRequest request;
  for (const auto& [name, value] : given.items()) {
    const auto* field = std::ranges::find_if(
        kFields, [&, &wanted = name](const Field& f) { return f.name == wanted && stands_in(f, endpoint); });
    if (field == std::end(kFields)) refuse_field(name, field_names(endpoint));
    read_field(*field, value, request);
  }
  for (const Field& field : kFields) {
    if (field.required && stands_in(field, endpoint) && !given.contains(field.name))
      throw RequestError(field.name, fmt::format("{} is missing: {}", field.name, field.help));
  }
  if (request.top_logprobs > 0 && !request.logprobs)
    throw RequestError("top_logprobs", "top_logprobs needs logprobs to be true");
  return request;
}

}  // namespace qtf::serve
