#include "qtf/audit/record.h"

#include <openssl/rand.h>

#include <algorithm>
#include <charconv>

#include "qtf/audit/canonical.h"
#include "qtf/base/error.h"

namespace qtf::audit {

namespace {

constexpr size_t kRunDigits = 32;

/// A decimal string without leading zeros.
int64_t parse_number(std::string_view text, std::string_view name) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool spelled = error == std::errc() && end == text.data() + text.size() && number >= 0 &&
                       (text.size() == 1 || text[0] != '0') && text[0] != '-';
  if (!spelled) throw_input_error("audit record", "'{}' is not a number that {} could be", text, name);
  return number;
}

bool is_lower_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Digest parse_digest(std::string_view text, std::string_view name) {
  Digest digest;
  if (!is_lower_hex(text) || !from_hex(text, digest))
    throw_input_error("audit record", "{} must be 64 hexadecimal digits, got '{}'", name, text);
  return digest;
}

}  // namespace

bool is_kind(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
  });
}

std::string record_bytes(const RecordFields& f) {
  std::string text = fmt::format(R"({{"data":{},"index":"{}","kind":"{}",)", f.data, f.index, f.kind);
  if (f.has_payload) text += fmt::format(R"("payload":"{}",)", to_hex(f.payload));
  text += fmt::format(R"("previous":"{}","run":"{}","sequence":"{}","time":"{}"}})", to_hex(f.previous),
                      f.run, f.sequence, f.time_ns);
  return text;
}

RecordFields parse_record(std::string_view bytes) {
  CanonicalReader reader(bytes);
  RecordFields fields;
  const auto string_after = [&](std::string_view before) {
    reader.expect(before);
    return reader.string();
  };
  reader.expect(R"({"data":)");
  if (!reader.next_is("{")) reader.expect("{");
  fields.data = reader.value();
  fields.index = parse_number(string_after(R"(,"index":)"), "index");
  fields.kind = string_after(R"(,"kind":)");
  if (!is_kind(fields.kind)) throw_input_error("audit record", "'{}' is no kind", fields.kind);
  fields.has_payload = reader.next_is(R"(,"payload":)");
  if (fields.has_payload) fields.payload = parse_digest(string_after(R"(,"payload":)"), "payload");
  fields.previous = parse_digest(string_after(R"(,"previous":)"), "previous");
  fields.run = string_after(R"(,"run":)");
  if (fields.run.size() != kRunDigits || !is_lower_hex(fields.run))
    throw_input_error("audit record", "run must be {} hexadecimal digits, got '{}'", kRunDigits, fields.run);
  fields.sequence = parse_number(string_after(R"(,"sequence":)"), "sequence");
  fields.time_ns = parse_number(string_after(R"(,"time":)"), "time");
  reader.expect("}");
  reader.end();
  return fields;
}

std::string new_run_name() {
  std::array<uint8_t, kRunDigits / 2> bytes;
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
    throw_io_error("audit", "the system gives no random numbers");
  return to_hex(bytes);
}

}  // namespace qtf::audit
