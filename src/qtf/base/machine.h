// Which machine this is, as far as measured times and energies depend on it.
#pragma once

#include <filesystem>
#include <string>

namespace qtf {

struct Machine {
  /// As /proc/cpuinfo names it; of an ARM core, which has no name there, "ARM part 0xd0b". Empty if unknown.
  std::string processor;
  std::string architecture;  ///< "x86_64"
  int cores = 1;             ///< that this process may run on
  bool operator==(const Machine&) const = default;
};

/// This machine. cpuinfo: where it is described.
Machine this_machine(const std::filesystem::path& cpuinfo = "/proc/cpuinfo");

/// One line: processor, architecture and cores.
std::string describe(const Machine& machine);

}  // namespace qtf
