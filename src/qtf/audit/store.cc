#include "qtf/audit/store.h"

#include <algorithm>
#include <charconv>
#include <thread>

#include "qtf/audit/canonical.h"
#include "qtf/audit/merkle.h"
#include "qtf/base/error.h"

namespace qtf::audit {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kApplicationId = 0x51544641;  // "QTFA"
constexpr int64_t kFormatVersion = 1;

int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
}

/// As a writer leaves it that was killed before it made the table.
bool is_blank(Database& database) {
  return database.number("SELECT count(*) FROM sqlite_master") == 0 &&
         database.number("PRAGMA application_id") == 0;
}

void check_ours(Database& database) {
  const int64_t id = database.number("PRAGMA application_id");
  if (id != kApplicationId)
    throw_input_error("audit", "{} is an SQLite database, but no audit file; name another file",
                      database.file().string());
  const int64_t version = database.number("PRAGMA user_version");
  if (version != kFormatVersion)
    throw_input_error("audit", "{} has format {}, and this program reads {}; use a newer qtf",
                      database.file().string(), version, kFormatVersion);
}

/// Going over to WAL mode needs a moment without other users, and SQLite does not wait for it by itself.
void use_write_ahead_log(Database& database, int busy_ms) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_ms);
  for (;;) {
    try {
      return database.run("PRAGMA journal_mode=WAL");
    } catch (const IoError&) {
      if (std::chrono::steady_clock::now() > end) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

void make_table(Database& database) {
  Transaction transaction(database);
  if (is_blank(database)) {
    database.run(fmt::format("PRAGMA application_id={};PRAGMA user_version={};"
                             "CREATE TABLE records (sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL, "
                             "hash BLOB NOT NULL, payload BLOB)",
                             kApplicationId, kFormatVersion)
                     .c_str());
  }
  transaction.commit();
}

std::unique_ptr<Database> open_for_writing(const fs::path& segment, int busy_ms) {
  auto database = std::make_unique<Database>(segment, OpenMode::write, busy_ms);
  if (!is_blank(*database)) check_ours(*database);
  use_write_ahead_log(*database, busy_ms);
  database->run("PRAGMA synchronous=FULL");
  make_table(*database);
  check_ours(*database);
  return database;
}

/// The last record of a segment.
struct Tail {
  int64_t sequence = 0;  // 0: there is none
  bool closed = false;
};

Tail read_tail(Database& database) {
  Statement row(database, "SELECT sequence, bytes FROM records ORDER BY sequence DESC LIMIT 1");
  if (!row.step()) return {};
  try {
    return {row.integer(0), parse_record(row.bytes(1)).kind == kSegmentClose};
  } catch (const InputError& error) {
    throw_io_error("audit", "{} cannot be gone on with: record {} is damaged ({}); name another file",
                   database.file().string(), row.integer(0), error.what());
  }
}

}  // namespace

fs::path segment_path(const fs::path& file, int segment) {
  return segment == 1 ? file : fs::path(fmt::format("{}.{}", file.string(), segment));
}

std::vector<int> present_segments(const fs::path& file) {
  std::vector<int> segments;
  std::error_code error;
  if (fs::exists(file, error)) segments.push_back(1);
  const std::string begin = file.filename().string() + ".";
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (!name.starts_with(begin)) continue;
    int number = 0;
    const char* last = name.data() + name.size();
    const auto [stop, code] = std::from_chars(name.data() + begin.size(), last, number);
    if (code == std::errc() && stop == last && number >= 2 && name[begin.size()] != '0')
      segments.push_back(number);
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

Log::Log(fs::path file, const LogOptions& options)
    : file_(std::move(file)), options_(options), run_(new_run_name()) {
  const std::vector<int> present = present_segments(file_);
  for (size_t i = 0; i < present.size(); ++i) {
    if (present[i] != static_cast<int>(i) + 1)
      throw_io_error("audit",
                     "{} is missing, though later segments are there; bring it back, or name another file",
                     segment_path(file_, static_cast<int>(i) + 1).string());
  }
  // The last one may have been made before the one before it was closed.
  open_segment(std::max(1, static_cast<int>(present.size()) - 1));
}

Log::~Log() {
  try {
    flush();
  } catch (...) {  // flush() before tells
  }
  close_segment();
}

/// Leaves one plain file behind that whoever reads it need not write beside, if no one else has it open.
void Log::close_segment() {
  if (!database_) return;
  try {
    database_->run("PRAGMA busy_timeout=0; PRAGMA journal_mode=DELETE");
  } catch (const std::exception&) {  // the last one to close it does
  }
  database_.reset();
}

void Log::open_segment(int segment) {
  close_segment();
  database_ = open_for_writing(segment_path(file_, segment), options_.busy_ms);
  segment_ = segment;
}

void Log::append(std::string_view kind, const nlohmann::json& data) {
  add(kind, data, false, {});
}

void Log::append(std::string_view kind, const nlohmann::json& data, std::string payload) {
  add(kind, data, true, std::move(payload));
}

void Log::add(std::string_view kind, const nlohmann::json& data, bool has_payload, std::string payload) {
  if (!is_kind(kind)) throw_input_error("audit record", "'{}' is no kind", kind);
  if (!data.is_object())
    throw_input_error("audit record", "data must be an object, got {}", data.type_name());
  Pending record{std::string(kind), canonical(data), has_payload, std::move(payload), now_ns()};
  if (std::max(record.data.size(), record.payload.size()) > kMostRecordBytes - 1024)
    throw_input_error("audit record", "a record of kind {} is too large: {} bytes, and a payload of {}", kind,
                      record.data.size(), record.payload.size());
  if (pending_.empty()) last_commit_ = Clock::now();
  pending_.push_back(std::move(record));
  const bool many = static_cast<int64_t>(pending_.size()) >= options_.records_together;
  if (many || Clock::now() - last_commit_ >= std::chrono::milliseconds(options_.longest_ms)) flush();
}

int64_t Log::flush() {
  while (!pending_.empty()) {
    if (!commit()) open_segment(segment_ + 1);
  }
  return place_.sequence;
}

/// Writes all pending records; false if they belong into the next segment.
bool Log::commit() {
  Transaction transaction(*database_);
  const Tail tail = read_tail(*database_);
  if (tail.closed) return false;
  Place place = place_;
  place.sequence = tail.sequence;
  Statement statement(*database_, "INSERT INTO records VALUES (?, ?, ?, ?)");
  if (tail.sequence == 0) {
    const Pending first = opening(place);
    insert(statement, first, place);
  } else if (tail.sequence - database_->number("SELECT min(sequence) FROM records") + 2 >=
             options_.records_per_segment) {
    // The next one is there before this one is closed, so that only a removed one can be missing.
    open_for_writing(segment_path(file_, segment_ + 1), options_.busy_ms);
    insert(statement, closing(), place);
    transaction.commit();
    place_ = place;
    return false;
  }
  for (const Pending& record : pending_) insert(statement, record, place);
  transaction.commit();
  place_ = place;
  pending_.clear();
  return true;
}

/// Gives the record its place, and moves the place on.
void Log::insert(Statement& statement, const Pending& pending, Place& place) const {
  RecordHasher hasher;
  RecordFields fields;
  fields.data = pending.data;
  fields.kind = pending.kind;
  fields.has_payload = pending.has_payload;
  if (pending.has_payload) fields.payload = hasher.plain(pending.payload);
  fields.run = run_;
  fields.time_ns = pending.time_ns;
  fields.index = place.index++;
  fields.sequence = ++place.sequence;
  fields.previous = place.previous;
  const std::string bytes = record_bytes(fields);
  place.previous = hasher.leaf(bytes);
  statement.bind(1, fields.sequence);
  statement.bind_blob(2, bytes);
  statement.bind_blob(3, {reinterpret_cast<const char*>(place.previous.data()), place.previous.size()});
  if (pending.has_payload)
    statement.bind_blob(4, pending.payload);
  else
    statement.bind_null(4);
  statement.step();
  statement.reset();
}

/// What a segment says of all before it; moves the place there.
Log::Pending Log::opening(Place& place) const {
  MerkleTree tree;
  Digest last{};
  for (int segment = 1; segment < segment_; ++segment) {
    SegmentReader reader(segment_path(file_, segment));
    for (StoredRecord row; reader.next(row);) {
      if (row.hash.size() != last.size())
        throw_io_error("audit", "record {} of {} is damaged; name another file", row.sequence,
                       file_.string());
      std::copy(row.hash.begin(), row.hash.end(), reinterpret_cast<char*>(last.data()));
      tree.add(last);
    }
  }
  place.sequence = tree.count();
  const nlohmann::json data = {{"format", std::to_string(kFormatVersion)},
                               {"segment", std::to_string(segment_)},
                               {"count", std::to_string(tree.count())},
                               {"last", to_hex(last)},
                               {"root", to_hex(tree.root())}};
  return {std::string(kSegmentOpen), canonical(data), false, {}, now_ns()};
}

Log::Pending Log::closing() const {
  const nlohmann::json data = {{"segment", std::to_string(segment_)},
                               {"next", segment_path(file_, segment_ + 1).filename().string()}};
  return {std::string(kSegmentClose), canonical(data), false, {}, now_ns()};
}

SegmentReader::SegmentReader(const fs::path& segment) : database_(segment, OpenMode::read, 10'000) {
  if (is_blank(database_)) return;
  check_ours(database_);
  rows_ = std::make_unique<Statement>(database_,
                                      "SELECT sequence, bytes, hash, payload FROM records ORDER BY sequence");
}

bool SegmentReader::next(StoredRecord& record) {
  if (!rows_ || !rows_->step()) return false;
  record.sequence = rows_->integer(0);
  record.well_typed = rows_->is_blob(1) && rows_->is_blob(2) && (rows_->is_blob(3) || rows_->is_null(3));
  record.bytes = rows_->bytes(1);
  record.hash = rows_->bytes(2);
  record.has_payload = !rows_->is_null(3);
  record.payload = rows_->bytes(3);
  return true;
}

}  // namespace qtf::audit
