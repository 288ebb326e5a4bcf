#include "qtf/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "qtf/base/error.h"

namespace qtf {

namespace {

namespace fs = std::filesystem;

// Large enough that a write costs little beside its copy, small enough to stay in cache.
constexpr size_t kBufferBytes = size_t{1} << 18;

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_retrying(const fs::path& path, int flags, mode_t mode = 0) {
  int fd;
  do fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

int open_for_reading(const fs::path& path, struct stat& status) {
  Descriptor fd(open_retrying(path, O_RDONLY));
  if (fd.get() < 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      throw_input_error("read", "{}: no such file; check the path", path.string());
    }
    throw_io_error("read", "{}: {}", path.string(), std::strerror(errno));
  }
  if (fstat(fd.get(), &status) != 0) throw_io_error("read", "{}: {}", path.string(), std::strerror(errno));
  if (S_ISDIR(status.st_mode)) throw_input_error("read", "{} is a folder; expected a file", path.string());
  return fd.release();
}

[[noreturn]] void throw_write_error(const fs::path& path, int error) {
  throw IoError(internal::write_error_text(path, error));
}

bool same_file(int fd, const fs::path& path) {
  struct stat open_one, named_one;
  return fstat(fd, &open_one) == 0 && lstat(path.c_str(), &named_one) == 0 &&
         open_one.st_ino == named_one.st_ino && open_one.st_dev == named_one.st_dev;
}

/// Opens and locks a temporary file beside `path`. The names are few and fixed, and a free lock says that
/// whoever wrote there is gone: so what a killed run left behind is reused, not piled up.
int open_temporary(const fs::path& path, fs::path& temporary) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    temporary = path;
    temporary += attempt == 0 ? std::string(".tmp") : fmt::format(".tmp{}", attempt);
    Descriptor fd(open_retrying(temporary, O_WRONLY | O_CREAT | O_NOFOLLOW, 0666));
    if (fd.get() < 0) throw_write_error(path, errno);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (!same_file(fd.get(), temporary)) continue;  // renamed or removed before we had the lock
    if (ftruncate(fd.get(), 0) != 0) throw_write_error(path, errno);
    return fd.release();
  }
  throw_io_error("write", "{}: too many writers at once", path.string());
}

void sync_folder_of(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  Descriptor fd(open_retrying(folder, O_RDONLY | O_DIRECTORY));
  // Some file systems cannot sync a folder (EINVAL); the rename stands all the same.
  if (fd.get() >= 0 && fsync(fd.get()) != 0 && errno == EIO) throw_write_error(path, errno);
}

void write_all(int fd, const fs::path& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      throw_write_error(path, errno);
    }
  }
}

}  // namespace

namespace internal {

std::string write_error_text(const fs::path& path, int error) {
  if (error == ENOSPC || error == EDQUOT) {
    return fmt::format("[write] no space left on {}; free some and run again", path.string());
  }
  return fmt::format("[write] {}: {}", path.string(), std::strerror(error));
}

}  // namespace internal

MappedFile::MappedFile(const fs::path& path) {
  struct stat status;
  Descriptor fd(open_for_reading(path, status));
  if (!S_ISREG(status.st_mode)) {
    throw_io_error("read", "{} is not a regular file and cannot be mapped; save it to a file", path.string());
  }
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return;  // mmap refuses empty files
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) throw_io_error("read", "{}: cannot map: {}", path.string(), std::strerror(errno));
  data_ = static_cast<const std::byte*>(data);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  MappedFile taken(std::move(other));
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  return *this;
}

std::string read_file(const fs::path& path) {
  struct stat status;
  Descriptor fd(open_for_reading(path, status));
  std::string text;
  size_t used = 0;
  // Pipes and /proc say size 0, so read until nothing comes.
  text.resize(static_cast<size_t>(status.st_size) + 1);
  while (true) {
    if (used == text.size()) text.resize(std::max(2 * used, kBufferBytes));
    const ssize_t got = read(fd.get(), text.data() + used, text.size() - used);
    if (got == 0) break;
    if (got > 0) {
      used += static_cast<size_t>(got);
    } else if (errno != EINTR) {
      throw_io_error("read", "{}: {} at byte {}", path.string(), std::strerror(errno), used);
    }
  }
  text.resize(used);
  return text;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  if (fs::is_directory(path_)) throw_io_error("write", "{} is a folder; expected a file", path_.string());
  fd_ = open_temporary(path_, temporary_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  unlink(temporary_.c_str());
  close(fd_);
}

void AtomicFile::write(std::string_view bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    write_all(fd_, path_, bytes);
  } else {
    buffer_.append(bytes);
  }
  size_ += bytes.size();
}

void AtomicFile::flush() {
  write_all(fd_, path_, buffer_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (fsync(fd_) != 0) throw_write_error(path_, errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) throw_write_error(path_, errno);
  close(std::exchange(fd_, -1));
  sync_folder_of(path_);
}

std::filesystem::path cache_folder() {
  namespace fs = std::filesystem;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return fs::path(cache) / "qtf";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "qtf";
  return fs::temp_directory_path() / "qtf-cache";
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path path = folder / ".lock";
  Descriptor fd(open_retrying(path, O_RDWR | O_CREAT, 0666));
  if (fd.get() < 0) throw_write_error(path, errno);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_write_error(path, errno);
    throw_input_error("lock", "{} is in use by another run; wait for it or choose another folder",
                      folder.string());
  }
  fd_ = fd.release();
}

FolderLock::~FolderLock() {
  close(fd_);
}

}  // namespace qtf
