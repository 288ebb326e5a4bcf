// parse_shape either refuses a text with InputError or gives a valid shape whose text form parses to the
// same.
#include "qtf/tt/weight_shape.h"

#include <cstdlib>

#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qtf;
  constexpr int64_t kOut = 360, kIn = 1024;
  tt::WeightShape shape;
  try {
    shape = tt::parse_shape({reinterpret_cast<const char*>(data), size}, kOut, kIn);
  } catch (const InputError&) {
    return 0;
  }
  tt::validate(shape);
  if (tt::parse_shape(tt::to_string(shape), kOut, kIn) != shape) std::abort();
  if (tt::parameters(shape) < 1 || tt::macs(shape) < 1) std::abort();
  return 0;
}
