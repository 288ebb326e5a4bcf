#include "qtf/adapt/query.h"

#include <fmt/format.h>

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::adapt {

Query parse_query(std::string_view text) {
  Query query{0, 0};
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    int64_t* value = key == "prompt" ? &query.prompt : key == "tokens" ? &query.tokens : nullptr;
    if (!value || equals == std::string_view::npos || *value != 0)
      throw_input_error("query", "expected prompt=N,tokens=N, got '{}'", text);
    *value = parse_count(item.substr(equals + 1), "query");
  }
  if (query.prompt < 1 || query.tokens < 1)
    throw_input_error("query", "expected prompt=N,tokens=N with both at least 1, got '{}'", text);
  return query;
}

std::string to_string(const Query& query) {
  return fmt::format("prompt={},tokens={}", query.prompt, query.tokens);
}

}  // namespace qtf::adapt
