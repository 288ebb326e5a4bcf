// A conversation as one text, for base models that know no roles.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "qtf/serve/completion_request.h"

namespace qtf::serve {

/// Each message after its role ("User: …"), a blank line between, ending with "Assistant:"; a system message
/// stands first, without a role.
std::string chat_prompt(std::span<const Message> messages);

/// Where an answer ends: before the model writes another role's turn.
const std::vector<std::string>& chat_stops();

}  // namespace qtf::serve
