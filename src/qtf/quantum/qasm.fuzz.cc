// Any text is refused with InputError or gives a circuit that survives being written and read again.
#include "qtf/quantum/qasm.h"

#include <cstdlib>
#include <optional>

#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qtf;
  std::optional<quantum::Circuit> circuit;
  try {
    circuit = quantum::parse_qasm({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const InputError&) {
    return 0;
  }
  if (circuit->inputs() > 1000 || circuit->weights() > 1000) return 0;  // each is a line
  if (!(quantum::parse_qasm(quantum::to_qasm(*circuit)) == *circuit)) std::abort();
  return 0;
}
