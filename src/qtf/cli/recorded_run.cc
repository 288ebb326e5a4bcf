#include "qtf/cli/recorded_run.h"

#include <algorithm>
#include <bit>
#include <map>

#include "qtf/audit/fields.h"
#include "qtf/cli/cli.h"

namespace qtf::cli {

namespace {

/// Options that change neither a decision nor the order of the tokens; the rest is recorded.
constexpr std::string_view kUnrecorded[] = {"MODEL",   "--text",    "--prompt",   "--audit", "--audit-level",
                                            "--json",  "--threads", "--profile",  "--trace", "--record-text",
                                            "--stats", "--against", "--decisions"};

std::vector<float> floats_of(std::string_view bytes) {
  std::vector<float> numbers;
  for (size_t at = 0; at + 4 <= bytes.size(); at += 4) {
    uint32_t bits = 0;
    for (size_t byte = 0; byte < 4; ++byte)
      bits |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + byte])) << (8 * byte);
    numbers.push_back(std::bit_cast<float>(bits));
  }
  return numbers;
}

}  // namespace

std::vector<const Option*> recorded_options(std::string_view command) {
  std::vector<const Option*> options;
  for (const Option& option : find_command(command).options)
    if (std::ranges::find(kUnrecorded, option.name) == std::end(kUnrecorded)) options.push_back(&option);
  return options;
}

RecordedRun last_run(const std::filesystem::path& file, bool with_payloads) {
  std::map<std::string, RecordedRun> runs;
  std::string last;
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      const audit::RecordFields fields = audit::parse_record(row.bytes);
      if (fields.kind != "run.start" && fields.kind != "tokens") continue;
      RecordedRun& run = runs[std::string(fields.run)];
      nlohmann::json data = nlohmann::json::parse(fields.data);
      if (fields.kind == "tokens") {
        run.tokens.push_back(std::move(data));
        run.numbers.push_back(row.sequence);
        if (with_payloads) run.payloads.emplace_back(row.payload);
      } else {
        run.start = std::move(data), run.name = fields.run;
        last = fields.run;
      }
    }
  }
  if (last.empty()) throw_input_error("audit", "{} has no recorded evaluation or generation", file.string());
  return runs[last];
}

std::vector<std::string> call_of(const RecordedRun& run, const std::string& model, const std::string& text,
                                 const std::string& audit) {
  const std::string& command = audit::text_field(run.start, "command");
  std::vector<std::string> words = {
      command, model, "--audit", audit, command == "eval" ? "--text" : "--prompt", text};
  for (const Option* option : recorded_options(command)) {
    const auto given = audit::member(run.start, "options").find(std::string(option->name));
    if (given == audit::member(run.start, "options").end()) continue;
    for (const nlohmann::json& value : *given) {
      words.emplace_back(option->name);
      if (option->type != ValueType::flag) words.push_back(value.get<std::string>());
    }
  }
  return words;
}

TokenColumns columns_of(const nlohmann::json& data, std::string_view payload) {
  TokenColumns columns{audit::integer_field(data, "sequence"),
                       audit::integer_field(data, "position"),
                       audit::integer_field(data, "layers"),
                       audit::integer_field(data, "tokens"),
                       {},
                       {},
                       {},
                       {}};
  constexpr int64_t kMost = 1 << 20;
  if (columns.layers < 1 || columns.tokens < 1 || columns.layers > kMost || columns.tokens > kTokensOfRecord)
    throw_input_error("audit", "a record tells of {} layers and {} tokens", columns.layers, columns.tokens);
  const auto rows = static_cast<size_t>(columns.layers * columns.tokens),
             tokens = static_cast<size_t>(columns.tokens), packed = rows + tokens;
  const size_t numbers = payload.size() - std::min(payload.size(), packed);
  if (payload.size() < packed || (numbers != 0 && numbers != 4 * rows && numbers != 4 * (rows + tokens)))
    throw_input_error("audit",
                      "a record's payload has {} bytes, which are not those of {} layers and {} tokens",
                      payload.size(), columns.layers, columns.tokens);
  const std::vector<float> floats = floats_of(payload.substr(0, numbers));
  const auto split = floats.begin() + static_cast<std::ptrdiff_t>(std::min(rows, floats.size()));
  columns.entropies.assign(floats.begin(), split);
  columns.scores.assign(split, floats.end());
  const std::string_view decisions = payload.substr(numbers);
  columns.levels.assign(decisions.begin(), decisions.begin() + static_cast<std::ptrdiff_t>(rows));
  columns.routed.assign(decisions.begin() + static_cast<std::ptrdiff_t>(rows), decisions.end());
  return columns;
}

}  // namespace qtf::cli
