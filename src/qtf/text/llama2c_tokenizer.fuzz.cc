// Any bytes either are a tokenizer or give an InputError.
#include "qtf/text/llama2c_tokenizer.h"

#include <cstdint>

#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    qtf::text::open_llama2c_tokenizer({reinterpret_cast<const char*>(data), size})->encode("the 12 hats!\n");
  } catch (const qtf::InputError&) {
  }
  return 0;
}
