#include "qtf/audit/verify.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

#include "qtf/audit/audit_test.h"
#include "qtf/audit/merkle.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/random.h"

namespace qtf::audit {
namespace {

namespace fs = std::filesystem;

bool names_record(const Verification& found, int64_t sequence) {
  return std::any_of(found.problems.begin(), found.problems.end(),
                     [&](const VerifyProblem& p) { return p.sequence == sequence; });
}

std::string hex_literal(std::string_view bytes) {
  return "x'" + to_hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}) + "'";
}

struct Row {
  int64_t sequence = 0;
  std::map<std::string, std::string> columns;
};

std::vector<Row> rows_of(const fs::path& file) {
  std::vector<Row> rows;
  SegmentReader reader(file);
  for (StoredRecord row; reader.next(row);) {
    rows.push_back({row.sequence, {{"bytes", std::string(row.bytes)}, {"hash", std::string(row.hash)}}});
    if (row.has_payload) rows.back().columns["payload"] = row.payload;
  }
  return rows;
}

struct Program {
  int status = 0;
  std::string out;
};

Program run_program(const std::string& command) {
  Program program;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    program.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  program.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return program;
}

/// Holds the second verifier, written in Python from the specification, against ours.
void expect_agreement(const fs::path& file, const Anchor& anchor = {}) {
  std::string command = "python3 " QTF_SOURCE_DIR "/tests/audit_verifier.py " + file.string();
  if (anchor.root) command += " " + std::to_string(*anchor.count) + " " + to_hex(*anchor.root);
  const Program other = run_program(command);
  const Verification ours = verify(file, anchor);
  EXPECT_EQ(other.status, ours.problems.empty() ? 0 : 1) << other.out << "ours:\n" << problems_of(ours);
  // Where it stops at a missing segment, the roots differ.
  const bool whole = other.out.find("is missing") == std::string::npos;
  EXPECT_TRUE(!whole || other.out.find(to_hex(ours.root)) != std::string::npos) << other.out;
}

class Meddling : public ::testing::Test {
 protected:
  Meddling() { write_sample(file_, 6); }
  void fresh() {
    fs::remove(file_);
    write_sample(file_, 6);
  }
  void sql(const std::string& text) { meddle(file_, text); }
  TemporaryFolder folder_;
  fs::path file_ = folder_ / "audit.sqlite";
};

TEST_F(Meddling, EveryFlippedBitIsFoundAtItsRecord) {
  const std::vector<Row> rows = rows_of(file_);
  ASSERT_EQ(rows.size(), 7U);
  Database database(file_, OpenMode::write, 1000);
  database.run("PRAGMA synchronous=OFF");
  int64_t flips = 0;
  for (const Row& row : rows) {
    for (const auto& [column, bytes] : row.columns) {
      const std::string update = "UPDATE records SET " + column + "=?1 WHERE sequence=?2";
      Statement statement(database, update.c_str());
      const auto store = [&](const std::string& value) {
        statement.bind_blob(1, value);
        statement.bind(2, row.sequence);
        statement.step();
        statement.reset();
      };
      for (size_t bit = 0; bit < 8 * bytes.size(); ++bit, ++flips) {
        std::string changed = bytes;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
        store(changed);
        ASSERT_TRUE(names_record(verify(file_), row.sequence)) << column << " bit " << bit;
      }
      store(bytes);
    }
  }
  EXPECT_EQ(problems_of(verify(file_)), "");
  EXPECT_GT(flips, 15'000);
}

TEST_F(Meddling, NoBitOfTheDatabaseFileChangesARecordUnseen) {
  meddle(file_, "PRAGMA journal_mode=DELETE");
  const std::string good = read_file(file_);
  const std::vector<std::string> rows = stored_rows(file_);
  const Random random{7, 7};
  int seen = 0;
  for (uint64_t i = 0; i < 1500; ++i) {
    const uint64_t bit = random.below(i, 8 * good.size());
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    std::ofstream(file_, std::ios::binary) << bad;
    try {
      const bool found = !verify(file_).problems.empty();
      seen += found;
      if (!found) {
        EXPECT_EQ(stored_rows(file_), rows) << "bit " << bit;
      }
    } catch (const std::exception&) {
      ++seen;
    }
  }
  EXPECT_GT(seen, 300);
}

TEST_F(Meddling, RemovedRecordsAreFoundAtTheirPlace) {
  for (int64_t sequence = 1; sequence < 7; ++sequence) {
    fresh();
    sql("DELETE FROM records WHERE sequence=" + std::to_string(sequence));
    EXPECT_TRUE(names_record(verify(file_), sequence)) << sequence;
    // Closing the gap by renumbering does not hide it.
    sql("UPDATE records SET sequence=sequence-1 WHERE sequence>" + std::to_string(sequence));
    EXPECT_TRUE(names_record(verify(file_), sequence)) << sequence;
  }
  fresh();
  sql("DELETE FROM records WHERE sequence IN (3, 4)");
  EXPECT_NE(problems_of(verify(file_)).find("records 3 to 4 are missing"), std::string::npos);
}

TEST_F(Meddling, InsertedRecordsAreFound) {
  for (int64_t at = 1; at <= 7; ++at) {
    fresh();
    const std::string here = std::to_string(at);
    sql("UPDATE records SET sequence=-sequence WHERE sequence>=" + here +
        ";UPDATE records SET sequence=1-sequence WHERE sequence<0;"
        "INSERT INTO records SELECT " +
        here + ", bytes, hash, payload FROM records WHERE sequence=8");
    // A copy at the end: which of two equal records was there first cannot be said.
    EXPECT_TRUE(names_record(verify(file_), at) || (at == 7 && names_record(verify(file_), 8))) << at;
  }
}

TEST_F(Meddling, MovedRecordsAreFound) {
  for (int64_t a = 1; a <= 7; ++a) {
    for (int64_t b = a + 1; b <= 7; ++b) {
      fresh();
      sql("UPDATE records SET sequence=-1 WHERE sequence=" + std::to_string(a) +
          ";UPDATE records SET sequence=" + std::to_string(a) + " WHERE sequence=" + std::to_string(b) +
          ";UPDATE records SET sequence=" + std::to_string(b) + " WHERE sequence=-1");
      const Verification found = verify(file_);
      EXPECT_TRUE(names_record(found, a) && names_record(found, b)) << problems_of(found);
    }
  }
}

TEST_F(Meddling, ColumnsOfOtherTypesAreFound) {
  for (const char* change : {"bytes=CAST(bytes AS TEXT)", "hash='text'", "hash=x''", "payload='text'",
                             "payload=NULL", "payload=7", "bytes=x''"}) {
    fresh();
    sql(std::string("UPDATE records SET ") + change + " WHERE sequence=2");
    EXPECT_TRUE(names_record(verify(file_), 2)) << change;
  }
  fresh();
  sql("UPDATE records SET payload=x'00' WHERE sequence=3");
  EXPECT_NE(problems_of(verify(file_)).find("payload of record 3 was added"), std::string::npos);
}

/// Rewrites records from `first` on so that all hashes and chains hold again, as a liar with the program's
/// source would; the record `first` gets other data.
void rewrite(const fs::path& file, int64_t first) {
  Digest previous{};
  RecordHasher hasher;
  for (const Row& row : rows_of(file)) {
    RecordFields fields = parse_record(row.columns.at("bytes"));
    if (row.sequence >= first) {
      if (row.sequence == first) fields.data = R"({"n":"a lie"})";
      fields.previous = previous;
      const std::string bytes = record_bytes(fields);
      previous = hasher.leaf(bytes);
      meddle(file, "UPDATE records SET bytes=" + hex_literal(bytes) + ", hash=x'" + to_hex(previous) +
                       "' WHERE sequence=" + std::to_string(row.sequence));
    } else {
      std::copy(row.columns.at("hash").begin(), row.columns.at("hash").end(),
                reinterpret_cast<char*>(previous.data()));
    }
  }
}

TEST_F(Meddling, CutTailsAndRewritesNeedAnAnchor) {
  const Verification before = verify(file_);
  EXPECT_FALSE(before.anchored);
  const Anchor anchor{before.count, before.root};
  EXPECT_TRUE(verify(file_, anchor).anchored);
  EXPECT_TRUE(verify(file_, {{}, before.root}).anchored);
  EXPECT_TRUE(verify(file_, {before.count, {}}).anchored);

  rewrite(file_, 4);
  EXPECT_EQ(problems_of(verify(file_)), "");
  EXPECT_NE(problems_of(verify(file_, anchor)).find("not those of the anchor"), std::string::npos);
  EXPECT_FALSE(verify(file_, anchor).anchored);
  EXPECT_TRUE(verify(file_, {before.count, {}}).problems.empty()) << "a count alone says little";

  fresh();
  sql("DELETE FROM records WHERE sequence>5");
  EXPECT_EQ(problems_of(verify(file_)), "");
  for (const Anchor& one : {anchor, Anchor{before.count, {}}})
    EXPECT_NE(problems_of(verify(file_, one)).find("5 records are there, the anchor counts 7"),
              std::string::npos);
  EXPECT_FALSE(verify(file_, {{}, before.root}).anchored);
}

TEST_F(Meddling, AnAnchorHoldsWhenRecordsAreAdded) {
  const Verification before = verify(file_);
  write_sample(file_, 5);
  EXPECT_TRUE(verify(file_, {before.count, before.root}).anchored);
  EXPECT_FALSE(verify(file_, {{}, before.root}).anchored) << "without a count it is of the whole file";
  EXPECT_TRUE(verify(file_, {0, MerkleTree().root()}).anchored);
  EXPECT_FALSE(verify(file_, {0, before.root}).anchored);
}

TEST_F(Meddling, ASecondVerifierAgrees) {
  const Verification before = verify(file_);
  expect_agreement(file_);
  expect_agreement(file_, {before.count, before.root});
  const std::vector<Row> rows = rows_of(file_);
  const Random random{11, 3};
  for (uint64_t i = 0; i < 24; ++i) {
    const Row& row = rows[random.below(3 * i, rows.size())];
    const std::string column = row.columns.contains("payload") && i % 3 == 0 ? "payload"
                               : i % 2                                       ? "bytes"
                                                                             : "hash";
    std::string changed = row.columns.at(column);
    const uint64_t bit = random.below(3 * i + 1, 8 * changed.size());
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    fresh();
    sql("UPDATE records SET " + column + "=" + hex_literal(changed) +
        " WHERE sequence=" + std::to_string(row.sequence));
    expect_agreement(file_);
  }
  for (const char* change : {"DELETE FROM records WHERE sequence=3", "DELETE FROM records WHERE sequence=7",
                             "UPDATE records SET sequence=sequence+1 WHERE sequence=7", "DELETE FROM records",
                             "UPDATE records SET payload=NULL WHERE sequence=2",
                             "UPDATE records SET payload=x'00' WHERE sequence=3",
                             "UPDATE records SET bytes=CAST(bytes AS TEXT) WHERE sequence=3"}) {
    fresh();
    const Verification fresh_one = verify(file_);
    sql(change);
    expect_agreement(file_);
    expect_agreement(file_, {fresh_one.count, fresh_one.root});
  }
  fresh();
  const Verification honest = verify(file_);
  rewrite(file_, 4);
  expect_agreement(file_);
  expect_agreement(file_, {honest.count, honest.root});
}

TEST_F(Meddling, ASecondVerifierAgreesOnSegments) {
  LogOptions options;
  options.records_per_segment = 5;
  const auto again = [&] {
    for (int segment : present_segments(file_)) fs::remove(segment_path(file_, segment));
    write_sample(file_, 12, options);
  };
  again();
  expect_agreement(file_);
  const int last = present_segments(file_).back();
  for (int removed = 2; removed <= last; ++removed) {
    again();
    fs::remove(segment_path(file_, removed));
    expect_agreement(file_);
  }
  again();
  sql("DELETE FROM records WHERE sequence=(SELECT max(sequence) FROM records)");
  expect_agreement(file_);
  again();
  rewrite(file_, 3);
  expect_agreement(file_);
}

TEST_F(Meddling, SegmentsAreHeldTogether) {
  LogOptions options;
  options.records_per_segment = 5;
  const auto again = [&] {
    for (int segment : present_segments(file_)) fs::remove(segment_path(file_, segment));
    write_sample(file_, 12, options);
  };
  // The next segment has been made, and its writer was killed before it wrote there: all is well.
  again();
  for (int segment = 2; segment <= present_segments(file_).back(); ++segment)
    fs::remove(segment_path(file_, segment));
  EXPECT_NE(problems_of(verify(file_)).find("segment 2 is missing"), std::string::npos);
  write_file_atomically(segment_path(file_, 2), "");
  EXPECT_EQ(problems_of(verify(file_)), "");
  write_sample(file_, 1, options);
  EXPECT_EQ(problems_of(verify(file_)), "");
  // The closing record of the first segment is removed.
  again();
  sql("DELETE FROM records WHERE sequence=(SELECT max(sequence) FROM records)");
  EXPECT_NE(problems_of(verify(file_)).find("is missing"), std::string::npos);
  // A record goes on after it.
  again();
  const int64_t closing = rows_of(file_).back().sequence;
  sql("INSERT INTO records SELECT sequence+1, bytes, hash, payload FROM records WHERE sequence=" +
      std::to_string(closing));
  EXPECT_NE(problems_of(verify(file_)).find("added to a closed segment"), std::string::npos);
  // The first segment is written anew, with hashes that hold.
  again();
  rewrite(file_, 3);
  EXPECT_NE(problems_of(verify(file_)).find("segment 2 says that before it last was"), std::string::npos);
  // Segments change places.
  again();
  fs::rename(segment_path(file_, 2), folder_ / "x");
  fs::rename(segment_path(file_, 3), segment_path(file_, 2));
  fs::rename(folder_ / "x", segment_path(file_, 3));
  EXPECT_FALSE(verify(file_).problems.empty());
  // One is no audit file.
  again();
  write_file_atomically(segment_path(file_, 2), "text");
  EXPECT_NE(problems_of(verify(file_)).find("no audit file"), std::string::npos);
}

TEST(Verify, NamesFilesThatAreNone) {
  TemporaryFolder folder;
  EXPECT_THROW(verify(folder / "none"), InputError);
  write_file_atomically(folder / "text", "text");
  EXPECT_THROW(verify(folder / "text"), InputError);
}

TEST(Verify, ProblemsAreCapped) {
  TemporaryFolder folder;
  write_sample(folder / "a", 40);
  meddle(folder / "a", "UPDATE records SET hash=x'00'");
  EXPECT_EQ(verify(folder / "a", {}, 5).problems.size(), 5U);
}

}  // namespace
}  // namespace qtf::audit
