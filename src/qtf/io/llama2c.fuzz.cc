// Any bytes either are a model, all of whose weights can be read, or give an IoError.
#include "qtf/io/llama2c.h"
#include "qtf/base/aligned.h"
#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const qtf::AlignedVector<uint8_t> file(data, data + size);
  try {
    volatile float last = 0;
    for (const auto& tensor : qtf::io::parse_llama2c(std::as_bytes(std::span(file)), "fuzz").tensors) {
      last = tensor.data.front() + tensor.data.back();
    }
    (void)last;
  } catch (const qtf::IoError&) {
  }
  return 0;
}
