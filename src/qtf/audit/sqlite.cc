#include "qtf/audit/sqlite.h"

#include <sqlite3.h>

#include "qtf/base/error.h"

namespace qtf::audit {

namespace {

/// A file: URI of a path, in which ?, # and % have no meaning of their own.
std::string immutable_uri(const std::filesystem::path& file) {
  std::string uri = "file:";
  for (const char c : std::filesystem::absolute(file).string()) {
    if (c == '?' || c == '#' || c == '%')
      uri += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    else
      uri += c;
  }
  return uri + "?immutable=1";
}

bool has_log_beside(const std::filesystem::path& file) {
  std::error_code ignored;
  return std::filesystem::exists(file.string() + "-wal", ignored);
}

}  // namespace

void Database::fail(int code) const {
  const std::string name = file_.string();
  switch (code & 0xff) {
    case SQLITE_NOTADB:
      throw_input_error("audit", "{} is no audit file (no SQLite database)", name);
    case SQLITE_CORRUPT:
      throw_io_error("audit", "{} is damaged: {}", name, sqlite3_errmsg(handle_));
    case SQLITE_FULL:
      throw_io_error("audit", "{} cannot be written: the disk is full", name);
    case SQLITE_BUSY:
      throw_io_error("audit", "{} is held by another process for too long; try again, or end that process",
                     name);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      throw_io_error("audit", "{} cannot be opened: check that its folder exists and may be written", name);
    default:
      throw_io_error("audit", "{}: {} (SQLite {})", name, sqlite3_errstr(code), code);
  }
}

void Database::open(const std::string& name, int flags) {
  const int code = sqlite3_open_v2(name.c_str(), &handle_, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) fail(code);
  sqlite3_extended_result_codes(handle_, 1);
}

Database::Database(std::filesystem::path file, OpenMode mode, int busy_ms) : file_(std::move(file)) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file_, ignored))
    throw_input_error("audit", "{} is a folder; name a file", file_.string());
  if (mode == OpenMode::read && !std::filesystem::exists(file_, ignored))
    throw_input_error("audit", "{} does not exist", file_.string());
  try {
    open(file_.string(),
         mode == OpenMode::read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    sqlite3_busy_timeout(handle_, busy_ms);
    if (mode == OpenMode::write) return;
    const int code = sqlite3_exec(handle_, "SELECT 1 FROM sqlite_master", nullptr, nullptr, nullptr);
    if (code == SQLITE_OK) return;
    // SQLite wants to write beside a database in WAL mode, even to read it.
    const bool cannot_write = (code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY;
    if (!cannot_write || has_log_beside(file_)) fail(code);
    sqlite3_close_v2(handle_);
    handle_ = nullptr;
    open(immutable_uri(file_), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
  } catch (...) {
    sqlite3_close_v2(handle_);
    throw;
  }
}

Database::~Database() {
  sqlite3_close_v2(handle_);
}

void Database::run(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

int64_t Database::number(const char* sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

Statement::Statement(Database& database, const char* sql) : database_(database) {
  const int code = sqlite3_prepare_v2(database.handle(), sql, -1, &statement_, nullptr);
  if (code != SQLITE_OK) database.fail(code);
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

void Statement::bind(int parameter, int64_t value) {
  const int code = sqlite3_bind_int64(statement_, parameter, value);
  if (code != SQLITE_OK) database_.fail(code);
}

void Statement::bind_blob(int parameter, std::string_view bytes) {
  const int code = sqlite3_bind_blob64(statement_, parameter, bytes.data(), bytes.size(), SQLITE_STATIC);
  if (code != SQLITE_OK) database_.fail(code);
}

void Statement::bind_null(int parameter) {
  const int code = sqlite3_bind_null(statement_, parameter);
  if (code != SQLITE_OK) database_.fail(code);
}

bool Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_.fail(code);
  return false;
}

void Statement::reset() {
  sqlite3_reset(statement_);
}

int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}

bool Statement::is_blob(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_BLOB;
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::string_view Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
  return data ? std::string_view(static_cast<const char*>(data), size) : std::string_view();
}

Transaction::Transaction(Database& database) : database_(database) {
  database.run("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
  if (open_) sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_.run("COMMIT");
  open_ = false;
}

}  // namespace qtf::audit
