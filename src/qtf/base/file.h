// Files: reading whole, memory-mapping, atomic replacement, and locks. Whoever is killed while writing
// leaves the old file whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace qtf {

/// A read-only memory mapping of a whole file. Move-only.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InputError if the path does not exist or is a folder, IoError if it cannot be opened or mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  size_t size() const { return size_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The file's contents; pipes and other unmappable files too. Throws like MappedFile.
std::string read_file(const std::filesystem::path& path);

/// A file being written beside its place: `path` appears (or is replaced) only at commit(), which syncs and
/// renames. Destroyed without commit, it leaves nothing. Throws IoError with path and reason (a full disk is
/// named as such). Until then the bytes lie in `path`.tmp, which the next writer reuses if this one is
/// killed.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);
  void write(const void* data, size_t bytes) {
    write(std::string_view(static_cast<const char*>(data), bytes));
  }
  /// Bytes written so far.
  size_t size() const { return size_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  size_t size_ = 0;
  std::string buffer_;

  void flush();
};

/// Where caches of this user go: $XDG_CACHE_HOME/qtf, or ~/.cache/qtf, or a folder beside other temporary
/// ones. Not made.
std::filesystem::path cache_folder();

/// Replaces `path` by `bytes` atomically.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// An exclusive advisory lock (flock) on `folder`/.lock, held for the object's life; it goes with the
/// process, so a killed run leaves no stale lock. Throws InputError naming the folder if another process
/// holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

namespace internal {
/// What AtomicFile says when writing `path` fails with the errno value `error`.
std::string write_error_text(const std::filesystem::path& path, int error);
}  // namespace internal

}  // namespace qtf
