// What the tests of the audit trail share: small files, and hands that meddle with them.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "qtf/audit/store.h"
#include "qtf/audit/verify.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::audit {

/// A file of one run: an opening, `records` small records, every third with a payload.
inline void write_sample(const std::filesystem::path& file, int records, const LogOptions& options = {}) {
  Log log(file, options);
  for (int i = 0; i < records; ++i) {
    const nlohmann::json data = {{"n", std::to_string(i)}, {"what", {"caf\xC3\xA9", i}}};
    if (i % 3 == 0)
      log.append("test.payload", data, std::string(5, static_cast<char>(i)));
    else
      log.append("test", data);
    log.flush();
  }
}

/// Runs SQL on a segment, as someone with a text editor for databases would.
inline void meddle(const std::filesystem::path& segment, const std::string& sql) {
  Database database(segment, OpenMode::write, 1000);
  database.run("PRAGMA synchronous=OFF");
  database.run(sql.c_str());
}

/// Everything that is stored, one text a row, segment after segment.
inline std::vector<std::string> stored_rows(const std::filesystem::path& file) {
  std::vector<std::string> rows;
  for (int segment : present_segments(file)) {
    SegmentReader reader(segment_path(file, segment));
    for (StoredRecord row; reader.next(row);) {
      rows.push_back(std::to_string(row.sequence));
      for (std::string_view part : {row.bytes, row.hash, row.payload}) rows.back().append("|").append(part);
    }
  }
  return rows;
}

inline std::string problems_of(const Verification& verification) {
  std::string text;
  for (const VerifyProblem& problem : verification.problems)
    text += problem.segment + " " + std::to_string(problem.sequence) + ": " + problem.what + "\n";
  return text;
}

}  // namespace qtf::audit
