#include "qtf/serve/request_body.h"

#include <fmt/format.h>

#include "qtf/base/json.h"
#include "qtf/base/parse.h"

namespace qtf::serve {

nlohmann::json parse_object(std::string_view body) {
  constexpr int kDeepest = 16;
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest) throw RequestError({}, "the body is nested too deeply");
    return true;
  };
  nlohmann::json given = nlohmann::json::parse(body, shallow, /*allow_exceptions=*/false);
  if (!given.is_object()) throw RequestError({}, "the body must be a JSON object");
  return given;
}

void refuse_field(const std::string& name, std::span<const std::string_view> known) {
  const std::string shown = name.substr(0, 80);
  throw RequestError(shown, fmt::format("there is no field \"{}\" here{} (docs/api.md lists them)", shown,
                                        did_you_mean(shown, known)));
}

}  // namespace qtf::serve
