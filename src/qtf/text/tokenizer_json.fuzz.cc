// Any bytes either are a tokenizer, whose pieces make the same one again, or give an InputError.
#include "qtf/text/tokenizer_json.h"

#include <cstdint>
#include <cstdlib>

#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = qtf::text::open_tokenizer_json(json);
    const auto ids = tokenizer->encode("the 12 hats!\n");
    if (qtf::text::make_tokenizer(tokenizer->pieces(), "copy")->encode("the 12 hats!\n") != ids) std::abort();
  } catch (const qtf::InputError&) {
  }
  return 0;
}
