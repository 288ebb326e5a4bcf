// What `qtf train` wrote about a run (metrics.jsonl in its model folder), read back for `qtf report`.
// docs/model-format.md specifies the lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace qtf::cli {

/// What stands for a number that the file lacks.
inline constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// An optimizer step. Loss in nats a token.
struct StepMetrics {
  int64_t step = 0;
  double seconds = kMissing;
  double loss = kMissing;
  double learning_rate = kMissing;
  double tokens_per_second = kMissing;
  double grad_norm = kMissing;
};

/// A measurement on the validation text.
struct ValidMetrics {
  int64_t step = 0;
  double seconds = kMissing;
  double loss = kMissing;
  double stderr_loss = kMissing;
  double perplexity = kMissing;
  double word_perplexity = kMissing;
  double bits_per_byte = kMissing;
  double routed_share = kMissing;  ///< of the tokens, with a quantum layer
};

/// One run. An unfinished one lacks what only the end tells.
struct RunMetrics {
  std::string name;
  std::vector<StepMetrics> steps = {};
  std::vector<ValidMetrics> valid = {};
  bool finished = false;
  double parameters = kMissing;
  double dense_parameters = kMissing;
  double ratio = kMissing;
  double bytes = kMissing;
  double macs_per_token = kMissing;
  std::string sample = {};
  /// The best weights on the whole validation text, measured at the end.
  ValidMetrics final_best = {};

  /// final_best, or, before the end, the measurement of lowest loss; all missing if there is none.
  ValidMetrics best() const;
  /// Seconds of training so far.
  double seconds() const;
  /// Median over the steps.
  double tokens_per_second() const;
};

/// Parses the lines of a metrics file. A last line without its end (a killed run) is left out; after a
/// resume, lines of steps that were done again replace the older ones. Throws InputError with the line's
/// number.
RunMetrics parse_metrics(std::string_view lines, std::string_view place);

/// Reads `folder`/metrics.jsonl. Throws InputError if there is none, naming the folder.
RunMetrics read_run(const std::filesystem::path& folder);

}  // namespace qtf::cli
