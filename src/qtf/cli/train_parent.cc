#include "qtf/cli/train_parent.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "qtf/model/gauge.h"
#include "qtf/model/rank_choice.h"

namespace qtf::cli {

namespace fs = std::filesystem;

namespace {

// Tokens that the parent is calibrated on, in windows no longer than this.
constexpr int64_t kCalibrationTokens = 16384;

/// Settings that the dense part does not share. A quantum layer comes after it, as compression takes none.
constexpr std::string_view kOfTheRest[] = {"--ratio",       "--ratio-shape",    "--levels",
                                           "--dense-first", "--teacher-weight", "--teacher-temperature",
                                           "--quantum",     "--sandwich",       "--rank-policy",
                                           "--mean-rank"};

/// What says otherwise how chains begin or which ranks they have.
constexpr const char* kOtherBeginnings[] = {"--from", "--teacher", "--guided", "--shape", "--richness"};

Arguments running(const Arguments& given, const fs::path& out, bool resume) {
  Arguments::Values values = {{"--out", {out.string()}}};
  for (const char* flag : {"--threads", "--quiet", "--profile", "--checkpoint-seconds", "--checkpoint-steps"})
    if (given.given(flag)) values[flag] = given.list(flag);
  if (resume) values["--resume"] = {""};
  return Arguments(train_options(), std::move(values));
}

model::ModelConfig with_ratio(const Arguments& settings, model::ModelConfig dense) {
  model::apply_ratio(dense, settings.number("--ratio"), tt::ShapeKind::chain, {},
                     static_cast<int>(settings.integer("--levels")));
  return dense;
}

/// The most parameters of each level: what levels at equal steps of every rank would store.
std::vector<int64_t> level_sizes(const Arguments& settings, const model::ModelConfig& dense) {
  const model::ModelConfig whole = with_ratio(settings, dense);
  std::vector<int64_t> sizes;
  const int levels = model::level_count(whole);
  for (int level = 1; level < levels; ++level)
    sizes.push_back(model::stored_parameter_count(model::level_config(whole, level)));
  sizes.push_back(static_cast<int64_t>(static_cast<double>(model::dense_parameter_count(dense)) /
                                       settings.number("--ratio")));
  return sizes;
}

}  // namespace

bool begins_dense(const Arguments& settings) {
  const auto other = std::find_if(std::begin(kOtherBeginnings), std::end(kOtherBeginnings),
                                  [&](const char* flag) { return settings.given(flag); });
  const bool chains = settings.given("--ratio") && settings.text("--ratio-shape") == "chain";
  if (settings.given("--dense-first") && settings.number("--dense-first") > 0) {
    if (!chains) throw UsageError("--dense-first is for chains by --ratio; add --ratio R, or leave it out");
    if (other != std::end(kOtherBeginnings))
      throw UsageError(fmt::format("--dense-first and {} contradict each other; give one", *other));
  }
  return chains && other == std::end(kOtherBeginnings) && settings.number("--dense-first") > 0;
}

fs::path parent_folder(const Arguments& given) {
  return fs::path(given.text("--out")) / "parent";
}

void set_length(const Arguments& settings, RunPart part, train::TrainOptions& options) {
  const double first = settings.number("--dense-first");
  const double share = part == RunPart::parent ? first : 1 - first;
  const int64_t first_steps = std::llround(first * static_cast<double>(options.steps));
  if (options.steps > 0)
    options.steps = std::max<int64_t>(1, part == RunPart::parent ? first_steps : options.steps - first_steps);
  options.epochs *= share;
  options.minutes *= share;
}

Arguments parent_settings(const Arguments& settings) {
  Arguments::Values values;
  for (const Option& option : train_options()) {
    const bool of_the_rest =
        std::find(std::begin(kOfTheRest), std::end(kOfTheRest), option.name) != std::end(kOfTheRest);
    if (settings.given(option.name) && !of_the_rest)
      values[std::string(option.name)] = settings.list(option.name);
  }
  train::TrainOptions length;
  if (settings.given("--steps")) length.steps = settings.integer("--steps");
  if (settings.given("--epochs")) length.epochs = settings.number("--epochs");
  if (settings.given("--minutes")) length.minutes = settings.number("--minutes");
  set_length(settings, RunPart::parent, length);
  if (length.steps > 0) values["--steps"] = {fmt::format("{}", length.steps)};
  if (length.epochs > 0) values["--epochs"] = {fmt::format("{}", length.epochs)};
  if (length.minutes > 0) values["--minutes"] = {fmt::format("{}", length.minutes)};
  return Arguments(train_options(), std::move(values));
}

Arguments parent_running(const Arguments& given, bool resume) {
  return running(given, parent_folder(given), resume);
}

Arguments rest_running(const Arguments& given) {
  return running(given, given.text("--out"), true);
}

bool has_parent(const Arguments& given) {
  return fs::exists(parent_folder(given) / "train.json");
}

// The model card is written last.
bool has_finished_parent(const Arguments& given) {
  return fs::exists(parent_folder(given) / "README.md");
}

void check_ratio(const Arguments& settings, const model::ModelConfig& dense) {
  if (settings.given("--quantum")) model::parse_quantum(settings.text("--quantum"));
  const model::ModelConfig config = with_ratio(settings, dense);
  model::ModelConfig levelled = config;
  model::apply_levels(levelled, static_cast<int>(settings.integer("--levels")));
}

std::unique_ptr<model::Transformer<float>> compress_parent(const Arguments& settings,
                                                           const model::Transformer<float>& parent,
                                                           const train::TokenRange& text, ThreadPool& pool,
                                                           audit::DecisionList& decisions) {
  const auto original = compress::dense_copy(parent, pool);
  const compress::Sequences windows = compress::windows_of(
      text, std::min(original->config().context, compress::kCalibrationWindow), kCalibrationTokens);
  const compress::Calibration calibration = compress::calibrate(*original, windows, pool);
  compress::CompressOptions options;
  options.max_parameters = level_sizes(settings, original->config());
  const compress::Compressed result = compress::compress(*original, calibration, windows, options, pool);
  decisions.append(result.decisions);
  return model::with_free_gauge(*result.model);
}

train::RunBefore run_before(const fs::path& parent) {
  train::RunBefore before;
  std::istringstream lines(read_file(parent / "metrics.jsonl"));
  for (std::string text; std::getline(lines, text);) {
    auto line = nlohmann::ordered_json::parse(text, nullptr, false);
    if (!line.is_object()) continue;
    const std::string event = line.value("event", "");
    if (event == "end")
      before.steps = line.value("step", int64_t{0}), before.seconds = line.value("seconds", 0.0);
    if (event == "step" || event == "valid") before.metrics.push_back(std::move(line));
  }
  return before;
}

}  // namespace qtf::cli
