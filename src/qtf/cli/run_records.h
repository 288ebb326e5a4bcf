// What `qtf eval` and `qtf generate` record with --audit: "run.start", a "tokens" record for each 256 tokens
// of a sequence with the histograms of their levels and routes and the hash of their decisions (at the level
// `full` also the decisions themselves), and "run.end" (docs/audit.md).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "qtf/audit/decision.h"
#include "qtf/audit/store.h"
#include "qtf/audit/token_key.h"
#include "qtf/cli/command.h"
#include "qtf/nn/kv_cache.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {

/// Rows of an options table.
Option audit_file_option();
Option audit_level_option();
Option record_text_option();

/// Tokens that one record covers at most.
inline constexpr int64_t kTokensOfRecord = 256;

/// What was decided for tokens of one sequence.
struct TokenColumns {
  int64_t sequence = 0;
  int64_t position = 0;  ///< of the first token
  int64_t layers = 0, tokens = 0;
  std::vector<uint8_t> levels;   ///< [layers, tokens]; 0: none was chosen
  std::vector<uint8_t> routed;   ///< [tokens]: 0, 1, or 2 in a model without a quantum layer
  std::vector<float> entropies;  ///< [layers, tokens], or none
  std::vector<float> scores;     ///< [tokens]: what the router compared, or none
};

/// levels, then routed: a byte each.
std::string packed_decisions(const TokenColumns& columns);
/// The bits of the entropies and scores as 32-bit little-endian numbers, then packed_decisions.
std::string packed_columns(const TokenColumns& columns);

class RunRecorder {
 public:
  /// Null without --audit. Throws UsageError for --audit-level or --record-text without it, and like
  /// audit::Log.
  static std::unique_ptr<RunRecorder> make(const Arguments& arguments, std::string_view command);

  /// given: the tokens that are read before the first decision (a prompt), or none; text: as people see it,
  /// recorded with --record-text alone.
  void start(std::span<const int32_t> given, const std::string& text, nlohmann::json facts);
  /// What evaluated() needs to be kept.
  train::Trace wants() const { return full_ ? train::Trace::measures : train::Trace::decisions; }
  /// Every token that an evaluation's windows read, from its trace.
  void evaluated(const train::Evaluation& evaluation, int64_t layers);
  /// The tokens of a cache, before they are forgotten.
  void generated(const nn::KvCache<float>& cache, int64_t layers, bool has_quantum_layer);
  /// One that was taken on the way.
  void decided(const audit::Decision& decision);
  void end(std::span<const int32_t> written, const std::string& text, nlohmann::json facts);

 private:
  RunRecorder(const Arguments& arguments, std::string_view command);
  void add(const TokenColumns& columns);
  void add_text(nlohmann::json& data, std::span<const int32_t> ids, const std::string& text) const;

  const Arguments& arguments_;
  std::string command_;
  audit::Log log_;
  audit::TokenKey key_;
  bool full_ = false, with_text_ = false;
  int64_t sequence_ = 0;
};

/// Runs a recorded evaluation or generation again on a model and its text (a generation's: the prompt), and
/// compares every "tokens" record. Returns a line for each that differs. Throws InputError for a file without
/// such a run, another model or another text.
std::vector<std::string> replay_run(const std::filesystem::path& file, const std::string& model,
                                    const std::string& text, int64_t& records);

}  // namespace qtf::cli
