// Any bytes either are a valid file, all of whose tensors can be read, or give an IoError.
#include <vector>

#include "qtf/base/error.h"
#include "qtf/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    for (const auto& tensor : qtf::io::parse_safetensors(file, "fuzz").tensors) {
      std::vector<float> numbers(static_cast<size_t>(tensor.elements()));
      qtf::io::convert(tensor.dtype, file.subspan(tensor.offset, tensor.bytes), std::span<float>(numbers),
                       "fuzz");
    }
  } catch (const qtf::IoError&) {
  }
  return 0;
}
