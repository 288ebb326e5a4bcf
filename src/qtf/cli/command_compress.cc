#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <optional>
#include <ostream>

#include "qtf/audit/fields.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/base/progress.h"
#include "qtf/cli/calibration_input.h"
#include "qtf/cli/compress_report.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/model_card.h"
#include "qtf/cli/new_model_folder.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/stop_signal.h"
#include "qtf/compress/compress.h"
#include "qtf/compress/healing.h"
#include "qtf/model/execution_plan.h"
#include "qtf/model/model_files.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/text/corpus.h"
#include "qtf/text/token_file.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;
using compress::Calibration;
using compress::Sequences;

/// Ratios or a count, as the most parameters of each level, increasing.
std::vector<int64_t> target_sizes(const Arguments& arguments, int64_t dense) {
  const int given =
      arguments.given("--ratio") + arguments.given("--max-params") + arguments.given("--levels");
  if (given == 0) throw UsageError("compress: give --ratio R, --max-params N or --levels R,R,…");
  if (arguments.given("--ratio") && arguments.given("--max-params"))
    throw UsageError("--ratio and --max-params contradict each other; give one");
  if (arguments.given("--levels") && given > 1)
    throw UsageError("--levels names every size itself; leave --ratio and --max-params out");
  if (arguments.given("--max-params")) return {arguments.integer("--max-params")};
  const auto size = [&](double ratio) { return static_cast<int64_t>(static_cast<double>(dense) / ratio); };
  if (arguments.given("--ratio")) return {size(arguments.number("--ratio"))};
  std::vector<int64_t> sizes;
  const std::string text = arguments.text("--levels");
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    char* stop = nullptr;
    const double ratio = std::strtod(item.c_str(), &stop);
    if (item.empty() || *stop != '\0' || !(ratio >= 1) || !std::isfinite(ratio))
      throw_input_error("--levels", "expected ratios of at least 1 such as 1.5,2,3,4, got '{}'", text);
    sizes.push_back(size(ratio));
    begin = end + 1;
  }
  std::sort(sizes.begin(), sizes.end());
  if (sizes.size() > 4 || std::adjacent_find(sizes.begin(), sizes.end()) != sizes.end())
    throw_input_error("--levels", "expected 1 to 4 different ratios, got '{}'", text);
  return sizes;
}

// Tokens of a text that the report's figures are measured on.
constexpr int64_t kMeasuredTokens = 16384;
constexpr int64_t kTimedTokens = 4096;

/// A text on which the models are compared.
class MeasuringText {
 public:
  MeasuringText(std::string name, const fs::path& path, const Arguments& arguments,
                const model::LoadedModel& loaded)
      : name_(std::move(name)) {
    if (!arguments.given("--separator")) {
      file_.emplace(text::tokenize_corpus(path, *loaded.tokenizer));
      return;
    }
    const text::Corpus corpus(path);
    for (const std::string_view whole : corpus.texts()) {
      for (const std::string_view document : text::split_documents(whole, arguments.text("--separator"))) {
        if (static_cast<int64_t>(documents_.tokens.size()) >= kMeasuredTokens) break;
        loaded.tokenizer->encode(document, documents_.tokens);
        documents_.ends.push_back(static_cast<int64_t>(documents_.tokens.size()));
      }
    }
  }

  /// The original's figures come from one pass; another model's beside the original, and its speed from some
  /// of the text alone.
  MeasuredText measure(std::string model_name, int64_t parameters, const model::Transformer<float>& model,
                       int level, const model::Transformer<float>& original, ThreadPool& pool) const {
    const bool other = &model != &original;
    const train::Evaluation whole =
        evaluate(model, level, kMeasuredTokens, pool, other ? &original : nullptr);
    const train::Evaluation timed = other ? evaluate(model, level, kTimedTokens, pool, nullptr) : whole;
    MeasuredText measured{std::move(model_name), name_};
    measured.parameters = parameters;
    measured.perplexity = whole.perplexity();
    measured.standard_error = whole.standard_error;
    measured.tokens = whole.tokens, measured.context = whole.context, measured.stride = whole.stride;
    measured.tokens_per_second = static_cast<double>(timed.tokens) / timed.seconds;
    if (other) measured.kl_divergence = whole.kl_divergence, measured.same_top = whole.same_top;
    return measured;
  }

 private:
  train::Evaluation evaluate(const model::Transformer<float>& model, int level, int64_t max_tokens,
                             ThreadPool& pool, const model::Transformer<float>* other) const {
    train::EvaluateOptions options;
    options.max_tokens = max_tokens;
    options.level = level;
    return file_ ? train::evaluate(model, {&*file_, 0, file_->size()}, options, pool, other)
                 : train::evaluate(model, documents_, options, pool, other);
  }

  std::string name_;
  std::optional<text::TokenFile> file_;
  train::Documents documents_;
};

void end_if_stopped(const StopSignal& stop) {
  if (const int signal = stop.number()) throw ExitStatus(128 + signal);
}

/// Null if it brought nothing. The folder gets the run's metrics.jsonl.
std::unique_ptr<model::Transformer<float>> heal(const Arguments& arguments,
                                                const model::Transformer<float>& model,
                                                const model::Transformer<float>& original,
                                                std::shared_ptr<const text::Tokenizer> tokenizer,
                                                const NewModelFolder& folder, const StopSignal& stop,
                                                ThreadPool& pool) {
  const text::TokenFile text = text::tokenize_corpus(arguments.text("--heal"), *tokenizer);
  compress::HealingOptions options;
  options.minutes = arguments.number("--heal-minutes");
  options.block_share = arguments.number("--heal-blocks");
  options.learning_rate = arguments.number("--heal-rate");
  options.out = folder / "healing";
  options.progress = !arguments.flag("--quiet");
  options.stop = &stop.number();
  compress::Healing healing = compress::heal(model, original, text, std::move(tokenizer), options, pool);
  end_if_stopped(stop);
  fs::rename(options.out / "metrics.jsonl", folder / "metrics.jsonl");
  fs::remove_all(options.out);
  return std::move(healing.model);
}

int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

/// Decides by measured times which maps run as merged matrices, and lets the model run so.
model::ExecutionPlan plan_execution(model::Transformer<float>& model, const model::Transformer<float>& dense,
                                    ThreadPool& pool) {
  model::ExecutionPlan plan = model::plan_execution(model::time_maps(model, dense, pool));
  model.set_plan(plan.merged);
  model.prepare(tt::Use::inference, pool);
  return plan;
}

/// The configuration to store: with a rank policy, where there are levels to choose from and a text to fit it
/// to.
model::ModelConfig with_rank_policy(const model::Transformer<float>& model, const Sequences& text,
                                    audit::DecisionList& records, ThreadPool& pool) {
  model::ModelConfig config = model.config();
  if (!model::has_rank_choice(config) || text.rows() <= text.count()) return config;
  config.rank_policy = model::calibrate_ranks(model, text.tokens, text.ends, {}, pool);
  records.append(model::decisions(*config.rank_policy, config));
  return config;
}

void print_compression(const CompressionReport& report, const fs::path& out, std::ostream& stream) {
  const int64_t parameters = model::parameter_count(report.config);
  const int64_t dense = model::dense_parameter_count(report.config);
  stream << fmt::format("{} parameters of {} (ratio {:.2f}) by {} in {:.1f} s\n", format_count(parameters),
                        format_count(dense), static_cast<double>(dense) / static_cast<double>(parameters),
                        report.method->name, report.seconds);
  for (const MeasuredText& t : report.texts)
    stream << fmt::format(
        "{:<24} {:<12} perplexity {:8.3f}, KL {:.4f} nats/token, same top token {:5.1f} %\n", t.model, t.text,
        t.perplexity, t.kl_divergence, 100 * t.same_top);
  if (!report.config.plan.empty())
    stream << fmt::format(
        "{} of {} factored maps run as merged matrices, which are faster on this machine (qtf info says "
        "which)\n",
        report.config.plan.size(), report.config.shapes.size());
  stream << fmt::format("The model is in {}, and what it lost where in {}\n", out.string(),
                        (out / kReportFile).string());
}

/// What was compressed, and with what.
nlohmann::json made_of(const CompressionReport& report, const Calibration& calibration) {
  return {{"source", fs::path(report.source).filename().string()},
          {"source_hash", model::model_hash(report.source)},
          {"method", report.method->name},
          {"calibration_text", calibration.text_sha256},
          {"calibration_tokens", std::to_string(calibration.tokens)}};
}

nlohmann::json figures_of(const CompressionReport& report) {
  nlohmann::json texts = nlohmann::json::array();
  for (const MeasuredText& t : report.texts)
    texts.push_back({{"model", t.model},
                     {"text", t.text},
                     {"parameters", std::to_string(t.parameters)},
                     {"perplexity", fmt::format("{:.3f}", t.perplexity)},
                     {"perplexity_bits", audit::float_bits(t.perplexity)},
                     {"nats_error_bits", audit::float_bits(t.standard_error)},
                     {"tokens", std::to_string(t.tokens)},
                     {"context", std::to_string(t.context)},
                     {"stride", std::to_string(t.stride)},
                     {"kl_divergence_bits", audit::float_bits(t.kl_divergence)},
                     {"same_top_bits", audit::float_bits(t.same_top)}});
  return {{"parameters", std::to_string(model::parameter_count(report.config))},
          {"dense_parameters", std::to_string(model::dense_parameter_count(report.config))},
          {"bytes", std::to_string(report.bytes)},
          {"texts", texts}};
}

/// Matrices come and go in many sizes: each goes back to the system at once, where the allocator would keep a
/// third of the peak between others (measured at 10 M parameters).
void give_memory_back() {
  constexpr int kBytes = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kBytes);
}

void run_compress(const Arguments& arguments, const Streams& streams) {
  give_memory_back();
  const auto begin = std::chrono::steady_clock::now();
  const fs::path out = new_model_path(arguments, "compress");
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  model::LoadedModel loaded = open_model(arguments.text("MODEL"), "compress");
  compress::check_can_compress(loaded.model->config());
  const int64_t dense_parameters = model::dense_parameter_count(loaded.model->config());

  compress::CompressOptions options;
  options.method = &compress::find_method(arguments.text("--method"));
  options.max_parameters = target_sizes(arguments, dense_parameters);
  if (options.method->kind != tt::ShapeKind::chain && options.max_parameters.size() > 1)
    throw_input_error("compress", "--method {} has no nested levels; chain has", options.method->name);
  options.allocations = static_cast<int>(arguments.integer("--allocations"));
  if (arguments.given("--heal") != arguments.given("--heal-minutes"))
    throw UsageError("--heal FILE and --heal-minutes M belong together; give both");
  const CalibrationInput input = read_calibration(arguments, loaded, "compress");

  std::optional<Progress> progress;
  if (!arguments.flag("--quiet")) progress.emplace("compress", 1000);
  const auto show = [&](double share, std::string_view what) {
    if (progress) progress->update(static_cast<int64_t>(1000 * share), std::string(what));
  };
  show(0, "calibrating");
  const auto original = compress::into_dense(std::move(loaded.model), pool);
  Calibration calibration = input.stored ? compress::load_calibration(*input.stored, original->config())
                                         : compress::calibrate(*original, input.text, pool);
  if (!input.stored) calibration.text_sha256 = input.sha256;
  options.progress = [&](double share, std::string_view what) { show(0.3 + 0.6 * share, what); };
  compress::Compressed result = compress::compress(*original, calibration, input.text, options, pool);
  CompressionReport report;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  show(0.9, "timing");
  const model::ExecutionPlan plan = plan_execution(*result.model, *original, pool);
  result.decisions.append(model::decisions(plan));
  show(0.95, "measuring");

  report.name = out.filename().string();
  report.source = arguments.text("MODEL");
  report.method = options.method;
  report.result = &result;
  report.config = result.model->config();
  report.dense_bytes = dense_parameters * static_cast<int64_t>(sizeof(float));
  report.calibration_tokens = calibration.tokens;
  std::vector<MeasuringText> texts;
  if (!input.stored) texts.emplace_back("calibration", arguments.text("--calibrate"), arguments, loaded);
  if (arguments.given("--test")) texts.emplace_back("test", arguments.text("--test"), arguments, loaded);
  const int levels = model::level_count(report.config);
  const auto measure = [&](const std::string& name, const model::Transformer<float>& model) {
    const int64_t stored = model::parameter_count(model.config());
    for (const MeasuringText& text : texts) {
      report.texts.push_back(text.measure(name, stored, model, 0, *original, pool));
      for (int level = levels - 1; level > 0 && &model != original.get(); --level)
        report.texts.push_back(
            text.measure(fmt::format("{}, level {} of {}", name, level, levels),
                         model::parameter_count(model::level_config(model.config(), level)), model, level,
                         *original, pool));
    }
  };
  measure("before", *original);
  measure("compressed", *result.model);

  // Until here nothing is written: whoever stops it leaves nothing behind.
  const StopSignal stop;
  NewModelFolder folder(out, "compress");
  std::unique_ptr<model::Transformer<float>> healed;
  if (arguments.given("--heal")) {
    progress.reset();
    report.heal_minutes = arguments.number("--heal-minutes");
    healed = heal(arguments, *result.model, *original, loaded.tokenizer, folder, stop, pool);
    if (healed) {
      healed->set_plan(plan.merged);  // the shapes are the same
      healed->prepare(tt::Use::inference, pool);
      report.config = healed->config();
      measure("healed", *healed);
    } else {
      streams.err << "Healing brought nothing: the model stays as it was compressed\n";
    }
  }
  const model::Transformer<float>& model = healed ? *healed : *result.model;
  model::save_description(folder.path(), with_rank_policy(model, input.text, result.decisions, pool),
                          *loaded.tokenizer);
  model::save_weights(folder.path(), model.layout(), model.parameters());
  compress::save_calibration(folder / "calibration.safetensors", calibration);
  write_file_atomically(folder / "decisions.jsonl", result.decisions.lines);
  report.bytes = static_cast<int64_t>(fs::file_size(folder / "model.safetensors"));
  report.peak_memory = peak_memory();
  const nlohmann::ordered_json json = to_json(report);
  write_file_atomically(folder / "report.json", json.dump(1) + "\n");
  write_file_atomically(folder / kReportFile, compression_page(report));
  record_start(folder.path(), "compress", made_of(report, calibration), result.decisions);
  record_made(folder.path(), figures_of(report));
  write_model_card(folder.path(), report.name, report.config);
  end_if_stopped(stop);
  folder.keep();

  show(1, "done");
  progress.reset();
  if (arguments.flag("--json"))
    streams.out << json.dump() << "\n";
  else
    print_compression(report, out, streams.out);
  if (input.stored && model::has_rank_choice(report.config))
    streams.err << "Without a text the ranks have no policy yet; qtf calibrate gives them one\n";
}

}  // namespace

extern const Command kCompressCommand;
const Command kCompressCommand{
    .name = "compress",
    .summary = "Make a smaller model of a trained one",
    .details =
        "Passes a calibration text through the model, decides every map's rank so that the whole model loses "
        "least within the budget, and decomposes the weights. The calibration's moments are stored in the "
        "new "
        "folder: give that folder as --calibrate to compress to another size without the text (without "
        "error-correcting targets then). --levels makes one model of several nested sizes.",
    .example = {.call = "qtf compress book-model --out book-small --calibrate book.txt --ratio 2"},
    .options = {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
                {.name = "--out", .value = "DIR", .help = "the model folder to write", .required = true},
                calibrate_option(true),
                calibrate_tokens_option(),
                {.name = "--separator",
                 .value = "STR",
                 .help = "split the text here and take each document alone, cut at the context"},
                {.name = "--ratio",
                 .type = ValueType::number,
                 .value = "R",
                 .help = "dense parameters / parameters of the whole model",
                 .min = 1},
                {.name = "--max-params",
                 .type = ValueType::integer,
                 .value = "N",
                 .help = "most parameters of the whole model, instead of --ratio",
                 .min = 1},
                {.name = "--levels",
                 .value = "R,R,…",
                 .help =
                     "nested sizes of one model as ratios, such as 1.5,2,3,4; the file has the largest's"},
                {.name = "--method",
                 .value = "NAME",
                 .initial = "chain",
                 .help = "how maps are decomposed",
                 .choices = {"chain", "whitened-svd", "svd", "btt", "mpo"}},
                {.name = "--allocations",
                 .type = ValueType::integer,
                 .value = "N",
                 .initial = "1",
                 .help = "how often ranks are allocated (chain): from the second time on by losses measured "
                         "in the attempt before",
                 .min = 1,
                 .max = 4},
                {.name = "--test", .value = "FILE", .help = "another text for the report's figures"},
                {.name = "--heal",
                 .value = "FILE",
                 .help =
                     "then train on this text, with the original as teacher; the best by its last twentieth"},
                {.name = "--heal-minutes",
                 .type = ValueType::number,
                 .value = "M",
                 .help = "how long; ends earlier when it no longer helps",
                 .min = 0},
                {.name = "--heal-blocks",
                 .type = ValueType::number,
                 .value = "SHARE",
                 .initial = "0",
                 .help = "share of the minutes in which blocks are healed one by one, before the whole",
                 .min = 0,
                 .max = 0.9},
                {.name = "--heal-rate",
                 .type = ValueType::number,
                 .value = "X",
                 .initial = "0.001",
                 .help = "largest step size of healing",
                 .min = 0},
                threads_option(),
                {.name = "--quiet", .type = ValueType::flag, .help = "no progress bar"},
                {.name = "--json", .type = ValueType::flag, .help = "print the report as one JSON object"}},
    .run = run_compress,
};

}  // namespace qtf::cli
