#include "qtf/audit/store.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <thread>

#include "qtf/audit/audit_test.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/random.h"

namespace qtf::audit {
namespace {

namespace fs = std::filesystem;

template <class Body>
std::string store_error(const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

TEST(Log, KeepsWhatWasAppended) {
  TemporaryFolder folder;
  const fs::path file = folder / "audit.sqlite";
  std::string run;
  {
    Log log(file);
    run = log.run();
    log.append("first", {{"a", "1"}});
    EXPECT_EQ(log.flush(), 2) << "after the segment's opening";
    log.append("second", {{"b", 2}}, std::string("\0\xff", 2));
    EXPECT_TRUE(stored_rows(file).size() == 2) << "not yet committed";
  }
  SegmentReader reader(file);
  std::vector<std::string> kinds;
  Digest previous{};
  for (StoredRecord row; reader.next(row);) {
    const RecordFields fields = parse_record(row.bytes);
    EXPECT_EQ(fields.run, run);
    EXPECT_EQ(fields.index, static_cast<int64_t>(kinds.size()));
    EXPECT_EQ(fields.previous, previous);
    EXPECT_EQ(fields.has_payload, kinds.size() == 2);
    EXPECT_EQ(row.payload, std::string_view("\0\xff", row.has_payload ? 2 : 0));
    previous = {};
    std::copy(row.hash.begin(), row.hash.end(), reinterpret_cast<char*>(previous.data()));
    kinds.emplace_back(fields.kind);
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"segment.open", "first", "second"}));
  EXPECT_EQ(problems_of(verify(file)), "");
}

TEST(Log, CommitsByNumberAndByTime) {
  TemporaryFolder folder;
  LogOptions options;
  options.records_together = 3;
  Log log(folder / "a", options);
  for (int i = 0; i < 7; ++i) log.append("test", {{"n", i}});
  EXPECT_EQ(stored_rows(folder / "a").size(), 7U);
  options.longest_ms = 0;
  Log eager(folder / "b", options);
  eager.append("test", nlohmann::json::object());
  EXPECT_EQ(stored_rows(folder / "b").size(), 2U);
}

TEST(Log, RefusesWhatIsNoRecord) {
  TemporaryFolder folder;
  Log log(folder / "a");
  EXPECT_THROW(log.append("Bad kind", nlohmann::json::object()), InputError);
  EXPECT_THROW(log.append("kind", nlohmann::json::array()), InputError);
  EXPECT_THROW(log.append("kind", {{"x", 1.5}}), InputError);
  EXPECT_THROW(log.append("kind", {{"x", std::string(kMostRecordBytes, 'x')}}), InputError);
  EXPECT_THROW(log.append("kind", nlohmann::json::object(), std::string(kMostRecordBytes, 'x')), InputError);
  log.flush();
  EXPECT_TRUE(stored_rows(folder / "a").empty());
}

TEST(Log, RefusesFilesOfOthers) {
  TemporaryFolder folder;
  const auto error_for = [&](const char* name) {
    const std::string of_log = store_error([&] { Log log(folder / name); });
    EXPECT_EQ(of_log.find('\n'), std::string::npos);
    return of_log;
  };
  write_file_atomically(folder / "text", std::string(5000, 'x'));
  EXPECT_NE(error_for("text").find("no audit file"), std::string::npos);
  EXPECT_NE(store_error([&] { SegmentReader reader(folder / "text"); }).find("no audit file"),
            std::string::npos);
  meddle(folder / "other", "CREATE TABLE t (x)");
  EXPECT_NE(error_for("other").find("no audit file"), std::string::npos);
  write_sample(folder / "newer", 1);
  meddle(folder / "newer", "PRAGMA user_version=2");
  EXPECT_NE(error_for("newer").find("newer qtf"), std::string::npos);
  fs::create_directory(folder / "folder");
  EXPECT_NE(error_for("folder").find("is a folder"), std::string::npos);
  EXPECT_NE(error_for("no/such/folder").find("cannot be opened"), std::string::npos);
  EXPECT_NE(store_error([&] { SegmentReader reader(folder / "none"); }).find("does not exist"),
            std::string::npos);
  write_sample(folder / "torn", 1);
  meddle(folder / "torn", "UPDATE records SET bytes=x'00' WHERE sequence=2");
  EXPECT_NE(store_error([&] { write_sample(folder / "torn", 1); }).find("record 2 is damaged"),
            std::string::npos);
}

TEST(Log, WaitsForOthersOnlySoLong) {
  TemporaryFolder folder;
  write_sample(folder / "a", 1);
  LogOptions options;
  options.busy_ms = 20;
  Log log(folder / "a", options);
  log.append("test", {{"n", "kept"}});
  {
    Database other(folder / "a", OpenMode::write, 20);
    Transaction held(other);
    EXPECT_NE(store_error([&] { log.flush(); }).find("held by another process"), std::string::npos);
  }
  EXPECT_EQ(log.flush(), 3) << "nothing was lost";
}

TEST(Log, ReadsFromFoldersThatCannotBeWritten) {
  TemporaryFolder folder;
  fs::create_directory(folder / "fixed");
  const fs::path file = folder / "fixed/a#b?c%d";
  write_sample(file, 3);
  fs::permissions(folder / "fixed", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(verify(file).count, 4);
  fs::permissions(folder / "fixed", fs::perms::owner_all);
}

TEST(Segments, GoOnWithTheChain) {
  TemporaryFolder folder;
  const fs::path file = folder / "a";
  LogOptions options;
  options.records_per_segment = 5;
  write_sample(file, 9, options);
  write_sample(file, 9, options);
  const Verification whole = verify(file);
  EXPECT_EQ(problems_of(whole), "");
  EXPECT_EQ(whole.runs.size(), 2U);
  EXPECT_EQ(whole.segments, static_cast<int>(present_segments(file).size()));
  EXPECT_GE(whole.segments, 5);
  EXPECT_EQ(whole.count, static_cast<int64_t>(stored_rows(file).size()));
  EXPECT_EQ(segment_path(file, 3).filename(), "a.3");
}

TEST(Segments, ThatAreMissingAreNamed) {
  for (int missing : {1, 2, 3}) {
    TemporaryFolder folder;
    const fs::path file = folder / "a";
    LogOptions options;
    options.records_per_segment = 5;
    write_sample(file, 12, options);
    const int last = present_segments(file).back();
    ASSERT_GT(last, 3);
    fs::remove(segment_path(file, missing));
    const Verification found = verify(file);
    EXPECT_EQ(found.problems.size(), 1U) << problems_of(found);
    EXPECT_NE(problems_of(found).find("segment " + std::to_string(missing) + " is missing"),
              std::string::npos);
    EXPECT_NE(store_error([&] { Log log(file); }).find("is missing"), std::string::npos);
    if (missing == last - 1) continue;  // without the last one, it would be the end
    fs::remove(segment_path(file, last));
    EXPECT_NE(problems_of(verify(file)).find("segment " + std::to_string(last) + " is missing"),
              std::string::npos);
  }
}

TEST(Segments, OfOtherNamesAreNone) {
  TemporaryFolder folder;
  write_sample(folder / "a", 1);
  for (const char* name : {"a.1", "a.02", "a.2x", "a.txt", "a.-3", "b.2", "a.99999999999"})
    write_file_atomically(folder / name, "x");
  EXPECT_EQ(present_segments(folder / "a"), std::vector<int>{1});
}

/// Appends and tells each acknowledged record's number through a pipe until it is killed.
[[noreturn]] void write_until_killed(const fs::path& file, int pipe, int64_t most) {
  try {
    LogOptions options;
    options.records_per_segment = 30;
    Log log(file, options);
    for (int64_t n = 0; n < most; ++n) {
      log.append("test", {{"n", std::to_string(n)}});
      if (n % 3 == 2) continue;  // two together
      const int64_t told[2] = {log.flush(), n};
      if (write(pipe, told, sizeof(told)) != sizeof(told)) _exit(2);
    }
    _exit(0);
  } catch (const std::exception& error) {
    std::ofstream(file.string() + ".error") << error.what();
    _exit(1);
  }
}

struct Child {
  pid_t pid = 0;
  int pipe = 0;
};

Child start_writer(const fs::path& file, int64_t most) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  Child child;
  child.pid = fork();
  if (child.pid == 0) {
    close(ends[0]);
    write_until_killed(file, ends[1], most);
  }
  close(ends[1]);
  child.pipe = ends[0];
  return child;
}

/// What the child was told to be safe: record number to its n.
std::map<int64_t, int64_t> acknowledged(Child child) {
  std::map<int64_t, int64_t> all;
  int64_t told[2];
  while (read(child.pipe, told, sizeof(told)) == sizeof(told)) all[told[0]] = told[1];
  close(child.pipe);
  return all;
}

std::map<int64_t, std::string> all_data(const fs::path& file) {
  std::map<int64_t, std::string> data;
  for (int segment : present_segments(file)) {
    SegmentReader reader(segment_path(file, segment));
    for (StoredRecord row; reader.next(row);) data[row.sequence] = parse_record(row.bytes).data;
  }
  return data;
}

void expect_there(const fs::path& file, const std::map<int64_t, int64_t>& told) {
  const std::map<int64_t, std::string> data = all_data(file);
  for (const auto& [sequence, n] : told) {
    const auto found = data.find(sequence);
    ASSERT_NE(found, data.end()) << "record " << sequence << " was acknowledged and is lost";
    EXPECT_EQ(found->second, "{\"n\":\"" + std::to_string(n) + "\"}");
  }
}

TEST(Crash, LosesNoAcknowledgedRecord) {
  TemporaryFolder folder;
  const Random random{20261125, 0};
  int64_t records = 0;
  for (uint64_t kill_number = 0; kill_number < 200; ++kill_number) {
    // Ten writers die over each file, so that recovery from a crash is crashed into as well.
    const fs::path file = folder / std::to_string(kill_number / 10);
    const Child child = start_writer(file, INT64_MAX);
    // Every other one dies while it writes, however slow the machine is, the rest wherever they are.
    pollfd told_one{child.pipe, POLLIN, 0};
    if (kill_number % 2 == 0) {
      EXPECT_EQ(poll(&told_one, 1, 60'000), 1);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(kill_number, 50'000)));
    kill(child.pid, SIGKILL);
    int status = 0;
    waitpid(child.pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << read_file(file.string() + ".error");
    const auto told = acknowledged(child);
    records += static_cast<int64_t>(told.size());
    if (!fs::exists(file)) continue;
    expect_there(file, told);
    EXPECT_EQ(problems_of(verify(file)), "");
  }
  EXPECT_GE(records, 100);
  for (int i = 0; i < 20; ++i) {
    write_sample(folder / std::to_string(i), 1);
    EXPECT_EQ(problems_of(verify(folder / std::to_string(i))), "");
  }
}

TEST(Log, TakesManyWritersAtOnce) {
  TemporaryFolder folder;
  const fs::path file = folder / "a";
  constexpr int64_t kRecords = 60;
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) children.push_back(start_writer(file, kRecords));
  std::vector<std::map<int64_t, int64_t>> told;
  for (const Child& child : children) told.push_back(acknowledged(child));
  for (const Child& child : children) {
    int status = 0;
    waitpid(child.pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << (fs::exists(file.string() + ".error") ? read_file(file.string() + ".error") : "");
  }
  for (const auto& one : told) expect_there(file, one);
  const Verification found = verify(file);
  EXPECT_EQ(problems_of(found), "");
  EXPECT_EQ(found.runs.size(), 4U);
  EXPECT_GE(found.count, 4 * kRecords);
  EXPECT_GT(found.segments, 4);
}

}  // namespace
}  // namespace qtf::audit
