#include "qtf/quantum/qasm_lexer.h"

#include <cctype>

#include "qtf/base/error.h"

namespace qtf::quantum {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Letters, underscores and whatever is not ASCII (π, τ).
bool begins_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  Lexer(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  std::vector<QasmToken> run() {
    std::vector<QasmToken> tokens;
    do {
      skip_space();
      tokens.push_back(next());
    } while (tokens.back().kind != QasmToken::Kind::end);
    return tokens;
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  void advance(size_t count = 1) {
    for (; count > 0 && at_ < text_.size(); --count, ++at_) {
      if (text_[at_] == '\n') {
        ++line_, column_ = 1;
      } else if ((static_cast<unsigned char>(text_[at_]) & 0xC0) != 0x80) {  // not within a UTF-8 character
        ++column_;
      }
    }
  }

  QasmToken here(QasmToken::Kind kind, size_t size) {
    const QasmToken token{kind, text_.substr(at_, size), line_, column_};
    advance(size);
    return token;
  }

  void skip_space() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(peek()))) {
        advance();
      } else if (peek() == '/' && peek(1) == '/') {
        while (at_ < text_.size() && peek() != '\n') advance();
      } else if (peek() == '/' && peek(1) == '*') {
        const size_t end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) fail("a comment that does not end");
        advance(end + 2 - at_);
      } else {
        return;
      }
    }
  }

  QasmToken next() {
    if (at_ == text_.size()) return {QasmToken::Kind::end, {}, line_, column_};
    if (begins_word(peek())) return here(QasmToken::Kind::identifier, word_size());
    if (is_digit(peek()) || (peek() == '.' && is_digit(peek(1))))
      return here(QasmToken::Kind::number, number_size());
    if (peek() == '"') {
      const size_t end = text_.find('"', at_ + 1);
      if (end == std::string_view::npos) fail("a string that does not end");
      QasmToken token = here(QasmToken::Kind::text, end + 1 - at_);
      token.text = token.text.substr(1, token.text.size() - 2);
      return token;
    }
    for (std::string_view symbol : {"->", "**"}) {
      if (text_.substr(at_).starts_with(symbol)) return here(QasmToken::Kind::symbol, 2);
    }
    if (std::string_view("()[]{};,=+-*/@").find(peek()) == std::string_view::npos) {
      fail(fmt::format("'{}' begins nothing that is known", peek()));
    }
    return here(QasmToken::Kind::symbol, 1);
  }

  size_t word_size() const {
    size_t size = 1;
    while (begins_word(peek(size)) || is_digit(peek(size))) ++size;
    return size;
  }

  size_t number_size() const {
    size_t size = 0;
    const auto digits = [&] {
      while (is_digit(peek(size))) ++size;
    };
    digits();
    if (peek(size) == '.') ++size, digits();
    if (peek(size) == 'e' || peek(size) == 'E') {
      const size_t sign = peek(size + 1) == '+' || peek(size + 1) == '-' ? 1 : 0;
      if (is_digit(peek(size + 1 + sign))) size += 1 + sign, digits();
    }
    return size;
  }

  [[noreturn]] void fail(std::string_view message) const {
    throw_qasm_error(name_, {QasmToken::Kind::symbol, {}, line_, column_}, message);
  }

  std::string_view text_, name_;
  size_t at_ = 0;
  int line_ = 1, column_ = 1;
};

}  // namespace

void throw_qasm_error(std::string_view name, const QasmToken& at, std::string_view message) {
  throw_input_error(fmt::format("{}:{}:{}", name, at.line, at.column), "{}", message);
}

std::vector<QasmToken> lex_qasm(std::string_view text, std::string_view name) {
  return Lexer(text, name).run();
}

}  // namespace qtf::quantum
