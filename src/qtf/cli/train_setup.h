// From the flags of `qtf train` to a job: texts, tokenizer, model and output folder, each checked before
// anything is written.
#pragma once

#include <memory>
#include <optional>

#include "qtf/audit/decision.h"
#include "qtf/base/file.h"
#include "qtf/cli/command.h"
#include "qtf/text/token_file.h"
#include "qtf/train/trainer.h"

namespace qtf::cli {

/// The options of `qtf train` (train_options.cc).
const std::vector<Option>& train_options();

/// What a job points into. Keep it alive while the job runs.
struct TrainSetup {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::unique_ptr<model::Transformer<float>> model, teacher;
  std::optional<text::TokenFile> train_file, valid_file;
  std::optional<FolderLock> lock;
  audit::DecisionList decisions;  ///< what was chosen for the user
  train::TrainJob job;
};

/// The run's settings: those stored in the folder of --out with --resume, else the given ones, whose --batch
/// is each rank's; from here on it is that of all. Throws InputError if there is no run to resume, or a flag
/// contradicts the stored run.
Arguments resolve_settings(const Arguments& given, int ranks = 1);

/// Writes them into the folder, for --resume.
void write_settings(const std::filesystem::path& out, const Arguments& settings);

/// Throws InputError unless the folder of a run is absent, empty, or (to resume) holds a run.
void check_out(const std::filesystem::path& out, bool resume);

/// Builds the job from resolve_settings(). Nothing is written before texts, model and options have proved to
/// fit; then the folder gets config.json, the tokenizer and train.json. `given`: for --resume and --threads.
/// ranks: with whom the job is done, null for none; this is rank 0, and returns when the others may join.
std::unique_ptr<TrainSetup> set_up_training(const Arguments& settings, const Arguments& given,
                                            ThreadPool& pool, train::Ranks* ranks, std::ostream& notes);

/// The same job on another rank, read from what rank 0 has written, once it has; nothing is written. The
/// weights are rank 0's when training begins.
std::unique_ptr<TrainSetup> join_training(const Arguments& settings, const Arguments& given, ThreadPool& pool,
                                          train::Ranks& ranks);

}  // namespace qtf::cli
