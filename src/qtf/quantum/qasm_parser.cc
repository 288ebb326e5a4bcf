#include <charconv>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"
#include "qtf/quantum/qasm.h"
#include "qtf/quantum/qasm_lexer.h"

namespace qtf::quantum {
namespace {

using Kind = QasmToken::Kind;

constexpr size_t kMaxGates = 200'000;  // after expansion of definitions, which may double at every level
constexpr int kMaxDepth = 100;         // of parentheses and of definitions

/// Of stdgates.inc, but no row of the table: definitions that every program begins with.
constexpr std::string_view kPrelude =
    "gate cu(theta, phi, lambda, gamma) a, b { p(gamma) a; p((lambda + phi) / 2) a; p((lambda - phi) / 2) b; "
    "cx a, b; u3(-theta / 2, 0, -(phi + lambda) / 2) b; cx a, b; u3(theta / 2, phi, 0) b; }";

/// A gate definition: tokens of its body, read again for every call.
struct Definition {
  std::vector<std::string_view> parameters = {}, wires = {};
  size_t body = 0;  // of its tokens, the first after {
  const std::vector<QasmToken>* tokens = nullptr;
  std::optional<Gate> row;  // it is this row's, word by word
};

/// What names mean within a definition's body.
struct Scope {
  std::map<std::string_view, Angle> angles;
  std::map<std::string_view, int> wires;
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view name)
      : name_(name),
        prelude_(lex_qasm(kPrelude, "prelude")),
        program_(lex_qasm(text, name)),
        tokens_(&prelude_) {
    while (peek().kind != Kind::end) parse_definition();
    tokens_ = &program_;
    at_ = 0;
  }

  Circuit run() {
    parse_version();
    while (peek().kind != Kind::end) parse_statement();
    if (!circuit_) fail(peek(), "the program declares no qubits");
    return std::move(*circuit_);
  }

 private:
  // ---- tokens ----

  const QasmToken& peek(size_t ahead = 0) const {
    return (*tokens_)[std::min(at_ + ahead, tokens_->size() - 1)];
  }

  QasmToken take() {
    const QasmToken token = peek();
    if (at_ + 1 < tokens_->size()) ++at_;
    return token;
  }

  bool is(std::string_view text) const {
    return peek().text == text && (peek().kind == Kind::symbol || peek().kind == Kind::identifier);
  }

  bool accept(std::string_view text) {
    if (!is(text)) return false;
    take();
    return true;
  }

  static std::string shown(const QasmToken& token) {
    return token.kind == Kind::end ? "the end" : fmt::format("'{}'", token.text);
  }

  void expect(std::string_view text) {
    if (!accept(text)) fail(peek(), fmt::format("expected '{}', got {}", text, shown(peek())));
  }

  QasmToken identifier(std::string_view what) {
    if (peek().kind != Kind::identifier)
      fail(peek(), fmt::format("expected {}, got {}", what, shown(peek())));
    return take();
  }

  [[noreturn]] void fail(const QasmToken& at, std::string_view message) const {
    throw_qasm_error(name_, at, message);
  }

  int integer(std::string_view what, int max) {
    const QasmToken token = peek();
    int value = 0;
    const auto [end, error] =
        std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
    if (token.kind != Kind::number || error != std::errc() || end != token.text.data() + token.text.size() ||
        value > max) {
      fail(token, fmt::format("expected {} from 0 to {}, got {}", what, max, shown(token)));
    }
    take();
    return value;
  }

  // ---- statements ----

  void parse_version() {
    if (!accept("OPENQASM")) return;
    const QasmToken version = take();
    if (version.kind != Kind::number || !(version.text == "3" || version.text.starts_with("3."))) {
      fail(version, fmt::format("version {} is not read, only 3", version.text));
    }
    expect(";");
  }

  void parse_statement() {
    const QasmToken first = peek();
    if (accept(";")) return;
    if (accept("include")) return parse_include();
    if (accept("input")) return parse_input();
    if (is("qubit") || is("qreg")) return parse_qubits();
    if (accept("bit")) return parse_bits(true);
    if (accept("creg")) return parse_bits(false);
    if (is("gate")) return parse_definition();
    if (accept("barrier")) return skip_statement();
    if (accept("measure")) return parse_measurement(true);
    if (first.kind == Kind::identifier && bits_.contains(first.text)) return parse_assignment();
    parse_call(nullptr, 0);
  }

  void skip_statement() {
    while (!is(";")) {
      if (peek().kind == Kind::end) fail(peek(), "expected ';', got the end");
      take();
    }
    take();
  }

  void parse_include() {
    const QasmToken file = take();
    if (file.kind != Kind::text || file.text != "stdgates.inc") {
      fail(file, fmt::format("only \"stdgates.inc\" can be included, got {}", shown(file)));
    }
    expect(";");
  }

  void parse_input() {
    const QasmToken type = identifier("a type");
    if (type.text != "float" && type.text != "angle") {
      fail(type, fmt::format("an input must be a float or an angle, got {}", shown(type)));
    }
    if (accept("[")) integer("a width", 1024), expect("]");
    const QasmToken name = identifier("a name");
    const std::string_view digits = name.text.substr(1);
    int index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    const bool known = name.text[0] == 'x' || name.text[0] == 'w';
    if (!known || digits.empty() || error != std::errc() || end != digits.data() + digits.size() ||
        digits[0] == '-') {
      fail(name, fmt::format("an input must be called x or w and a number (x0, w12), got {}", shown(name)));
    }
    if (index >= 1 << 24) fail(name, fmt::format("the number of {} is too large", shown(name)));
    declare(name);
    globals_.angles[name.text] = Angle(name.text[0] == 'x' ? input(index) : weight(index));
    expect(";");
  }

  /// Names of registers, inputs and bits are one set.
  void declare(const QasmToken& name) {
    if (!names_.insert({name.text, true}).second)
      fail(name, fmt::format("{} is declared twice", shown(name)));
  }

  void parse_qubits() {
    const QasmToken first = take();
    int count = 1;
    const auto width = [&] {
      const QasmToken at = peek(1);
      if (!accept("[")) return;
      count = integer("a number of qubits", 1 << 20);
      if (count < 1) fail(at, "a register has at least 1 qubit");
      expect("]");
    };
    if (first.text == "qubit") width();
    const QasmToken name = identifier("a register's name");
    if (first.text == "qreg") width();
    declare(name);
    expect(";");
    if (circuit_ && !circuit_->operations().empty())
      fail(name, "qubits must be declared before the first gate");
    const int before = circuit_ ? circuit_->qubits() : 0;
    if (before + count > kMaxQubits) {
      fail(name, fmt::format("{} qubits are too many: at most {}", before + count, kMaxQubits));
    }
    registers_[name.text] = {before, count};
    circuit_.emplace(before + count);
  }

  void parse_bits(bool width_first) {
    const auto width = [&] {
      if (accept("[")) integer("a number of bits", 1 << 20), expect("]");
    };
    if (width_first) width();
    const QasmToken name = identifier("a name");
    if (!width_first) width();
    declare(name);
    bits_[name.text] = true;
    if (accept("=")) expect("measure"), parse_operand(), measured_ = true;
    expect(";");
  }

  void parse_assignment() {
    take();
    if (accept("[")) integer("an index", 1 << 20), expect("]");
    expect("=");
    expect("measure");
    parse_measurement(false);
  }

  void parse_measurement(bool arrow) {
    parse_operand();
    if (arrow && accept("->")) {
      identifier("a bit's name");
      if (accept("[")) integer("an index", 1 << 20), expect("]");
    }
    expect(";");
    measured_ = true;
  }

  // ---- gate definitions ----

  void parse_definition() {
    expect("gate");
    const QasmToken name = identifier("a gate's name");
    Definition definition;
    definition.tokens = tokens_;
    const size_t begin = at_;
    if (accept("(")) {
      while (!is(")")) {
        definition.parameters.push_back(identifier("a parameter's name").text);
        if (!is(")")) expect(",");
      }
      take();
    }
    do {
      definition.wires.push_back(identifier("a wire's name").text);
    } while (accept(","));
    expect("{");
    definition.body = at_;
    while (!is("}")) {
      if (peek().kind == Kind::end) fail(peek(), "expected '}', got the end");
      if (is("{")) fail(peek(), "a gate's body holds gates only");
      take();
    }
    take();
    if (const GateInfo* row = find_qasm_gate(name.text); row != nullptr && defines(*row, begin)) {
      definition.row = row->gate;
    } else if (is_multi_rz(name.text, definition)) {
      definition.row = Gate::multi_rz;
    }
    if (!definitions_.insert({name.text, definition}).second) {
      fail(name, fmt::format("gate {} is defined twice", shown(name)));
    }
  }

  /// Whether the tokens from `begin` to here are the table's own definition of the row.
  bool defines(const GateInfo& row, size_t begin) const {
    const std::vector<QasmToken> own = lex_qasm(row.definition, "table");
    if (own.size() - 1 != at_ - begin) return false;
    for (size_t i = 0; i + 1 < own.size(); ++i) {
      if (own[i].text != (*tokens_)[begin + i].text) return false;
    }
    return true;
  }

  /// Whether it is what to_qasm writes for MultiRZ on as many wires.
  bool is_multi_rz(std::string_view name, const Definition& definition) const {
    if (!name.starts_with("multirz") || definition.parameters.size() != 1) return false;
    const size_t wires = definition.wires.size();
    if (name.substr(7) != std::to_string(wires) || wires > static_cast<size_t>(kMaxQubits)) return false;
    Circuit circuit(static_cast<int>(wires));
    std::vector<int> all;
    for (size_t i = 0; i < wires; ++i) all.push_back(static_cast<int>(i));
    circuit.add(Gate::multi_rz, all, {0.0});
    const std::string written = to_qasm(circuit);
    const std::vector<QasmToken> own = lex_qasm(written, "table");
    size_t from = 0;
    while (own[from].text != "{") ++from;
    for (size_t i = definition.body - 1; i < at_; ++i, ++from) {
      if ((*definition.tokens)[i].text != own[from].text) return false;
    }
    for (size_t i = 0; i < wires; ++i) {
      if (definition.wires[i] != fmt::format("q{}", i)) return false;
    }
    return definition.parameters[0] == "theta";
  }

  // ---- calls ----

  /// One gate with its angles and wires. scope: within a definition's body, else null.
  void parse_call(const Scope* scope, int depth) {
    const QasmToken name = identifier("a statement");
    if (is("@")) fail(name, fmt::format("modifier {} @ is not read", shown(name)));
    const auto found = definitions_.find(name.text);
    const Definition* definition = found == definitions_.end() ? nullptr : &found->second;
    const GateInfo* row = definition == nullptr ? find_qasm_gate(name.text)
                          : definition->row     ? &info(*definition->row)
                                                : nullptr;
    if (definition != nullptr && definition->row) definition = nullptr;
    if (row == nullptr && definition == nullptr && name.text != "gphase") refuse_name(name);

    std::vector<Angle> angles;
    if (accept("(")) {
      while (!is(")")) {
        angles.push_back(expression(scope, 0));
        if (!is(")")) expect(",");
      }
      take();
    }
    if (name.text == "gphase") {
      expect(";");
      return;
    }
    const QasmToken first = peek();
    std::vector<std::vector<int>> operands;
    do {
      operands.push_back(scope != nullptr ? std::vector{local_wire(*scope)} : parse_operand());
    } while (accept(","));
    expect(";");
    if (measured_) fail(name, "a gate after a measurement; only final measurements are read");

    const size_t parameters =
        definition != nullptr ? definition->parameters.size() : static_cast<size_t>(row->parameters);
    if (angles.size() != parameters) {
      fail(name, fmt::format("{} takes {} angles, got {}", shown(name), parameters, angles.size()));
    }
    // A register stands for each of its wires.
    size_t repeats = 1;
    for (const auto& operand : operands) repeats = std::max(repeats, operand.size());
    for (size_t r = 0; r < repeats; ++r) {
      std::vector<int> wires;
      for (const auto& operand : operands) {
        if (operand.size() != 1 && operand.size() != repeats) fail(first, "registers of different sizes");
        wires.push_back(operand.size() == 1 ? operand[0] : operand[r]);
      }
      definition != nullptr ? expand(name, *definition, angles, wires, depth)
                            : add(name, *row, angles, wires);
    }
  }

  [[noreturn]] void refuse_name(const QasmToken& name) const {
    static constexpr std::string_view kWords[] = {"if",      "for",    "while",  "def",   "reset",   "let",
                                                  "const",   "delay",  "float",  "int",   "uint",    "bool",
                                                  "complex", "output", "box",    "cal",   "defcal",  "extern",
                                                  "return",  "end",    "switch", "array", "duration"};
    for (std::string_view word : kWords) {
      if (name.text == word) fail(name, fmt::format("{} statements are not read, only gates", shown(name)));
    }
    std::vector<std::string_view> names;
    for (const GateInfo& gate : gate_table()) names.push_back(gate.qasm);
    for (const auto& [known, definition] : definitions_) names.push_back(known);
    fail(name, fmt::format("unknown gate {}{}", shown(name), did_you_mean(name.text, names)));
  }

  void add(const QasmToken& name, const GateInfo& row, const std::vector<Angle>& angles,
           const std::vector<int>& wires) {
    if (!circuit_) fail(name, "a gate before any qubits are declared");
    if (circuit_->operations().size() >= kMaxGates) {
      fail(name, fmt::format("more than {} gates", kMaxGates));
    }
    try {
      circuit_->add(row.gate, wires, angles);
    } catch (const InputError& e) {
      const std::string_view what = e.what();
      fail(name, what.substr(what.find("] ") + 2));
    }
  }

  /// Reads the definition's body with its names bound.
  void expand(const QasmToken& name, const Definition& definition, const std::vector<Angle>& angles,
              const std::vector<int>& wires, int depth) {
    if (wires.size() != definition.wires.size()) {
      fail(name,
           fmt::format("{} acts on {} wires, got {}", shown(name), definition.wires.size(), wires.size()));
    }
    if (depth > kMaxDepth) fail(name, "definitions are nested too deeply");
    if (++expansions_ > kMaxGates)
      fail(name, fmt::format("definitions expand more than {} times", kMaxGates));
    Scope scope;
    for (size_t i = 0; i < angles.size(); ++i) scope.angles[definition.parameters[i]] = angles[i];
    for (size_t i = 0; i < wires.size(); ++i) scope.wires[definition.wires[i]] = wires[i];
    const size_t back = at_;
    const std::vector<QasmToken>* caller = tokens_;
    tokens_ = definition.tokens, at_ = definition.body;
    while (!is("}")) {
      if (!accept(";")) parse_call(&scope, depth + 1);
    }
    tokens_ = caller, at_ = back;
  }

  int local_wire(const Scope& scope) {
    const QasmToken name = identifier("a wire");
    const auto found = scope.wires.find(name.text);
    if (found == scope.wires.end()) fail(name, fmt::format("{} is no wire of this gate", shown(name)));
    return found->second;
  }

  /// A register or one of its wires.
  std::vector<int> parse_operand() {
    const QasmToken name = identifier("a register");
    const auto found = registers_.find(name.text);
    if (found == registers_.end()) fail(name, fmt::format("{} is no register of qubits", shown(name)));
    const auto [first, count] = found->second;
    if (accept("[")) {
      const int index = integer("a wire", count - 1);
      expect("]");
      return {first + index};
    }
    std::vector<int> all;
    for (int i = 0; i < count; ++i) all.push_back(first + i);
    return all;
  }

  // ---- expressions: a number, or a number plus a multiple of one variable or a product of two ----

  Angle expression(const Scope* scope, int depth) {
    Angle sum = term(scope, depth);
    while (is("+") || is("-")) {
      const QasmToken sign = take();
      const Angle other = term(scope, depth);
      sum = checked(sign, add_angles(sign, sum, sign.text == "+" ? other : scaled(other, -1)));
    }
    return sum;
  }

  Angle term(const Scope* scope, int depth) {
    Angle product = power(scope, depth);
    while (is("*") || is("/")) {
      const QasmToken sign = take();
      const Angle other = power(scope, depth);
      if (sign.text == "/") {
        if (!other.constant()) fail(sign, "a division by a variable");
        product = checked(sign, scaled(product, 1 / other.offset));
      } else {
        product = checked(sign, multiply(sign, product, other));
      }
    }
    return product;
  }

  Angle power(const Scope* scope, int depth) {
    if (depth > kMaxDepth) fail(peek(), "an expression nested too deeply");
    if (accept("-")) return scaled(power(scope, depth + 1), -1);
    if (accept("+")) return power(scope, depth + 1);
    const Angle base = atom(scope, depth);
    if (!is("**")) return base;
    const QasmToken sign = take();
    const Angle exponent = power(scope, depth + 1);
    if (!base.constant() || !exponent.constant()) fail(sign, "a power of a variable");
    return checked(sign, std::pow(base.offset, exponent.offset));
  }

  Angle atom(const Scope* scope, int depth) {
    if (accept("(")) {
      const Angle inner = expression(scope, depth + 1);
      expect(")");
      return inner;
    }
    const QasmToken token = take();
    if (token.kind == Kind::number) {
      double value = 0;
      const auto [end, error] =
          std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      if (error != std::errc()) fail(token, fmt::format("{} is out of range", shown(token)));
      return value;
    }
    if (token.kind == Kind::identifier) {
      if (token.text == "pi" || token.text == "π") return std::numbers::pi;
      if (token.text == "tau" || token.text == "τ") return 2 * std::numbers::pi;
      if (token.text == "euler" || token.text == "ℇ") return std::numbers::e;
      const auto& names = scope != nullptr ? scope->angles : globals_.angles;
      if (const auto found = names.find(token.text); found != names.end()) return found->second;
      fail(token, fmt::format("{} is no number and no declared input", shown(token)));
    }
    fail(token, fmt::format("expected a number, got {}", shown(token)));
  }

  Angle checked(const QasmToken& at, const Angle& angle) const {
    if (!std::isfinite(angle.offset) || !std::isfinite(angle.scale)) fail(at, "the result is not finite");
    return angle;
  }

  static Angle scaled(Angle angle, double factor) {
    angle.offset *= factor;
    angle.scale *= factor;
    return angle;
  }

  Angle add_angles(const QasmToken& at, const Angle& a, const Angle& b) const {
    if (!a.constant() && !b.constant() && !(a.first == b.first && a.second == b.second)) {
      fail(at, "a sum of different variables; an angle takes one, or a product of two");
    }
    Angle sum = a.constant() ? b : a;
    sum.offset = a.offset + b.offset;
    sum.scale = (a.constant() ? 0 : a.scale) + (b.constant() ? 0 : b.scale);
    return sum;
  }

  Angle multiply(const QasmToken& at, const Angle& a, const Angle& b) const {
    if (a.constant()) return scaled(b, a.offset);
    if (b.constant()) return scaled(a, b.offset);
    const bool single = a.second.kind == Variable::Kind::none && b.second.kind == Variable::Kind::none;
    if (!single || a.offset != 0 || b.offset != 0) {
      fail(at, "a product of more than two variables, or of sums of them");
    }
    return Angle(a.first, b.first, a.scale * b.scale);
  }

  struct Register {
    int first, count;
  };

  std::string_view name_;
  std::vector<QasmToken> prelude_, program_;
  const std::vector<QasmToken>* tokens_;
  size_t at_ = 0, expansions_ = 0;
  std::optional<Circuit> circuit_;
  bool measured_ = false;
  Scope globals_;
  std::map<std::string_view, bool> names_, bits_;
  std::map<std::string_view, Register> registers_;
  std::map<std::string_view, Definition> definitions_;
};

}  // namespace

Circuit parse_qasm(std::string_view text, std::string_view name) {
  return Parser(text, name).run();
}

}  // namespace qtf::quantum
