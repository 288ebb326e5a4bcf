#include <string_view>

#include "qtf/serve/completion_request.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const auto endpoint : {qtf::serve::Endpoint::completions, qtf::serve::Endpoint::chat}) {
    try {
      qtf::serve::parse_completion(body, endpoint);
    } catch (const qtf::InputError&) {
    }
  }
  return 0;
}
