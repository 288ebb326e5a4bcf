#include "qtf/audit/fields.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>

#include "qtf/base/error.h"

namespace qtf::audit {

const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  if (object.is_object()) {
    const auto found = object.find(key);
    if (found != object.end()) return *found;
  }
  throw_input_error("audit record", "the field '{}' is missing", key);
}

const std::string& text_field(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  if (!value.is_string()) throw_input_error("audit record", "the field '{}' is no string", key);
  return value.get_ref<const std::string&>();
}

const nlohmann::json& array_field(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  if (!value.is_array()) throw_input_error("audit record", "the field '{}' is no list", key);
  return value;
}

int64_t parse_integer(const nlohmann::json& text) {
  int64_t number = 0;
  if (text.is_string()) {
    const std::string& digits = text.get_ref<const std::string&>();
    const char* last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, number);
    if (error == std::errc() && end == last && std::to_string(number) == digits) return number;
  }
  throw_input_error("audit record", "expected an integer as a decimal string, got {}", text.dump());
}

int64_t integer_field(const nlohmann::json& object, const char* key) {
  return parse_integer(member(object, key));
}

bool flag_field(const nlohmann::json& object, const char* key) {
  const std::string& text = text_field(object, key);
  if (text != "yes" && text != "no")
    throw_input_error("audit record", "the field '{}' is neither yes nor no, but '{}'", key, text);
  return text == "yes";
}

std::string float_bits(float value) {
  return fmt::format("{:08x}", std::bit_cast<uint32_t>(value));
}

std::string float_bits(double value) {
  return fmt::format("{:016x}", std::bit_cast<uint64_t>(value));
}

namespace {

/// Of an unsigned integer's hexadecimal digits, all of them, in lower case.
template <class Bits>
Bits bits_field(const nlohmann::json& object, const char* key) {
  const std::string& text = text_field(object, key);
  Bits bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits, 16);
  if (error != std::errc() || fmt::format("{:0{}x}", bits, 2 * sizeof(bits)) != text)
    throw_input_error("audit record", "the field '{}' holds no bits of a number, but '{}'", key, text);
  return bits;
}

}  // namespace

float float_field(const nlohmann::json& object, const char* key) {
  return std::bit_cast<float>(bits_field<uint32_t>(object, key));
}

double double_field(const nlohmann::json& object, const char* key) {
  return std::bit_cast<double>(bits_field<uint64_t>(object, key));
}

}  // namespace qtf::audit
