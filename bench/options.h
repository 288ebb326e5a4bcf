// The flags of a benchmark program. CLI11 reads them; its headers take seconds to compile, so they are in
// options.cc alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace qtf::benchmarks {

/// What may be said of one flag.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}
  Flag& required();
  /// Each of its numbers is in [least, most].
  Flag& between(double least, double most);

 private:
  CLI::Option* option_;
};

/// Flags write to the given variables, whose values before are the defaults. Lists are given with commas.
class Options {
 public:
  explicit Options(const std::string& description);
  ~Options();
  Options(Options&&) noexcept;
  Options& operator=(Options&&) = delete;

  Flag add(const std::string& name, bool& value, const std::string& help = {});
  Flag add(const std::string& name, int& value, const std::string& help = {});
  Flag add(const std::string& name, int64_t& value, const std::string& help = {});
  Flag add(const std::string& name, uint64_t& value, const std::string& help = {});
  Flag add(const std::string& name, double& value, const std::string& help = {});
  Flag add(const std::string& name, std::string& value, const std::string& help = {});
  Flag add(const std::string& name, std::vector<int>& values, const std::string& help = {});
  Flag add(const std::string& name, std::vector<int64_t>& values, const std::string& help = {});
  Flag add(const std::string& name, std::vector<double>& values, const std::string& help = {});
  /// May be given several times; commas belong to the texts.
  Flag add(const std::string& name, std::vector<std::string>& values, const std::string& help = {});

  /// A word that is given before its own flags; exactly one of them must be. chosen() says whether it was.
  Options command(const std::string& name, const std::string& help);
  bool chosen() const;

  /// Prints help or what is wrong, and ends the program, where the words ask for it.
  void parse(int argc, char** argv);

 private:
  explicit Options(CLI::App* command);

  std::unique_ptr<CLI::App> owned_;  // not of commands, which their program's owns
  CLI::App* app_;
};

}  // namespace qtf::benchmarks
