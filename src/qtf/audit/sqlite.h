// SQLite's handles as objects, its status codes as our errors. Of this folder's store only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace qtf::audit {

enum class OpenMode { read, write };

/// One connection to one database file. Not thread-safe; not to be carried over a fork.
class Database {
 public:
  /// write: makes the file if it is missing. read: also from folders that cannot be written. Throws
  /// InputError for a file that is missing (read) or no SQLite database, IoError for what else fails.
  Database(std::filesystem::path file, OpenMode mode, int busy_ms);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  const std::filesystem::path& file() const { return file_; }

  /// Runs statements without results.
  void run(const char* sql);
  /// The first column of the first row.
  int64_t number(const char* sql);
  /// Throws what the status code means.
  [[noreturn]] void fail(int code) const;
  sqlite3* handle() const { return handle_; }

 private:
  void open(const std::string& name, int flags);

  std::filesystem::path file_;
  sqlite3* handle_ = nullptr;
};

/// A prepared statement.
class Statement {
 public:
  Statement(Database& database, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  /// Parameters count from 1. The bytes must outlive the next reset().
  void bind(int parameter, int64_t value);
  void bind_blob(int parameter, std::string_view bytes);
  void bind_null(int parameter);
  /// Whether there is a row.
  bool step();
  void reset();

  /// Of the present row; columns count from 0. Valid until the next step or reset.
  int64_t integer(int column) const;
  bool is_blob(int column) const;
  bool is_null(int column) const;
  std::string_view bytes(int column) const;

 private:
  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
};

/// BEGIN IMMEDIATE … COMMIT; rolled back unless commit() is reached.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace qtf::audit
