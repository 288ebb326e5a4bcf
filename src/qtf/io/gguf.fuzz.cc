// Any bytes either are a valid file, all of whose tensors and arrays can be read, or give an error.
#include <vector>

#include "qtf/base/error.h"
#include "qtf/io/gguf.h"

namespace {

void read_everything(std::span<const std::byte> file) {
  const qtf::io::GgufHeader header = qtf::io::parse_gguf(file, "fuzz");
  for (const auto& tensor : header.tensors) {
    std::vector<float> numbers(static_cast<size_t>(tensor.elements()));
    const auto& type = qtf::io::info(tensor.type);
    type.decode(file.data() + tensor.offset, tensor.elements() / type.block, numbers.data());
  }
  for (const auto& [key, entry] : header.metadata) {
    const auto* array = std::get_if<qtf::io::GgufArray>(&entry.value);
    if (!array) continue;
    if (array->kind == qtf::io::GgufKind::string) {
      qtf::io::texts(*array, key);
    } else if (array->kind == qtf::io::GgufKind::float32 || array->kind == qtf::io::GgufKind::float64) {
      qtf::io::numbers<float>(*array, key);
    } else {
      qtf::io::numbers<int32_t>(*array, key);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    read_everything(std::as_bytes(std::span(data, size)));
  } catch (const qtf::IoError&) {
  } catch (const qtf::InputError&) {
  }
  return 0;
}
