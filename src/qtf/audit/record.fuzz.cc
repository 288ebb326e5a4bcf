// Any bytes either are a record in its one spelling, which is written back as it was, or give an InputError.
#include "qtf/audit/record.h"
#include "qtf/audit/canonical.h"
#include "qtf/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const qtf::audit::RecordFields fields = qtf::audit::parse_record(bytes);
    if (qtf::audit::record_bytes(fields) != bytes) __builtin_trap();
    if (qtf::audit::canonical(nlohmann::json::parse(fields.data)) != fields.data) __builtin_trap();
  } catch (const qtf::InputError&) {
  }
  return 0;
}
