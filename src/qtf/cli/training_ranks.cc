#include "qtf/cli/training_ranks.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "qtf/base/error.h"
#include "qtf/base/machine.h"

namespace qtf::cli {

namespace fs = std::filesystem;

namespace {

/// Open MPI's launcher tells each process of its place.
int told_by_launcher(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : 0;
}

/// Beside the program: bin/qtf and lib/qtf/libqtf_mpi.so.
fs::path module_path() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "lib/qtf/libqtf_mpi.so";
}

}  // namespace

std::unique_ptr<train::Ranks> open_ranks() {
  const int size = told_by_launcher("OMPI_COMM_WORLD_SIZE");
  if (size < 2) return nullptr;
  const fs::path path = module_path();
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);  // Open MPI's own modules look for its symbols
  if (!module) {
    throw_input_error(
        "train",
        "mpirun started {} ranks, but {}; install Open MPI and build qtf where CMake finds it, or "
        "run without mpirun",
        size, fs::exists(path) ? dlerror() : path.string() + " is missing");
  }
  using Open = train::Ranks* (*)();
  const auto open = reinterpret_cast<Open>(dlsym(module, "qtf_open_ranks"));
  if (!open) throw_input_error("train", "{} is not of this version of qtf; install both anew", path.string());
  return std::unique_ptr<train::Ranks>(open());
}

int threads_of_a_rank(int allowed, int cores, int ranks_here) {
  return allowed < cores ? allowed : std::max(1, allowed / std::max(1, ranks_here));
}

int threads_of_this_rank() {
  return threads_of_a_rank(this_machine().cores, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)),
                           told_by_launcher("OMPI_COMM_WORLD_LOCAL_SIZE"));
}

void let_rank_0_speak() {
  if (told_by_launcher("OMPI_COMM_WORLD_RANK") == 0) return;
  constexpr auto kUntilEnded = std::chrono::seconds(3);  // mpirun takes half a second on an idle machine
  std::this_thread::sleep_for(kUntilEnded);
}

}  // namespace qtf::cli
