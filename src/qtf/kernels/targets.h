// The instruction sets that kernels are compiled for, to run a test or a benchmark on each of them.
#pragma once

#include <cstdint>
#include <vector>

namespace qtf::kernels {

/// One of Highway's targets.
struct InstructionSet {
  int64_t target;
  const char* name;
};

/// Those compiled in that this processor has, the best (which kernels use) first.
std::vector<InstructionSet> instruction_sets();

/// Makes all kernels of this process use one instruction set, for as long as it lives. Not for use while
/// another thread runs kernels, and packed matrices are bound to the instruction set that packed them.
class UseInstructionSet {
 public:
  explicit UseInstructionSet(const InstructionSet& set);
  ~UseInstructionSet();
  UseInstructionSet(const UseInstructionSet&) = delete;
  UseInstructionSet& operator=(const UseInstructionSet&) = delete;
};

}  // namespace qtf::kernels
