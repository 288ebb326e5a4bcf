#include "qtf/serve/chat_template.h"

namespace qtf::serve {

std::string chat_prompt(std::span<const Message> messages) {
  std::string prompt;
  for (const Message& message : messages) {
    if (message.role == "user") prompt += "User: ";
    if (message.role == "assistant") prompt += "Assistant: ";
    prompt += message.content + "\n\n";
  }
  return prompt + "Assistant:";
}

const std::vector<std::string>& chat_stops() {
  static const std::vector<std::string> stops{"\nUser:", "\nAssistant:"};
  return stops;
}

}  // namespace qtf::serve
