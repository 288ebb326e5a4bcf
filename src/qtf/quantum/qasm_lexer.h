// Words of OpenQASM.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qtf::quantum {

struct QasmToken {
  enum class Kind { identifier, number, text, symbol, end };
  Kind kind = Kind::end;
  std::string_view text;  ///< as it stands; of strings without the quotes
  int line = 1, column = 1;
};

/// All tokens and the end, comments left out. Throws InputError, `name:line:column`, for characters that
/// begin no token and for comments and strings that do not end.
std::vector<QasmToken> lex_qasm(std::string_view text, std::string_view name);

/// Throws InputError `[name:line:column] message`.
[[noreturn]] void throw_qasm_error(std::string_view name, const QasmToken& at, std::string_view message);

}  // namespace qtf::quantum
