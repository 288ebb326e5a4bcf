// What the tests of commands share: calls in process, a small text, tiny models, and a look at what lies in a
// folder.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/cli/cli.h"

namespace qtf::cli {

struct Result {
  int status = 0;
  std::string out, err;
};

inline Result call(const std::vector<std::string>& args, const std::string& input = {}) {
  std::istringstream in(input);
  std::ostringstream out, err;
  Result result;
  result.status = run_cli(args, {in, out, err});
  result.out = out.str(), result.err = err.str();
  return result;
}

/// The JSON object that a call prints.
inline nlohmann::json call_json(std::vector<std::string> args) {
  args.push_back("--json");
  const Result result = call(args);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
  return nlohmann::json::parse(result.out, nullptr, false);
}

/// Forks a call, sends it `signal` once ready() or when it has ended, and returns its exit status, or the
/// signal that killed it as a negative number.
inline int signalled_call(const std::vector<std::string>& args, int signal,
                          const std::function<bool()>& ready) {
  const pid_t child = fork();
  if (child == 0) _exit(call(args).status);
  int status = 0;
  while (!ready() && waitpid(child, &status, WNOHANG) == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  kill(child, signal);
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Sends the signal once the run has written some steps to the folder's metrics, or `least` lines in all.
inline int signalled_run(const std::vector<std::string>& args, const std::string& folder, int signal,
                         std::ptrdiff_t least = 0) {
  const std::filesystem::path metrics = std::filesystem::path(folder) / "metrics.jsonl";
  const auto lines = [&] {
    if (!std::filesystem::exists(metrics)) return std::ptrdiff_t{0};
    const std::string text = read_file(metrics);
    return std::count(text.begin(), text.end(), '\n');
  };
  return signalled_call(args, signal,
                        [&, enough = std::max(lines() + 4, least)] { return lines() >= enough; });
}

inline std::string small_book() {
  std::string text;
  for (int i = 0; text.size() < 3000; ++i) {
    text += "Line " + std::to_string(i * i % 97) + ": a train of tensors, na\xC3\xAFve and short.\n";
  }
  return text;
}

/// A folder with a small text, whose caches of tokens lie in it too.
class Workplace {
 public:
  Workplace() {
    setenv("XDG_CACHE_HOME", (folder_ / ".cache").c_str(), 1);
    write("book.txt", small_book());
  }
  ~Workplace() { unsetenv("XDG_CACHE_HOME"); }

  std::string operator/(const std::string& name) const { return (folder_ / name).string(); }
  std::string book() const { return *this / "book.txt"; }

  std::string write(const std::string& name, const std::string& contents) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    write_file_atomically(folder_ / name, contents);
    return *this / name;
  }

  /// A call of `qtf train` that makes a tiny model in a moment; `more` comes on top or instead.
  std::vector<std::string> train_call(const std::string& out,
                                      const std::vector<std::string>& more = {}) const {
    const auto given = [&](const std::string& flag) {
      return std::find(more.begin(), more.end(), flag) != more.end();
    };
    std::vector<std::string> args = {"train", "--out", *this / out, "--quiet"};
    const std::pair<std::string, std::string> usual[] = {{"--train", book()},      {"--preset", "nano"},
                                                         {"--context", "32"},      {"--batch", "2"},
                                                         {"--tokenizer", "bytes"}, {"--threads", "2"}};
    for (const auto& [flag, value] : usual) {
      if (!given(flag)) args.insert(args.end(), {flag, value});
    }
    if (!given("--steps") && !given("--epochs") && !given("--minutes"))
      args.insert(args.end(), {"--steps", "4"});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  /// Trains a tiny model and returns its folder.
  std::string train(const std::string& out, const std::vector<std::string>& more = {}) const {
    const Result result = call(train_call(out, more));
    EXPECT_EQ(result.status, 0) << result.err;
    return *this / out;
  }

  /// Every file and folder but the cache, with its contents.
  std::map<std::string, std::string> snapshot() const {
    std::map<std::string, std::string> all;
    using Walk = std::filesystem::recursive_directory_iterator;
    for (Walk i(folder_.path()); i != Walk(); ++i) {
      if (i->path().filename() == ".cache") {
        i.disable_recursion_pending();
        continue;
      }
      all[i->path().string()] = i->is_regular_file() ? read_file(i->path()) : "(folder)";
    }
    return all;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace qtf::cli
