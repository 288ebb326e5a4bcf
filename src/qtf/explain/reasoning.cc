#include "qtf/explain/reasoning.h"

namespace qtf::explain {

namespace {

constexpr std::string_view kTags[] = {"think", "think_fast", "think_faster"};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

/// Behind the last closing tag of any kind; `open` if an opening one follows it.
std::string_view behind_reasoning(std::string_view text, bool& open) {
  size_t begin = 0;
  for (const std::string_view tag : kTags) {
    const std::string closing = "</" + std::string(tag) + ">";
    const size_t at = text.rfind(closing);
    if (at != std::string_view::npos) begin = std::max(begin, at + closing.size());
  }
  text.remove_prefix(begin);
  for (const std::string_view tag : kTags)
    open = open || text.find("<" + std::string(tag) + ">") != std::string_view::npos;
  return text;
}

/// Between two marks, if both are there.
std::string_view inside(std::string_view text, std::string_view before, std::string_view after) {
  const size_t begin = text.find(before);
  if (begin == std::string_view::npos) return text;
  const size_t end = text.find(after, begin + before.size());
  if (end == std::string_view::npos) return text;
  return text.substr(begin + before.size(), end - begin - before.size());
}

}  // namespace

std::optional<std::string> answer_of(std::string_view content) {
  bool open = false;
  std::string_view text = behind_reasoning(content, open);
  if (open) return std::nullopt;
  text = trimmed(inside(text, "<answer>", "</answer>"));
  if (text.starts_with("```")) {
    text = inside(text, "```", "```");
    // The fence's first line names a language.
    const size_t line = text.find('\n');
    text = trimmed(line == std::string_view::npos ? std::string_view() : text.substr(line));
  }
  if (text.empty()) return std::nullopt;
  return std::string(text);
}

}  // namespace qtf::explain
