#include "qtf/base/file.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"

namespace qtf {
namespace {

namespace fs = std::filesystem;

void write_plain(const fs::path& path, std::string_view text) {
  std::ofstream(path) << text;
}

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Replaces `folder` by an empty file system of `size`, for this process only; false where that is not
/// allowed.
bool mount_small_disk(const fs::path& folder, const std::string& size) {
  const std::string user = std::to_string(getuid()), group = std::to_string(getgid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  write_plain("/proc/self/uid_map", "0 " + user + " 1");  // without an owner, tmpfs takes no files
  write_plain("/proc/self/setgroups", "deny");
  write_plain("/proc/self/gid_map", "0 " + group + " 1");
  return mount("none", folder.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
}

/// Runs `body` in a child process and returns its exit status; what it throws is status 99.
template <class Body>
int in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
    }
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ReadFile, GivesTheBytes) {
  TemporaryFolder folder;
  for (const std::string& text : {std::string(), std::string("a\0b\n", 4), std::string(1'000'000, 'x')}) {
    write_plain(folder / "file", text);
    EXPECT_EQ(read_file(folder / "file"), text);
    EXPECT_EQ(MappedFile(folder / "file").text(), text);
    EXPECT_EQ(MappedFile(folder / "file").bytes().size(), text.size());
  }
}

TEST(ReadFile, ReadsFilesThatSayTheyAreEmpty) {
  EXPECT_FALSE(read_file("/proc/self/status").empty());
}

TEST(ReadFile, NamesWhatIsWrong) {
  TemporaryFolder folder;
  write_plain(folder / "file", "text");
  EXPECT_THROW(read_file(folder / "missing"), InputError);
  EXPECT_THROW(MappedFile(folder / "missing"), InputError);
  EXPECT_THROW(MappedFile(folder / "file" / "below"), InputError);
  EXPECT_THROW(read_file(folder.path()), InputError);
  EXPECT_THROW(MappedFile(folder.path()), InputError);
  EXPECT_THROW(MappedFile("/dev/null"), IoError);
  fs::create_symlink("loop", folder / "loop");
  EXPECT_THROW(read_file(folder / "loop"), IoError);
  EXPECT_THROW(read_file("/proc/self/mem"), IoError) << "opens, but cannot be read at 0";
}

TEST(MappedFile, Moves) {
  TemporaryFolder folder;
  write_plain(folder / "a", "first");
  write_plain(folder / "b", "second");
  MappedFile a(folder / "a");
  MappedFile taken = std::move(a);
  EXPECT_EQ(taken.text(), "first");
  taken = MappedFile(folder / "b");
  EXPECT_EQ(taken.text(), "second");
}

TEST(AtomicFile, AppearsOnlyAtCommit) {
  TemporaryFolder folder;
  write_plain(folder / "file", "old");
  {
    AtomicFile file(folder / "file");
    file.write("new");
    EXPECT_EQ(read_file(folder / "file"), "old");
  }
  EXPECT_EQ(read_file(folder / "file"), "old");
  EXPECT_EQ(entries(folder.path()), 1u) << "nothing else is left";
  write_file_atomically(folder / "file", "new");
  EXPECT_EQ(read_file(folder / "file"), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, KeepsTheOrderOfSmallAndLargeWrites) {
  TemporaryFolder folder;
  std::string expected;
  AtomicFile file(folder / "file");
  for (size_t size : {1, 100, 300'000, 7, 262'144, 262'143, 2, 0, 1}) {
    const std::string part(size, static_cast<char>('a' + expected.size() % 26));
    file.write(part.data(), part.size());
    expected += part;
    EXPECT_EQ(file.size(), expected.size());
  }
  file.commit();
  EXPECT_EQ(read_file(folder / "file"), expected);
}

TEST(AtomicFile, TwoWritersDoNotMix) {
  TemporaryFolder folder;
  AtomicFile first(folder / "file"), second(folder / "file");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(folder / "file"), "first");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, KilledWritersLeaveTheOldFileAndNoPile) {
  TemporaryFolder folder;
  write_plain(folder / "file", "old");
  for (int i = 0; i < 3; ++i) {
    in_child([&] {
      AtomicFile file(folder / "file");
      file.write(std::string(1'000'000, 'x'));
      return raise(SIGKILL);
    });
    EXPECT_EQ(read_file(folder / "file"), "old");
    EXPECT_EQ(entries(folder.path()), 2u);
  }
  write_file_atomically(folder / "file", "new");
  EXPECT_EQ(read_file(folder / "file"), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFile, NamesWhatIsWrong) {
  TemporaryFolder folder;
  EXPECT_THROW(AtomicFile(folder / "missing" / "file"), IoError);
  EXPECT_THROW(AtomicFile{folder.path()}, IoError);
  fs::create_symlink("elsewhere", folder / "linked.tmp");
  EXPECT_THROW(AtomicFile(folder / "linked"), IoError) << "a planted link is not followed";
  AtomicFile file(folder / "becomes-a-folder");
  fs::create_directory(folder / "becomes-a-folder");
  EXPECT_THROW(file.commit(), IoError);
}

TEST(AtomicFile, WritesInTheCurrentFolder) {
  TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file_atomically("file", "text");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder / "file"), "text");
}

TEST(AtomicFile, FailedWritesThrow) {
  TemporaryFolder folder;
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(folder / "file", std::string(1'000'000, 'x'));
    } catch (const IoError&) {
      return 0;
    }
    return 1;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(entries(folder.path()), 0u);
}

TEST(AtomicFile, FullDisksAreNamed) {
  TemporaryFolder folder;
  constexpr int kCannotMount = 77;
  const int status = in_child([&] {
    if (!mount_small_disk(folder.path(), "64k")) return kCannotMount;
    write_plain(folder / "file", "old");
    for (size_t size : {100'000, 1'000'000}) {  // buffered, direct
      try {
        write_file_atomically(folder / "file", std::string(size, 'x'));
        return 1;
      } catch (const IoError& error) {
        if (!std::string_view(error.what()).starts_with("[write] no space left on ")) return 2;
      }
    }
    return read_file(folder / "file") == "old" && entries(folder.path()) == 1 ? 0 : 3;
  });
  if (status == kCannotMount) GTEST_SKIP() << "skipped: no mounts allowed here";
  EXPECT_EQ(status, 0);
}

TEST(AtomicFile, ErrorTextsSayWhatToDo) {
  for (int error : {ENOSPC, EDQUOT}) {
    EXPECT_EQ(internal::write_error_text("/data/x", error),
              "[write] no space left on /data/x; free some and run again");
  }
  EXPECT_EQ(internal::write_error_text("/data/x", EACCES), "[write] /data/x: Permission denied");
}

TEST(FolderLock, HoldsOthersOff) {
  TemporaryFolder folder;
  {
    FolderLock lock(folder.path());
    EXPECT_THROW(FolderLock{folder.path()}, InputError);
    const int status = in_child([&] {
      FolderLock other(folder.path());
      return 0;
    });
    EXPECT_EQ(status, 99);
  }
  EXPECT_NO_THROW(FolderLock{folder.path()});
}

TEST(FolderLock, GoesWithTheProcess) {
  TemporaryFolder folder;
  in_child([&] {
    FolderLock lock(folder.path());
    return raise(SIGKILL);
  });
  EXPECT_NO_THROW(FolderLock{folder.path()});
}

TEST(FolderLock, NeedsAFolder) {
  TemporaryFolder folder;
  EXPECT_THROW(FolderLock{folder / "missing"}, IoError);
}

}  // namespace
}  // namespace qtf
