#include "qtf/audit/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "qtf/audit/merkle.h"
#include "qtf/audit/store.h"
#include "qtf/base/error.h"

namespace qtf::audit {

namespace fs = std::filesystem;

namespace {

/// Where a run's chain stands.
struct ChainState {
  bool known = false;  ///< its record before is
  int64_t index = 0;
  Digest last{};
  VerifyRun summary;
};

class Verifier {
 public:
  Verifier(const fs::path& file, const Anchor& anchor, size_t most_problems)
      : file_(file), anchor_(anchor), most_problems_(most_problems) {
    if (anchor.count == 0) anchored_root_ = tree_.root();
  }

  Verification run() {
    const std::vector<int> present = present_segments(file_);
    if (present.empty()) throw_input_error("audit", "{} does not exist", file_.string());
    const int last = present.back();
    for (int segment = 1; segment <= last; ++segment) {
      if (std::binary_search(present.begin(), present.end(), segment)) {
        read_segment(segment);
      } else {
        missing(segment);
      }
    }
    if (closed_) missing(last + 1);
    check_anchor();
    result_.count = tree_.count();
    result_.root = tree_.root();
    for (auto& [name, chain] : runs_) result_.runs[name] = chain.summary;
    return std::move(result_);
  }

 private:
  void report(int64_t sequence, std::string what) {
    if (result_.problems.size() < most_problems_)
      result_.problems.push_back({sequence, segment_, std::move(what)});
  }

  void missing(int segment) {
    segment_ = segment_path(file_, segment).filename().string();
    report(expected_ - 1, fmt::format("segment {} is missing: {}", segment, segment_));
    lose_track();
  }

  /// What comes next cannot be held against what was before.
  void lose_track() {
    gap_ = lost_track_ = true;
    closed_ = false;
    for (auto& [name, chain] : runs_) chain.known = false;
  }

  void read_segment(int segment) {
    segment_ = segment_path(file_, segment).filename().string();
    number_ = segment;
    ++result_.segments;
    first_of_segment_ = true;
    root_before_ = tree_.root();
    closed_ = false;
    try {
      SegmentReader reader(segment_path(file_, segment));
      for (StoredRecord row; reader.next(row); first_of_segment_ = false) check(row);
    } catch (const IoError& error) {
      report(expected_ - 1, fmt::format("after record {}: {}", expected_ - 1, error.what()));
      lose_track();
    } catch (const InputError& error) {
      if (segment == 1) throw;
      report(expected_ - 1, error.what());
      lose_track();
    }
    // Without a record: a writer was killed between making the file and its first commit. The next goes on.
  }

  void check(const StoredRecord& row) {
    const Digest hash = hasher_.leaf(row.bytes);
    tree_.add(hash);
    const bool whole =
        row.well_typed && row.hash.size() == hash.size() &&
        std::equal(hash.begin(), hash.end(), reinterpret_cast<const uint8_t*>(row.hash.data()));
    if (!whole)
      report(row.sequence,
             fmt::format("record {} was changed: its bytes do not have its hash", row.sequence));
    check_place(row);
    expected_ = row.sequence + 1;
    if (tree_.count() == anchor_.count) anchored_root_ = tree_.root();
    RecordFields fields;
    try {
      fields = parse_record(row.bytes);
    } catch (const InputError& error) {
      if (whole) report(row.sequence, fmt::format("record {} is none: {}", row.sequence, error.what()));
      return;
    }
    // Of a record that is known to be changed no further word is believed.
    if (whole) check_fields(row, fields);
    follow_chain(row, fields, whole, hash);
    last_ = hash;
    result_.last = hash;
  }

  void check_place(const StoredRecord& row) {
    if (row.sequence == expected_ || gap_) {
      gap_ = false;
    } else if (row.sequence == expected_ + 1) {
      report(expected_, fmt::format("record {} is missing", expected_));
    } else if (row.sequence > expected_) {
      report(expected_, fmt::format("records {} to {} are missing", expected_, row.sequence - 1));
    } else {
      report(row.sequence, fmt::format("record {} comes after record {}", row.sequence, expected_ - 1));
    }
  }

  void check_fields(const StoredRecord& row, const RecordFields& fields) {
    if (fields.sequence != row.sequence)
      report(row.sequence, fmt::format("in the place of record {} stands record {}: inserted or moved",
                                       row.sequence, fields.sequence));
    if (fields.has_payload != row.has_payload)
      report(row.sequence, fmt::format("the payload of record {} was {}", row.sequence,
                                       row.has_payload ? "added" : "removed"));
    else if (row.has_payload && hasher_.plain(row.payload) != fields.payload)
      report(row.sequence, fmt::format("the payload of record {} was changed", row.sequence));
    check_segment(row, fields);
  }

  void check_segment(const StoredRecord& row, const RecordFields& fields) {
    if (!first_of_segment_ && closed_)
      report(row.sequence, fmt::format("record {} was added to a closed segment", row.sequence));
    closed_ = fields.kind == kSegmentClose;
    const bool opens = fields.kind == kSegmentOpen;
    if (opens != first_of_segment_) {
      report(row.sequence,
             fmt::format("record {} {} open a segment", row.sequence, opens ? "must not" : "must"));
    } else if (opens) {
      check_opening(row, nlohmann::json::parse(fields.data));
    }
  }

  /// The opening as it must be after the segments before it.
  void check_opening(const StoredRecord& row, const nlohmann::json& data) {
    const bool found_before = !result_.problems.empty();
    const auto hold = [&](const char* key, const std::string& expected) {
      const auto found = data.find(key);
      if (found != data.end() && *found == expected) return;
      report(
          row.sequence,
          fmt::format("segment {} says that before it {} was {}, and it is {}: records there were changed, "
                      "removed or added",
                      number_, key, found == data.end() ? "nothing" : found->dump(), expected));
    };
    hold("format", "1");
    hold("segment", std::to_string(number_));
    if (found_before || lost_track_) return;
    hold("count", std::to_string(tree_.count() - 1));
    hold("last", to_hex(last_));
    hold("root", to_hex(root_before_));
  }

  void follow_chain(const StoredRecord& row, const RecordFields& fields, bool whole, const Digest& hash) {
    ChainState& chain = runs_[std::string(fields.run)];
    const bool follows = fields.previous == chain.last && fields.index == chain.index;
    if (whole && !follows && (chain.known || !lost_track_))
      report(row.sequence, broken_chain(row.sequence, fields.index - chain.index));
    // The next one refers to the hash that a changed record had.
    chain.last = hash;
    if (!whole && row.hash.size() == hash.size())
      std::copy(row.hash.begin(), row.hash.end(), reinterpret_cast<char*>(chain.last.data()));
    chain.known = true;
    chain.index = fields.index + 1;
    if (chain.summary.records++ == 0) chain.summary.first_ns = fields.time_ns;
    chain.summary.last_ns = fields.time_ns;
  }

  static std::string broken_chain(int64_t sequence, int64_t skipped) {
    if (skipped == 1) return fmt::format("before record {} a record of its run is missing", sequence);
    if (skipped > 1)
      return fmt::format("before record {} {} records of its run are missing", sequence, skipped);
    return fmt::format("record {} does not follow the one of its run before it", sequence);
  }

  void check_anchor() {
    if (!anchor_.count && !anchor_.root) return;
    segment_ = file_.filename().string();
    const int64_t there = tree_.count();
    const int64_t count = anchor_.count.value_or(there);
    if (!anchor_.count) anchored_root_ = tree_.root();
    if (count > there) {
      report(0, fmt::format("the end was cut off: {} records are there, the anchor counts {}", there, count));
    } else if (anchor_.root && anchor_.root != anchored_root_) {
      report(0,
             fmt::format("the first {} records are not those of the anchor: their root is another", count));
    } else {
      result_.anchored = true;
    }
  }

  const fs::path& file_;
  const Anchor& anchor_;
  const size_t most_problems_;
  Verification result_;
  RecordHasher hasher_;
  MerkleTree tree_;
  std::unordered_map<std::string, ChainState> runs_;
  std::string segment_;
  int number_ = 1;
  int64_t expected_ = 1;
  Digest last_{}, root_before_{};
  std::optional<Digest> anchored_root_;
  bool first_of_segment_ = false, closed_ = false;
  bool gap_ = false;         ///< the number of the next record is not known
  bool lost_track_ = false;  ///< something before could not be read
};

}  // namespace

Verification verify(const fs::path& file, const Anchor& anchor, size_t most_problems) {
  return Verifier(file, anchor, most_problems).run();
}

std::string verify_command(std::string_view place, const Verification& found) {
  return fmt::format("qtf audit verify {} --count {} --root {}", place, found.count, to_hex(found.root));
}

}  // namespace qtf::audit
