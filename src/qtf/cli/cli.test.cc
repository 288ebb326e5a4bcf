#include "qtf/cli/cli.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "qtf/base/file.h"
#include "qtf/cli/help.h"

namespace qtf::cli {
namespace {

struct Result {
  int status = 0;
  std::string out, err;
};

Result call(const std::vector<std::string>& args, const std::string& input = {}) {
  std::istringstream in(input);
  std::ostringstream out, err;
  Result result;
  result.status = run_cli(args, {in, out, err});
  result.out = out.str(), result.err = err.str();
  return result;
}

/// Splits a call as a shell does, single quotes and spaces only; the leading "qtf" is left out.
std::vector<std::string> shell_words(std::string_view line) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '\'') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return {words.begin() + 1, words.end()};
}

const Command kToy{
    .name = "toy",
    .summary = "Try the options",
    .options =
        {{.name = "MODEL", .required = true},
         {.name = "--steps",
          .type = ValueType::integer,
          .value = "N",
          .initial = "100",
          .min = 1,
          .max = 1e6},
         {.name = "--rate", .type = ValueType::number, .value = "X", .initial = "0.5", .min = 0, .max = 2},
         {.name = "--shape", .value = "SHAPE", .repeated = true},
         {.name = "--kind", .value = "KIND", .initial = "dense", .choices = {"dense", "chain"}},
         {.name = "--prompt", .value = "TEXT"},
         {.name = "--json", .type = ValueType::flag}},
    .run = [](const Arguments&, const Streams&) {},
};

std::string parse_error(const std::vector<std::string>& words) {
  try {
    parse_arguments(kToy, words);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Arguments, ReadsEveryType) {
  const Arguments a = parse_arguments(kToy, {"--steps", "2k", "folder", "--rate=1.5", "--shape", "a",
                                             "--shape=b", "--json", "--kind", "chain"});
  EXPECT_EQ(a.text("MODEL"), "folder");
  EXPECT_EQ(a.integer("--steps"), 2000);
  EXPECT_EQ(a.number("--rate"), 1.5);
  EXPECT_EQ(a.list("--shape"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(a.text("--kind"), "chain");
  EXPECT_TRUE(a.flag("--json"));
  EXPECT_FALSE(a.given("--prompt"));
}

TEST(Arguments, FallsBackToInitialValues) {
  const Arguments a = parse_arguments(kToy, {"folder"});
  EXPECT_EQ(a.integer("--steps"), 100);
  EXPECT_EQ(a.number("--rate"), 0.5);
  EXPECT_EQ(a.text("--prompt"), "");
  EXPECT_TRUE(a.list("--shape").empty());
  EXPECT_FALSE(a.flag("--json"));
  EXPECT_THROW(a.integer("--prompt"), UsageError);
  EXPECT_THROW(a.text("--other"), std::logic_error);
}

TEST(Arguments, TakesAnyTextAsValue) {
  for (const std::string text : {"", "[a,b]", "{}", "--json", "-1", "a b", "%%", "\xC3\xA9"}) {
    const Arguments a = parse_arguments(kToy, {"--prompt", text, "folder"});
    EXPECT_EQ(a.text("--prompt"), text);
    EXPECT_TRUE(a.given("--prompt"));
    EXPECT_EQ(a.text("MODEL"), "folder");
  }
}

TEST(Arguments, RefusesWithReason) {
  const struct {
    std::vector<std::string> words;
    std::string reason;
  } cases[] = {
      {{}, "MODEL is missing"},
      {{"m", "--setps", "3"}, "unknown option --setps for 'qtf toy' (did you mean --steps?)"},
      {{"m", "--jso=1"}, "unknown option --jso"},
      {{"m", "-x"}, "unknown option -x"},
      {{"m", "n"}, "unexpected argument 'n'"},
      {{"m", "--steps"}, "--steps"},
      {{"m", "--steps", "three"}, "--steps"},
      {{"m", "--steps", "0"}, "--steps must be from 1 to 1000000, got '0'"},
      {{"m", "--steps", "-3"}, "--steps must be from 1 to 1000000, got '-3'"},
      {{"m", "--rate", "3"}, "--rate must be from 0 to 2, got '3'"},
      {{"m", "--rate", "1x"}, "--rate must be a number, got '1x'"},
      {{"m", "--rate", "nan"}, "--rate must be a number, got 'nan'"},
      {{"m", "--steps", "1", "--steps", "2"}, "--steps is given 2 times"},
      {{"m", "--kind", "chian"}, "--kind must be one of dense, chain, got 'chian' (did you mean chain?)"},
  };
  for (const auto& c : cases) {
    EXPECT_NE(parse_error(c.words).find(c.reason), std::string::npos) << c.reason << "\n"
                                                                      << parse_error(c.words);
  }
}

TEST(Arguments, ChecksValuesThatAreNoWords) {
  const Arguments a = check_arguments(kToy, {{"MODEL", {"-m"}}, {"--shape", {"a", "b"}}, {"--json", {""}}});
  EXPECT_EQ(a.text("MODEL"), "-m");
  EXPECT_EQ(a.list("--shape").size(), 2u);
  EXPECT_TRUE(a.flag("--json"));
  EXPECT_THROW(check_arguments(kToy, {}), UsageError);
  EXPECT_THROW(check_arguments(kToy, {{"MODEL", {"m"}}, {"--steps", {"0"}}}), UsageError);
  EXPECT_THROW(check_arguments(kToy, {{"MODEL", {"m"}}, {"--setps", {"1"}}}), UsageError);
}

TEST(Cli, ExitStatusAndOneLine) {
  const struct {
    std::vector<std::string> args;
    std::string err;
  } cases[] = {
      {{}, "qtf: no command given"},
      {{"tokenise"}, "qtf: unknown command 'tokenise' (did you mean tokenize?)"},
      {{"version", "--all"}, "qtf: unknown option --all for 'qtf version'"},
      {{"help", "nothing-like-it"}, "qtf: unknown command 'nothing-like-it'"},
      {{"tokenize", "/nowhere/at-all", "--text", "a"}, "qtf: "},
      {{"tokenize", "bytes", "--text", "a", "--file", "b"}, "qtf: --text and --file exclude each other"},
      {{"tokenize", "bytes", "--file", "/nowhere"}, "qtf: "},
  };
  for (const auto& c : cases) {
    const Result result = call(c.args);
    EXPECT_EQ(result.status, 2);
    EXPECT_TRUE(result.err.starts_with(c.err)) << result.err;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST(Cli, FullOutputIsAnError) {
  std::ofstream full("/dev/full");
  std::istringstream in;
  std::ostringstream err;
  EXPECT_EQ(run_cli({"help"}, {in, full, err}), 2);
  EXPECT_NE(err.str().find("disk full"), std::string::npos);
}

TEST(Cli, VersionAndHelp) {
  EXPECT_EQ(call({"version"}).out, call({"--version"}).out);
  EXPECT_EQ(call({"help"}).out, call({"--help"}).out);
  EXPECT_EQ(call({"help", "tokenize"}).out, call({"tokenize", "--help"}).out);
  EXPECT_EQ(call({"-h"}).status, 0);
}

TEST(Cli, ExamplesPrintWhatHelpSays) {
  for (const Command* command : commands()) {
    ASSERT_FALSE(command->summary.empty()) << command->name;
    ASSERT_TRUE(command->example.call.starts_with("qtf " + std::string(command->name))) << command->name;
    if (!command->example.exact) continue;
    const Result result = call(shell_words(command->example.call));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, command->example.output) << command->name;
  }
}

TEST(Cli, EveryOptionIsExplained) {
  for (const Command* command : commands()) {
    for (const Option& option : command->options) {
      EXPECT_FALSE(option.help.empty()) << command->name << " " << option.name;
      const bool valued = option.type != ValueType::flag && !option.positional();
      EXPECT_EQ(valued, !option.value.empty()) << command->name << " " << option.name;
    }
  }
}

TEST(Cli, ReferenceIsUpToDate) {
  EXPECT_TRUE(read_file(QTF_SOURCE_DIR "/docs/cli.md") == markdown_reference())
      << "docs/cli.md is stale: run build/release/bin/qtf docs > docs/cli.md";
}

TEST(Tokenize, LinesBecomeLinesAndBack) {
  const std::string text = "Hi\n\nna\xC3\xAFve [x]\n";
  const Result ids = call({"tokenize", "bytes"}, text);
  EXPECT_EQ(ids.out, "72 105\n\n110 97 195 175 118 101 32 91 120 93\n");
  EXPECT_EQ(call({"tokenize", "bytes", "--decode"}, ids.out).out, text);
  const auto file = std::filesystem::path(testing::TempDir()) / "qtf_tokenize.txt";
  std::ofstream(file) << text;
  EXPECT_EQ(call({"tokenize", "bytes", "--file", file}).out, ids.out);
}

TEST(Tokenize, RefusesBadIds) {
  for (const std::string ids : {"72 x", "72 1.5", "300", "-1", "99999999999999"}) {
    const Result result = call({"tokenize", "bytes", "--decode", "--text", ids});
    EXPECT_EQ(result.status, 2) << ids;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1);
  }
}

}  // namespace
}  // namespace qtf::cli
