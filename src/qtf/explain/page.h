// Explanations as a text for people: Markdown, JSON, or one HTML page that needs nothing else.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "qtf/explain/explainer.h"

namespace qtf::explain {

/// What a page says beside the explanations.
struct PageFacts {
  std::string title;  ///< of the model or run
  std::string note;   ///< a line below it, or none
  std::string tally;  ///< who explained, and how much of it held
  std::string root;   ///< of the records, hexadecimal
  int64_t records = 0;
  std::string verify;  ///< the command that checks them
};

std::string as_markdown(std::span<const Explanation> explanations, const PageFacts& page);
nlohmann::ordered_json as_json(std::span<const Explanation> explanations, const PageFacts& page);
std::string as_html(std::span<const Explanation> explanations, const PageFacts& page);

}  // namespace qtf::explain
