// The answer of a reasoning model apart from its reasoning, in all the forms in which K2 Think sends it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qtf::explain {

/// What is left of a message's content: without <think>, <think_fast> or <think_faster> … closing tag (the
/// opening one may be missing), the inside of <answer> if there is one, and of a fenced code block. Nothing
/// if all of it is reasoning: an opening tag that is not closed, or no text.
std::optional<std::string> answer_of(std::string_view content);

}  // namespace qtf::explain
