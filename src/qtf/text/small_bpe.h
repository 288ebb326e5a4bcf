// A small byte-level vocabulary for tests and fuzzing.
#pragma once

#include <string>
#include <vector>

#include "qtf/base/json.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

/// A vocab.json whose ids 0 … 255 are the bytes (in GPT-2's writing) and whose further ids are `more`.
inline std::string small_vocabulary(const std::vector<std::string>& more) {
  nlohmann::json vocabulary;
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b > 32 && b < 127) || (b > 160 && b != 173);
    std::string entry;
    append_code_point(printable ? static_cast<char32_t>(b) : next++, entry);
    vocabulary[entry] = b;
  }
  for (const std::string& entry : more) {
    const auto id = vocabulary.size();
    vocabulary[entry] = id;
  }
  return vocabulary.dump();
}

}  // namespace qtf::text
