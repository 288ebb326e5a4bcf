#include "qtf/base/machine.h"

#include <gtest/gtest.h>

#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf {
namespace {

TEST(Machine, ReadsTheProcessorsName) {
  const TemporaryFolder folder;
  const auto named = [&](const char* text) {
    write_file_atomically(folder / "cpuinfo", text);
    return this_machine(folder / "cpuinfo").processor;
  };
  EXPECT_EQ(named("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\nprocessor\t: 1\n"),
            "AMD EPYC 9654");
  EXPECT_EQ(named("processor\t: 0\nCPU part\t: 0xd0b\n"), "ARM part 0xd0b");
  EXPECT_EQ(named(""), "");
  EXPECT_EQ(this_machine(folder / "none").processor, "");
}

TEST(Machine, DescribesItself) {
  EXPECT_EQ(describe({"AMD EPYC", "x86_64", 2}), "AMD EPYC, x86_64, 2 cores");
  EXPECT_EQ(describe({"", "aarch64", 1}), "unknown processor, aarch64, 1 core");
  EXPECT_GE(this_machine().cores, 1);
  EXPECT_FALSE(this_machine().architecture.empty());
}

}  // namespace
}  // namespace qtf
