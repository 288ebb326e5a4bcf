// Runs that begin dense: `qtf train --ratio R` trains a dense model for a first share of its length,
// compresses it, and trains the chains on with the dense model as their teacher. At equal length this ends
// far below a run from random chains (docs/training.md). The dense model stays in OUT/parent.
#pragma once

#include "qtf/cli/train_setup.h"
#include "qtf/compress/compress.h"

namespace qtf::cli {

/// Whether the run begins dense: --ratio with chains, unless flags say what it begins with or how its maps
/// are shaped. Throws UsageError for --dense-first beside such flags.
bool begins_dense(const Arguments& settings);

/// The folder of the dense model.
std::filesystem::path parent_folder(const Arguments& given);

/// The length of the dense part or of the rest, in place of the whole run's.
enum class RunPart { parent, rest };
void set_length(const Arguments& settings, RunPart part, train::TrainOptions& options);

/// The dense part as a run of its own in parent_folder(): its settings, and the flags that say how it runs.
Arguments parent_settings(const Arguments& settings);
Arguments parent_running(const Arguments& given, bool resume);

/// The flags of the rest, whose folder holds train.json and the parent already.
Arguments rest_running(const Arguments& given);

/// Whether the dense part has begun, and whether it is done.
bool has_parent(const Arguments& given);
bool has_finished_parent(const Arguments& given);

/// Throws InputError if a model of this configuration cannot be made --ratio times smaller, or not with
/// --levels.
void check_ratio(const Arguments& settings, const model::ModelConfig& dense);

/// The parent compressed by --ratio, with --levels, calibrated on windows of its training text, all numbers
/// of its chains free. Not prepared. `decisions` gets each choice.
std::unique_ptr<model::Transformer<float>> compress_parent(const Arguments& settings,
                                                           const model::Transformer<float>& parent,
                                                           const train::TokenRange& text, ThreadPool& pool,
                                                           audit::DecisionList& decisions);

/// What the dense part wrote into its metrics.jsonl, for the rest to go on from.
train::RunBefore run_before(const std::filesystem::path& parent);

}  // namespace qtf::cli
