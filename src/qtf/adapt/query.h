// What a budget of time or energy is a budget for: a prompt of stated length and the tokens generated after
// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qtf::adapt {

struct Query {
  int64_t prompt = 128;  ///< tokens read
  int64_t tokens = 64;   ///< generated, the first by the prompt's last token
  bool operator==(const Query&) const = default;
};

/// Reads "prompt=128,tokens=64", in any order, both given. Throws InputError for anything else and for counts
/// below 1.
Query parse_query(std::string_view text);

std::string to_string(const Query& query);

}  // namespace qtf::adapt
