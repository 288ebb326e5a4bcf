#include "qtf/cli/token_decisions.h"

#include <algorithm>

#include "qtf/adapt/decision_records.h"
#include "qtf/audit/fields.h"
#include "qtf/cli/cli.h"
#include "qtf/cli/rank_options.h"
#include "qtf/model/model_files.h"
#include "qtf/text/utf8.h"

namespace qtf::cli {

namespace {

constexpr const char* kTokensPlace = "explain";

}  // namespace

std::string shown_token(std::string bytes) {
  for (size_t bad; (bad = text::find_invalid_utf8(bytes)) != std::string::npos;) bytes[bad] = '.';
  for (char& c : bytes)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '.';
  return bytes;
}

DecidedTokens decide_text(const model::LoadedModel& loaded, const model::RankScheduler* scheduler,
                          const std::string& text) {
  const model::ModelConfig& config = loaded.model->config();
  std::vector<int32_t> ids;
  if (config.bos_token >= 0) ids.push_back(config.bos_token);
  // So many bytes hold more tokens than the context takes, whatever the tokenizer.
  constexpr size_t kMostBytes = 64;
  loaded.tokenizer->encode(std::string_view(text).substr(0, kMostBytes * static_cast<size_t>(config.context)),
                           ids);
  if (ids.empty()) throw_input_error(kTokensPlace, "the text is empty");
  ids.resize(std::min(ids.size(), static_cast<size_t>(config.context)));
  DecidedTokens decided = explain::decide_tokens(*loaded.model, scheduler, 0, ids);
  for (const int32_t id : ids) decided.words.emplace_back(loaded.tokenizer->token_bytes(id));
  return decided;
}

DecidedTokens recorded_tokens(const RecordedRun& run, int64_t sequence) {
  DecidedTokens decided;
  decided.sequence = sequence;
  std::vector<TokenColumns> pieces;
  for (size_t i = 0; i < run.tokens.size(); ++i) {
    if (audit::integer_field(run.tokens[i], "sequence") != sequence) continue;
    if (run.payloads.at(i).empty())
      throw_input_error(
          kTokensPlace,
          "the run was recorded at the level summary, without each token's decisions; record it with "
          "--audit-level full, or give its text: --text FILE");
    if (pieces.empty()) decided.record = run.numbers.at(i);
    pieces.push_back(columns_of(run.tokens[i], run.payloads[i]));
    if (pieces.back().position != decided.tokens || pieces.back().layers != pieces[0].layers)
      throw_input_error(kTokensPlace, "the records of sequence {} do not join", sequence);
    decided.tokens += pieces.back().tokens;
  }
  if (pieces.empty()) throw_input_error(kTokensPlace, "the run has no sequence {}", sequence);
  decided.layers = pieces[0].layers;
  const auto join = [&](auto TokenColumns::*column, auto& joined) {
    for (int64_t layer = 0; layer < decided.layers; ++layer)
      for (const TokenColumns& piece : pieces) {
        const auto& from = piece.*column;
        const auto begin = from.begin() + static_cast<std::ptrdiff_t>(layer * piece.tokens);
        if (!from.empty())
          joined.insert(joined.end(), begin, begin + static_cast<std::ptrdiff_t>(piece.tokens));
      }
  };
  join(&TokenColumns::levels, decided.levels);
  join(&TokenColumns::entropies, decided.entropy);
  for (const TokenColumns& piece : pieces) {
    decided.routed.insert(decided.routed.end(), piece.routed.begin(), piece.routed.end());
    decided.scores.insert(decided.scores.end(), piece.scores.begin(), piece.scores.end());
  }
  return decided;
}

std::unique_ptr<model::RankScheduler> scheduler_of(const RecordedRun& run, const std::string& model,
                                                   const model::ModelConfig& config) {
  const std::string hash = model::model_hash(model);
  if (audit::text_field(run.start, "model_hash") != hash)
    throw_input_error(kTokensPlace, "{} is not the model of the run: its hash is {}, the run's {}", model,
                      hash, audit::text_field(run.start, "model_hash"));
  std::vector<std::string> words = call_of(run, model, "-", "-");
  const Command& command = find_command(words[0]);
  words.erase(words.begin());
  return read_rank_scheduler(parse_arguments(command, words), config);
}

explain::TokenCounts counts_of(const RecordedRun& run) {
  explain::TokenCounts counts{
      .of = "the run", .tokens = 0, .levels = {}, .routed = {}, .quota_ppm = {}, .mean_entropy = {}};
  for (const nlohmann::json& record : run.tokens) {
    counts.tokens += audit::integer_field(record, "tokens");
    for (const auto& [level, count] : audit::member(record, "levels").items())
      explain::count_level(counts, audit::parse_integer(level), audit::parse_integer(count));
    for (const auto& [route, count] : audit::member(record, "routed").items())
      if (route != "2")
        counts.routed = counts.routed.value_or(0) + (route == "1" ? audit::parse_integer(count) : 0);
  }
  return counts;
}

}  // namespace qtf::cli
