// What a subcommand of `qtf` is: one record from which dispatch, parsing, help, suggestions and docs/cli.md
// are made. Each command_<verb>.cc defines one; commands.cc lists them.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/error.h"

namespace qtf::cli {

/// How an option's value is read and checked before the command runs.
enum class ValueType {
  flag,     ///< no value
  text,     ///< any text, paths included
  integer,  ///< a whole number from min to max; "50k" and "2M" are taken
  number,   ///< a finite number from min to max
};

/// One option, or one positional argument where the name has no dashes.
struct Option {
  std::string_view name;  ///< "--tokens", or "MODEL"
  ValueType type = ValueType::text;
  std::string_view value = {};    ///< what help calls the value: "N", "FILE"
  std::string_view initial = {};  ///< the value's text when not given; empty: none
  std::string_view help = {};
  bool required = false;
  bool repeated = false;  ///< may be given several times (a positional: takes one or more)
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string_view> choices = {};  ///< if not empty, the only values taken

  bool positional() const { return !name.starts_with("-"); }
};

/// --threads, which most commands have.
Option threads_option(std::string_view help = "0: all cores");

/// The values of one call, already checked against the command's options.
class Arguments {
 public:
  using Values = std::map<std::string, std::vector<std::string>, std::less<>>;
  Arguments(const std::vector<Option>& options, Values given)
      : options_(&options), given_(std::move(given)) {}

  /// Whether the user gave it.
  bool given(std::string_view name) const;
  bool flag(std::string_view name) const { return given(name); }
  /// The value given, else the initial one (empty if there is none).
  std::string text(std::string_view name) const;
  /// Of an integer option. Throws InputError if neither given nor with an initial value.
  int64_t integer(std::string_view name) const;
  /// Of a number option. Throws like integer().
  double number(std::string_view name) const;
  /// Every value given, in order.
  std::vector<std::string> list(std::string_view name) const;

 private:
  const Option& option(std::string_view name) const;
  std::string value(std::string_view name) const;

  const std::vector<Option>* options_;
  Values given_;
};

/// What a command reads and writes: the standard streams, or a test's.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
};

/// A call and what it prints, for help and the documents.
struct Example {
  std::string_view call;
  std::string_view output = {};
  bool exact = false;  ///< the test runs the call and holds its output against this text
};

/// One subcommand.
struct Command {
  std::string_view name;
  std::string_view summary;  ///< one line, no full stop
  std::string_view details = {};
  Example example = {};
  std::vector<Option> options = {};
  bool hidden = false;  ///< left out of help and documents
  std::function<void(const Arguments&, const Streams&)> run = {};
};

/// Options or subcommands that do not exist, lack a value, or have one out of range.
class UsageError : public InputError {
 public:
  using InputError::InputError;
};

/// Ends the program with a status, quietly: the command has said why.
class ExitStatus : public std::runtime_error {
 public:
  explicit ExitStatus(int status) : std::runtime_error("exit"), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

/// Values by option, not as words, held against the command's options: for callers from other languages. A
/// flag that is given has one empty value. Throws UsageError as parse_arguments does.
Arguments check_arguments(const Command& command, Arguments::Values given);

/// Reads `words` (all after the subcommand) by the command's options. Throws UsageError, with a suggestion
/// for an unknown option and the allowed values for a bad one. `--help` is the caller's.
Arguments parse_arguments(const Command& command, const std::vector<std::string>& words);

}  // namespace qtf::cli
