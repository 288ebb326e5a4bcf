// Token files: any bytes are refused or read inside their bounds.
#include "qtf/text/token_file.h"

#include <cstdint>
#include <vector>

#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint64_t> aligned(size / 8 + 1);
  if (size > 0) std::copy(data, data + size, reinterpret_cast<uint8_t*>(aligned.data()));
  try {
    qtf::text::internal::parse_token_file({reinterpret_cast<const char*>(aligned.data()), size}, "fuzz");
  } catch (const qtf::IoError&) {
  }
  return 0;
}
