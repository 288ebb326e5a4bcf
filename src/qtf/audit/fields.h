// Reading the fields of a record's data: each function throws InputError naming the field that is missing or
// of another form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qtf/base/json.h"

namespace qtf::audit {

const nlohmann::json& member(const nlohmann::json& object, const char* key);
const std::string& text_field(const nlohmann::json& object, const char* key);
const nlohmann::json& array_field(const nlohmann::json& object, const char* key);

/// A 64-bit integer, written as a decimal string.
int64_t integer_field(const nlohmann::json& object, const char* key);
int64_t parse_integer(const nlohmann::json& text);

/// "yes" or "no".
bool flag_field(const nlohmann::json& object, const char* key);
inline const char* flag_text(bool flag) {
  return flag ? "yes" : "no";
}

/// A number as the hexadecimal digits of its bits, 8 or 16, and back.
std::string float_bits(float value);
std::string float_bits(double value);
float float_field(const nlohmann::json& object, const char* key);
double double_field(const nlohmann::json& object, const char* key);

}  // namespace qtf::audit
