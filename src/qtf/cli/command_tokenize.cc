#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <istream>
#include <ostream>
#include <sstream>

#include "qtf/base/file.h"
#include "qtf/cli/command.h"
#include "qtf/text/tokenizer.h"

namespace qtf::cli {
namespace {

/// Calls body(line, number) for each line of `in`, its end cut off.
template <class Body>
void for_each_line(std::istream& in, const Body& body) {
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) body(line, number);
}

/// The ids on one line, separated by spaces. Throws InputError naming the line.
std::vector<int32_t> parse_ids(std::string_view line, int64_t number) {
  std::vector<int32_t> ids;
  while (true) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t\r"), line.size()));
    if (line.empty()) return ids;
    int32_t id = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), id);
    const bool separated = end == line.data() + line.size() || *end == ' ' || *end == '\t' || *end == '\r';
    if (error != std::errc() || !separated) {
      throw_input_error("tokenize", "line {}: '{}' is not a token id; give whole numbers separated by spaces",
                        number, line.substr(0, line.find(' ')));
    }
    ids.push_back(id);
    line.remove_prefix(static_cast<size_t>(end - line.data()));
  }
}

void run_on(std::istream& in, const text::Tokenizer& tokenizer, bool decode, std::ostream& out) {
  for_each_line(in, [&](const std::string& line, int64_t number) {
    if (decode) {
      out << tokenizer.decode(parse_ids(line, number)) << "\n";
    } else {
      out << fmt::format("{}\n", fmt::join(tokenizer.encode(line), " "));
    }
  });
}

void run_tokenize(const Arguments& arguments, const Streams& streams) {
  if (arguments.given("--text") && arguments.given("--file")) {
    throw UsageError("--text and --file exclude each other; give one of them");
  }
  const auto tokenizer = text::load_tokenizer(arguments.text("TOKENIZER"));
  const bool decode = arguments.flag("--decode");
  if (arguments.given("--text")) {
    std::istringstream in(arguments.text("--text"));
    run_on(in, *tokenizer, decode, streams.out);
  } else if (arguments.given("--file")) {
    std::istringstream in(read_file(arguments.text("--file")));
    run_on(in, *tokenizer, decode, streams.out);
  } else {
    run_on(streams.in, *tokenizer, decode, streams.out);
  }
}

}  // namespace

extern const Command kTokenizeCommand;
const Command kTokenizeCommand{
    .name = "tokenize",
    .summary = "Print the token ids of a text, or the text of ids",
    .details = "Reads --text, --file or standard input, and prints one line a line of input.",
    .example = {.call = "qtf tokenize bytes --text 'Hi there'",
                .output = "72 105 32 116 104 101 114 101\n",
                .exact = true},
    .options = {{.name = "TOKENIZER",
                 .help = "a model folder, a tokenizer's file or folder, or the word 'bytes'",
                 .required = true},
                {.name = "--text", .value = "TEXT", .help = "the text, or the ids, to convert"},
                {.name = "--file", .value = "FILE", .help = "a file with the text, or the ids, to convert"},
                {.name = "--decode", .type = ValueType::flag, .help = "turn ids back into text"}},
    .run = run_tokenize,
};

}  // namespace qtf::cli
