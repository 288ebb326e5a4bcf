#include "qtf/cli/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>

#include "qtf/base/parse.h"

namespace qtf::cli {
namespace {

template <class... Args>
[[noreturn]] void throw_usage_error(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

double parse_number(const std::string& text, std::string_view name) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw_usage_error("{} must be a number, got '{}'", name, text);
  }
  return value;
}

/// Counts as people write them, and negative whole numbers.
int64_t parse_integer(const std::string& text, std::string_view name) {
  if (text.starts_with("-")) return -parse_count(text.substr(1), name);
  return parse_count(text, name);
}

std::string range_text(const Option& option) {
  const bool low = std::isfinite(option.min), high = std::isfinite(option.max);
  if (low && high) return fmt::format("from {} to {}", option.min, option.max);
  if (low) return fmt::format("at least {}", option.min);
  return fmt::format("at most {}", option.max);
}

void check_range(const Option& option, double value, const std::string& text) {
  if (value < option.min || value > option.max) {
    throw_usage_error("{} must be {}, got '{}'", option.name, range_text(option), text);
  }
}

void check_value(const Option& option, const std::string& text) {
  if (!option.choices.empty() && std::ranges::find(option.choices, text) == option.choices.end()) {
    throw_usage_error("{} must be one of {}, got '{}'{}", option.name, fmt::join(option.choices, ", "), text,
                      did_you_mean(text, option.choices));
  }
  if (option.type == ValueType::number) check_range(option, parse_number(text, option.name), text);
  if (option.type == ValueType::integer) {
    check_range(option, static_cast<double>(parse_integer(text, option.name)), text);
  }
}

void check_option(const Command& command, const Option& option, const std::vector<std::string>& values) {
  if (option.required && values.empty()) {
    throw_usage_error("{} is missing ('qtf help {}' shows what it is)", option.name, command.name);
  }
  if (!option.repeated && option.type != ValueType::flag && values.size() > 1) {
    throw_usage_error("{} is given {} times, give it once", option.name, values.size());
  }
  if (option.type == ValueType::flag) return;
  for (const std::string& value : values) check_value(option, value);
}

/// Words that no option took: an unknown option, else one argument too many.
[[noreturn]] void refuse_extras(const Command& command, const std::vector<std::string>& extras) {
  const auto flag =
      std::ranges::find_if(extras, [](const std::string& word) { return word.starts_with("-"); });
  if (flag == extras.end()) {
    throw_usage_error("unexpected argument '{}' ('qtf help {}' shows the usage)", extras.front(),
                      command.name);
  }
  std::vector<std::string_view> names{"--help"};
  for (const Option& option : command.options) {
    if (!option.positional()) names.push_back(option.name);
  }
  const std::string word = flag->substr(0, flag->find('='));
  throw_usage_error("unknown option {} for 'qtf {}'{} ('qtf help {}' lists them)", word, command.name,
                    did_you_mean(word, names), command.name);
}

/// Declares one option to CLI11, which here only sorts words: checks, defaults and help are the table's.
CLI::Option* declare(CLI::App& app, const Option& option) {
  const std::string name(option.name);
  if (option.type == ValueType::flag) return app.add_flag(name);
  CLI::Option* declared = app.add_option(name, [](const CLI::results_t&) { return true; });
  declared->type_size(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  const bool many = option.positional() && option.repeated;
  return declared->expected(1, many ? 1 << 20 : 1)->allow_extra_args(many);
}

}  // namespace

Arguments check_arguments(const Command& command, Arguments::Values given) {
  const std::vector<std::string> none;
  for (const Option& option : command.options) {
    const auto found = given.find(option.name);
    check_option(command, option, found == given.end() ? none : found->second);
  }
  for (const auto& [name, values] : given) {
    if (std::ranges::find(command.options, name, &Option::name) == command.options.end())
      throw_usage_error("unknown option {} for 'qtf {}'", name, command.name);
  }
  return Arguments(command.options, std::move(given));
}

Arguments parse_arguments(const Command& command, const std::vector<std::string>& words) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::vector<CLI::Option*> declared;
  for (const Option& option : command.options) declared.push_back(declare(app, option));
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    throw_usage_error("{} ('qtf help {}' shows the usage)", error.what(), command.name);
  }
  if (!app.remaining().empty()) refuse_extras(command, app.remaining());

  Arguments::Values given;
  for (size_t i = 0; i < declared.size(); ++i) {
    if (declared[i]->count() > 0) given.emplace(command.options[i].name, declared[i]->results());
  }
  return check_arguments(command, std::move(given));
}

const Option& Arguments::option(std::string_view name) const {
  const auto found = std::ranges::find(*options_, name, &Option::name);
  if (found == options_->end()) throw std::logic_error(fmt::format("no option {} is declared", name));
  return *found;
}

Option threads_option(std::string_view help) {
  return {.name = "--threads",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = help,
          .min = 0,
          .max = 1024};
}

bool Arguments::given(std::string_view name) const {
  return given_.contains(option(name).name);
}

std::string Arguments::text(std::string_view name) const {
  const auto found = given_.find(name);
  return found == given_.end() ? std::string(option(name).initial) : found->second.front();
}

std::string Arguments::value(std::string_view name) const {
  const std::string value = text(name);
  if (value.empty()) throw_usage_error("{} needs a value", name);
  return value;
}

int64_t Arguments::integer(std::string_view name) const {
  return parse_integer(value(name), name);
}

double Arguments::number(std::string_view name) const {
  return parse_number(value(name), name);
}

std::vector<std::string> Arguments::list(std::string_view name) const {
  const auto found = given_.find(option(name).name);
  return found == given_.end() ? std::vector<std::string>{} : found->second;
}

}  // namespace qtf::cli
