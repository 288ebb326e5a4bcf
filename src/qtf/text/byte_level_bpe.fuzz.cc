// The two files of a byte-level BPE tokenizer: the input is "further tokens, one a line; NUL; merges; NUL;
// text", or, if it begins with "{", a whole vocabulary in place of the tokens.
#include "qtf/text/byte_level_bpe.h"

#include <cstdint>
#include <cstdlib>

#include "qtf/base/error.h"
#include "qtf/text/small_bpe.h"

namespace {

std::string_view take(std::string_view& rest, char end) {
  const std::string_view part = rest.substr(0, rest.find(end));
  rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  return part;
}

std::string vocabulary_of(std::string_view part) {
  if (part.starts_with('{')) return std::string(part);
  std::vector<std::string> more;
  while (!part.empty()) {
    const std::string_view token = take(part, '\n');
    if (qtf::text::find_invalid_utf8(token) == token.npos) more.emplace_back(token);
  }
  return qtf::text::small_vocabulary(more);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string vocabulary = vocabulary_of(take(rest, '\0'));
  const std::string_view merges = take(rest, '\0');
  try {
    const auto tokenizer = qtf::text::open_byte_level_bpe(vocabulary, merges);
    const std::string text(rest);
    // <|endoftext|> decodes to nothing, and may be merged from ordinary text by a hostile list.
    if (tokenizer->decode(tokenizer->encode(text)) != text && !tokenizer->eos()) std::abort();
  } catch (const qtf::InputError&) {
  }
  return 0;
}
