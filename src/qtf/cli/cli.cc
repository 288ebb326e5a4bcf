#include "qtf/cli/cli.h"

#include <algorithm>
#include <iostream>

#include "qtf/cli/help.h"
#include "qtf/cli/training_ranks.h"

namespace qtf::cli {
namespace {

bool asks_for_help(const std::vector<std::string>& words) {
  const auto end = std::ranges::find(words, "--");
  return std::any_of(words.begin(), end,
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

void dispatch(const std::vector<std::string>& args, const Streams& streams) {
  if (args.empty()) throw UsageError("no command given ('qtf help' lists them)");
  if (args[0] == "--help" || args[0] == "-h") {
    streams.out << overview_text();
    return;
  }
  const Command& command = find_command(args[0] == "--version" ? "version" : args[0]);
  const std::vector<std::string> words(args.begin() + 1, args.end());
  if (asks_for_help(words)) {
    streams.out << help_text(command);
    return;
  }
  command.run(parse_arguments(command, words), streams);
}

int fail(const Streams& streams, std::string text, int status) {
  let_rank_0_speak();
  std::ranges::replace(text, '\n', ' ');
  streams.err << "qtf: " << text << std::endl;
  return status;
}

}  // namespace

int run_cli(const std::vector<std::string>& args, const Streams& streams) {
  try {
    dispatch(args, streams);
    streams.out.flush();
    if (!streams.out)
      throw IoError("standard output cannot be written; is the disk full or the pipe closed?");
    return 0;
  } catch (const ExitStatus& exit) {
    return exit.status();
  } catch (const InputError& error) {
    return fail(streams, error.what(), 2);
  } catch (const IoError& error) {
    return fail(streams, error.what(), 2);
  } catch (const std::bad_alloc&) {
    return fail(streams, "out of memory", 1);
  } catch (const std::exception& error) {
    return fail(streams, error.what(), 1);
  }
}

}  // namespace qtf::cli
