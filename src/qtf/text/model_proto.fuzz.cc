// The fields that we read from SentencePiece models ourselves.
#include <cstdint>

#include "qtf/base/error.h"
#include "qtf/text/model_proto.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    qtf::text::read_normalizer_flags({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const qtf::InputError&) {
  }
  return 0;
}
