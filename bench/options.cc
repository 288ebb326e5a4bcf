#include "options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

namespace qtf::benchmarks {

Flag& Flag::required() {
  option_->required();
  return *this;
}

Flag& Flag::between(double least, double most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Options::Options(const std::string& description)
    : owned_(std::make_unique<CLI::App>(description)), app_(owned_.get()) {}
Options::Options(CLI::App* command) : app_(command) {}
Options::~Options() = default;
Options::Options(Options&&) noexcept = default;

Flag Options::add(const std::string& name, bool& value, const std::string& help) {
  return Flag(app_->add_flag(name, value, help));
}
Flag Options::add(const std::string& name, int& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help)->capture_default_str());
}
Flag Options::add(const std::string& name, int64_t& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help)->capture_default_str());
}
Flag Options::add(const std::string& name, uint64_t& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help)->capture_default_str());
}
Flag Options::add(const std::string& name, double& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help)->capture_default_str());
}
Flag Options::add(const std::string& name, std::string& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help));
}
Flag Options::add(const std::string& name, std::vector<int>& values, const std::string& help) {
  return Flag(app_->add_option(name, values, help)->delimiter(','));
}
Flag Options::add(const std::string& name, std::vector<int64_t>& values, const std::string& help) {
  return Flag(app_->add_option(name, values, help)->delimiter(','));
}
Flag Options::add(const std::string& name, std::vector<double>& values, const std::string& help) {
  return Flag(app_->add_option(name, values, help)->delimiter(','));
}
Flag Options::add(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  return Flag(app_->add_option(name, values, help));
}

Options Options::command(const std::string& name, const std::string& help) {
  app_->require_subcommand(1);
  return Options(app_->add_subcommand(name, help));
}

bool Options::chosen() const {
  return app_->parsed();
}

void Options::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app_->exit(error));
  }
}

}  // namespace qtf::benchmarks
