#include "qtf/base/machine.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>

#include <fstream>

namespace qtf {

namespace {

/// The text after "key … :" of the first line that begins with it.
std::string field(const std::filesystem::path& file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

}  // namespace

Machine this_machine(const std::filesystem::path& cpuinfo) {
  Machine machine;
  machine.processor = field(cpuinfo, "model name");
  if (machine.processor.empty()) {
    const std::string part = field(cpuinfo, "CPU part");
    if (!part.empty()) machine.processor = "ARM part " + part;
  }
  utsname name{};
  if (uname(&name) == 0) machine.architecture = name.machine;
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) machine.cores = CPU_COUNT(&cores);
  return machine;
}

std::string describe(const Machine& machine) {
  return fmt::format("{}, {}, {} core{}",
                     machine.processor.empty() ? "unknown processor" : machine.processor.c_str(),
                     machine.architecture, machine.cores, machine.cores == 1 ? "" : "s");
}

}  // namespace qtf
