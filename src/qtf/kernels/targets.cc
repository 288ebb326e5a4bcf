#include "qtf/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/targets.cc"
// for the same HWY_TARGETS as the kernels have
#include "qtf/kernels/dispatch.h"

#if HWY_ONCE
namespace qtf::kernels {

#ifdef QTF_ONE_INSTRUCTION_SET
std::vector<InstructionSet> instruction_sets() {
  return {{HWY_STATIC_TARGET, "the one that was compiled for"}};
}
UseInstructionSet::UseInstructionSet(const InstructionSet&) {}
UseInstructionSet::~UseInstructionSet() {}
#else
std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
  // Highway gives better targets the lower bits.
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    sets.push_back({target, hwy::TargetName(target)});
  }
  return sets;
}

UseInstructionSet::UseInstructionSet(const InstructionSet& set) {
  hwy::GetChosenTarget().Update(set.target);
}

UseInstructionSet::~UseInstructionSet() {
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}
#endif

}  // namespace qtf::kernels
#endif
