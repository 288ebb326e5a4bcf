#include "qtf/cli/shell_pages.h"

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

/// A name as the man page writes it.
std::string man_name(std::string_view name) {
  std::string text;
  for (const char c : name) text += c == '-' ? "\\-" : std::string(1, c);
  return text;
}

TEST(ManPage, HasEveryCommandAndOption) {
  const std::string page = man_page();
  for (const Command* command : commands()) {
    const size_t begin = page.find("\n.SS " + man_name(command->name) + "\n");
    ASSERT_EQ(begin == std::string::npos, command->hidden) << command->name;
    if (command->hidden) continue;
    const std::string section = page.substr(begin, page.find("\n.S", begin + 4) - begin);
    for (const Option& option : command->options) {
      const std::string font = option.positional() ? "\\fI" : "\\fB";
      EXPECT_NE(section.find("\n.TP\n" + font + man_name(option.name) + "\\fR"), std::string::npos)
          << command->name << " " << option.name;
    }
  }
}

TEST(ManPage, IsWhatDocsPrints) {
  EXPECT_EQ(call({"docs", "man"}).out, man_page());
  EXPECT_EQ(call({"docs", "completion"}).out, bash_completion());
}

}  // namespace
}  // namespace qtf::cli
