#include "qtf/cli/run_records.h"

#include <algorithm>
#include <array>
#include <bit>
#include <sstream>

#include "qtf/audit/fields.h"
#include "qtf/audit/replay.h"
#include "qtf/base/file.h"
#include "qtf/cli/cli.h"
#include "qtf/cli/help.h"
#include "qtf/cli/recorded_run.h"
#include "qtf/model/model_files.h"

namespace qtf::cli {

namespace {

nlohmann::json histogram(const std::vector<uint8_t>& values) {
  std::array<int64_t, 256> counts{};
  for (const uint8_t value : values) ++counts[value];
  nlohmann::json json = nlohmann::json::object();
  for (size_t value = 0; value < counts.size(); ++value)
    if (counts[value]) json[std::to_string(value)] = std::to_string(counts[value]);
  return json;
}

/// to += the columns [begin, begin + count) of from[layers, rows]; nothing where there is none.
template <class T>
void append_columns(const std::vector<T>& from, int64_t rows, int64_t begin, int64_t count,
                    std::vector<T>& to) {
  for (auto row = from.begin(); row != from.end(); row += rows)
    to.insert(to.end(), row + begin, row + begin + count);
}

}  // namespace

Option audit_file_option() {
  return {.name = "--audit",
          .value = "FILE",
          .help =
              "record the run's decisions in this audit file (see qtf audit); without it the run is "
              "unrecorded"};
}

Option audit_level_option() {
  return {.name = "--audit-level",
          .value = "LEVEL",
          .initial = "summary",
          .help = "of --audit: histograms and hashes of the decisions, or every one",
          .choices = {"summary", "full"}};
}

Option record_text_option() {
  return {.name = "--record-text",
          .type = ValueType::flag,
          .help = "of --audit: keep texts readable too; else only their HMACs under a key in FILE.keys"};
}

std::string packed_decisions(const TokenColumns& columns) {
  std::string bytes(columns.levels.begin(), columns.levels.end());
  bytes.append(columns.routed.begin(), columns.routed.end());
  return bytes;
}

std::string packed_columns(const TokenColumns& columns) {
  std::string bytes;
  bytes.reserve(4 * (columns.entropies.size() + columns.scores.size()));
  for (const auto* numbers : {&columns.entropies, &columns.scores})
    for (const float number : *numbers) {
      const auto bits = std::bit_cast<uint32_t>(number);
      for (int byte = 0; byte < 4; ++byte) bytes += static_cast<char>(bits >> (8 * byte) & 0xff);
    }
  return bytes + packed_decisions(columns);
}

std::unique_ptr<RunRecorder> RunRecorder::make(const Arguments& arguments, std::string_view command) {
  if (arguments.given("--audit")) return std::unique_ptr<RunRecorder>(new RunRecorder(arguments, command));
  for (const char* option : {"--audit-level", "--record-text"})
    if (arguments.given(option)) throw UsageError(fmt::format("{} needs --audit FILE; add it", option));
  return nullptr;
}

RunRecorder::RunRecorder(const Arguments& arguments, std::string_view command)
    : arguments_(arguments),
      command_(command),
      log_(arguments.text("--audit")),
      key_(arguments.text("--audit"), log_.run()),
      full_(arguments.text("--audit-level") == "full"),
      with_text_(arguments.flag("--record-text")) {}

void RunRecorder::add_text(nlohmann::json& data, std::span<const int32_t> ids,
                           const std::string& text) const {
  data["tokens"] = std::to_string(ids.size());
  data["tokens_hmac"] = key_.of_tokens(ids);
  if (with_text_) data["text"] = text;
}

void RunRecorder::start(std::span<const int32_t> given, const std::string& text, nlohmann::json facts) {
  nlohmann::json options = nlohmann::json::object();
  for (const Option* option : recorded_options(command_))
    if (arguments_.given(option->name)) options[std::string(option->name)] = arguments_.list(option->name);
  facts["command"] = command_;
  facts["qtf"] = version();
  facts["model_hash"] = model::model_hash(arguments_.text("MODEL"));
  facts["options"] = options;
  facts["level"] = full_ ? "full" : "summary";
  add_text(facts, given, text);
  log_.append("run.start", facts);
  log_.flush();
}

void RunRecorder::add(const TokenColumns& columns) {
  const std::string decisions = packed_decisions(columns);
  const nlohmann::json data = {{"sequence", std::to_string(columns.sequence)},
                               {"position", std::to_string(columns.position)},
                               {"tokens", std::to_string(columns.tokens)},
                               {"layers", std::to_string(columns.layers)},
                               {"levels", histogram(columns.levels)},
                               {"routed", histogram(columns.routed)},
                               {"decisions", sha256_hex(decisions)}};
  if (full_)
    log_.append("tokens", data, packed_columns(columns));
  else
    log_.append("tokens", data);
}

void RunRecorder::evaluated(const train::Evaluation& evaluation, int64_t layers) {
  for (size_t sequence = 0; sequence < evaluation.trace.size(); ++sequence) {
    const train::WindowTrace& window = evaluation.trace[sequence];
    for (int64_t begin = 0; begin < window.rows; begin += kTokensOfRecord) {
      const int64_t tokens = std::min(kTokensOfRecord, window.rows - begin);
      TokenColumns columns{static_cast<int64_t>(sequence), begin, layers, tokens, {}, {}, {}, {}};
      append_columns(window.levels, window.rows, begin, tokens, columns.levels);
      append_columns(window.routed, window.rows, begin, tokens, columns.routed);
      append_columns(window.entropies, window.rows, begin, tokens, columns.entropies);
      append_columns(window.scores, window.rows, begin, tokens, columns.scores);
      columns.levels.resize(static_cast<size_t>(layers * tokens));
      columns.routed.resize(static_cast<size_t>(tokens), 2);
      add(columns);
    }
  }
}

void RunRecorder::generated(const nn::KvCache<float>& cache, int64_t layers, bool has_quantum_layer) {
  for (int64_t begin = 0; begin < cache.length(); begin += kTokensOfRecord) {
    const int64_t tokens = std::min(kTokensOfRecord, cache.length() - begin);
    TokenColumns columns{sequence_, begin, layers, tokens, {}, {}, {}, {}};
    for (int64_t layer = 0; layer < layers; ++layer)
      for (int64_t t = begin; t < begin + tokens; ++t) columns.levels.push_back(cache.level(layer, t));
    for (int64_t t = begin; t < begin + tokens; ++t) {
      const bool routed = cache.routed_before(t + 1) > cache.routed_before(t);
      columns.routed.push_back(has_quantum_layer ? routed : 2);
    }
    add(columns);
  }
  ++sequence_;
}

void RunRecorder::decided(const audit::Decision& decision) {
  audit::append_decision(log_, decision);
}

void RunRecorder::end(std::span<const int32_t> written, const std::string& text, nlohmann::json facts) {
  add_text(facts, written, text);
  log_.append("run.end", facts);
  log_.flush();
}

namespace {

/// A folder that goes when it is done.
class ReplayFolder {
 public:
  ReplayFolder() : path_(std::filesystem::temp_directory_path() / ("qtf-replay-" + audit::new_run_name())) {
    std::filesystem::create_directory(path_);
  }
  ~ReplayFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ReplayFolder(const ReplayFolder&) = delete;
  ReplayFolder& operator=(const ReplayFolder&) = delete;
  std::filesystem::path file() const { return path_ / "audit"; }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::vector<std::string> replay_run(const std::filesystem::path& file, const std::string& model,
                                    const std::string& text, int64_t& records) {
  const RecordedRun run = last_run(file);
  if (audit::member(run.start, "options").contains("--max-latency-ms"))
    throw_input_error(
        "audit",
        "the run had --max-latency-ms: its decisions follow from measured times, which no other run has");
  const std::string hash = model::model_hash(model);
  if (audit::text_field(run.start, "model_hash") != hash)
    throw_input_error("audit", "{} is not the model of the run: its hash is {}, the run's {}", model, hash,
                      audit::text_field(run.start, "model_hash"));
  const ReplayFolder folder;
  std::istringstream in;
  std::ostringstream out, err;
  const bool reads = audit::text_field(run.start, "command") == "eval";
  const std::vector<std::string> words =
      call_of(run, model, reads ? text : read_file(text), folder.file().string());
  if (run_cli(words, {in, out, err}) != 0)
    throw_input_error("audit", "the run does not run again: {}", err.str());
  const RecordedRun again = last_run(folder.file());
  records = static_cast<int64_t>(run.tokens.size());
  std::vector<std::string> differences;
  if (again.tokens.size() != run.tokens.size())
    differences.push_back(fmt::format("{} records of tokens, and {} again: is it the same text?",
                                      run.tokens.size(), again.tokens.size()));
  for (size_t i = 0; i < std::min(run.tokens.size(), again.tokens.size()); ++i)
    if (run.tokens[i] != again.tokens[i])
      differences.push_back(fmt::format("the decisions of sequence {} from position {} on are others",
                                        audit::text_field(run.tokens[i], "sequence"),
                                        audit::text_field(run.tokens[i], "position")));
  return differences;
}

}  // namespace qtf::cli
