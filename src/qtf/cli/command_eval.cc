#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <ostream>

#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/profile_table.h"
#include "qtf/cli/rank_options.h"
#include "qtf/cli/run_records.h"
#include "qtf/text/corpus.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {
namespace {

struct Measured {
  train::Evaluation evaluation;
  text::TextCounts counts;
  int64_t text_tokens = 0;
};

Measured measure_documents(const Arguments& arguments, const model::LoadedModel& loaded,
                           const model::Transformer<float>* other, const train::EvaluateOptions& options,
                           ThreadPool& pool) {
  const text::Corpus corpus(arguments.text("--text"));
  train::Documents documents;
  Measured measured;
  for (const std::string_view whole : corpus.texts()) {
    for (const std::string_view document : text::split_documents(whole, arguments.text("--separator"))) {
      loaded.tokenizer->encode(document, documents.tokens);
      documents.ends.push_back(static_cast<int64_t>(documents.tokens.size()));
      const text::TextCounts counts = text::count_text(document);
      measured.counts.bytes += counts.bytes;
      measured.counts.words += counts.words;
    }
  }
  measured.text_tokens = static_cast<int64_t>(documents.tokens.size());
  measured.evaluation = train::evaluate(*loaded.model, documents, options, pool, other);
  return measured;
}

Measured measure_text(const Arguments& arguments, const model::LoadedModel& loaded,
                      const model::Transformer<float>* other, const train::EvaluateOptions& options,
                      ThreadPool& pool) {
  const text::TokenFile file = text::tokenize_corpus(arguments.text("--text"), *loaded.tokenizer);
  Measured measured;
  measured.counts = file.counts();
  measured.text_tokens = file.size();
  measured.evaluation = train::evaluate(*loaded.model, {&file, 0, file.size()}, options, pool, other);
  return measured;
}

nlohmann::ordered_json to_json(const Measured& m, const model::LoadedModel& loaded,
                               const model::RankScheduler* scheduler, bool against) {
  const train::Evaluation& e = m.evaluation;
  nlohmann::ordered_json json = {
      {"nats_per_token", e.nats_per_token},
      {"stderr", e.standard_error},
      {"perplexity", e.perplexity()},
      {"word_perplexity", e.word_perplexity(m.counts, m.text_tokens)},
      {"bits_per_byte", e.bits_per_byte(m.counts, m.text_tokens)},
      {"tokens", e.tokens},
      {"words", m.counts.words},
      {"bytes", m.counts.bytes},
      {"tokens_per_second", static_cast<double>(e.tokens) / e.seconds},
      {"context", e.context},
      {"stride", e.stride},
      {"vocabulary", loaded.model->config().vocabulary},
      {"tokenizer", loaded.tokenizer->fingerprint()},
  };
  if (loaded.model->quantum()) {
    json["routed_share"] = e.routed_share;
    json["circuit_entropy"] = e.circuit_entropy;
  }
  if (scheduler) json["ranks"] = model::ranks_json(*scheduler, e.ranks);
  if (against) {
    json["kl_divergence"] = e.kl_divergence, json["same_top"] = e.same_top;
    json["difference"] = e.difference, json["difference_stderr"] = e.difference_error;
  }
  return json;
}

void print_measured(const nlohmann::ordered_json& json, std::ostream& out) {
  const auto number = [&](const char* key) { return json.at(key).get<double>(); };
  out << fmt::format("nats/token       {:.4f} ± {:.4f}\n", number("nats_per_token"), number("stderr"));
  out << fmt::format("perplexity       {:.3f} a token, {:.3f} a word\n", number("perplexity"),
                     number("word_perplexity"));
  out << fmt::format("bits/byte        {:.4f}\n", number("bits_per_byte"));
  out << fmt::format("protocol         {} tokens scored, context {}, stride {}, vocabulary {}\n",
                     json.at("tokens").get<int64_t>(), json.at("context").get<int64_t>(),
                     json.at("stride").get<int64_t>(), json.at("vocabulary").get<int64_t>());
  out << fmt::format("text             {} words (an end-of-line each line), {} bytes\n",
                     json.at("words").get<int64_t>(), json.at("bytes").get<int64_t>());
  if (json.contains("kl_divergence")) {
    out << fmt::format("against          KL {:.5f} nats/token, same top token {:.2f} %\n",
                       number("kl_divergence"), 100 * number("same_top"));
    out << fmt::format("difference       {:+.4f} ± {:.4f} nats/token (paired: less is better than MODEL2)\n",
                       number("difference"), number("difference_stderr"));
  }
  if (json.contains("routed_share")) {
    out << fmt::format("quantum layer    {:.2f} % of the tokens routed, entanglement {:.4f} nats each\n",
                       100 * number("routed_share"), number("circuit_entropy"));
  }
  out << fmt::format("speed            {:.0f} tokens/s\n", number("tokens_per_second"));
}

/// How the circuit is read, if not exactly.
void set_measurement(const Arguments& arguments, model::Transformer<float>& model) {
  nn::Measurement measurement;
  measurement.shots = arguments.integer("--shots");
  if (arguments.given("--noise")) measurement.noise = quantum::parse_noise(arguments.text("--noise"));
  measurement.seed = static_cast<uint64_t>(arguments.integer("--measurement-seed"));
  if (measurement.exact()) return;
  if (!model.quantum()) {
    throw_input_error("eval", "--shots and --noise are for models with a quantum layer, which {} has not",
                      arguments.text("MODEL"));
  }
  model.quantum()->set_measurement(measurement);
}

/// One JSON object a token and layer. level: what ran where no scheduler chose.
void write_trace(const std::filesystem::path& path, const train::Evaluation& e,
                 const model::ModelConfig& config, int level) {
  const int levels = model::level_count(config);
  std::string lines;
  const int64_t routes_in = config.quantum ? model::quantum_block(config) : -1;
  for (size_t sequence = 0; sequence < e.trace.size(); ++sequence) {
    const train::WindowTrace& window = e.trace[sequence];
    for (int64_t t = 0; t < window.rows; ++t) {
      for (int64_t layer = 0; layer < config.layers; ++layer) {
        const auto at = static_cast<size_t>(layer * window.rows + t), token = static_cast<size_t>(t);
        const int chosen = window.levels.empty() ? 0 : window.levels[at];
        const int own = chosen ? chosen : level ? level : levels;
        nlohmann::ordered_json line = {{"sequence", sequence},
                                       {"position", t},
                                       {"layer", layer},
                                       {"entropy", window.entropies[at]},
                                       {"level", own}};
        if (const double rank = model::block_rank(config, layer, own); rank > 0) line["rank"] = rank;
        if (layer == routes_in) {
          line["routed"] = window.routed[token] != 0;
          if (window.routed[token]) line["circuit_entropy"] = window.circuit_entropies[token];
        }
        lines += line.dump() + "\n";
      }
    }
  }
  write_file_atomically(path, lines);
}

void run_eval(const Arguments& arguments, const Streams& streams) {
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel loaded = open_model(arguments.text("MODEL"), "eval");
  set_cache_type(arguments.text("--cache-dtype"), *loaded.model);
  loaded.model->prepare(tt::Use::inference, pool);
  model::LoadedModel other;
  if (arguments.given("--against")) {
    other = open_model(arguments.text("--against"), "eval");
    other.model->prepare(tt::Use::inference, pool);
    if (other.tokenizer->fingerprint() != loaded.tokenizer->fingerprint()) {
      throw_input_error("eval", "{} and {} have different tokenizers; only models with the same one compare",
                        arguments.text("MODEL"), arguments.text("--against"));
    }
  }
  train::EvaluateOptions options;
  options.context = arguments.integer("--context");
  options.stride = arguments.integer("--stride");
  options.level = read_level(arguments, loaded.model->config(), "eval");
  options.circuit_entropy = loaded.model->quantum() != nullptr;
  const auto recorder = RunRecorder::make(arguments, "eval");
  options.trace = arguments.given("--trace") ? train::Trace::measures : train::Trace::none;
  if (recorder) options.trace = std::max(options.trace, recorder->wants());
  const auto scheduler = read_rank_scheduler(arguments, loaded.model->config());
  options.scheduler = scheduler.get();
  set_measurement(arguments, *loaded.model);
  if (recorder) recorder->start({}, "", {{"text_sha256", text::Corpus(arguments.text("--text")).sha256()}});
  const auto measure = arguments.given("--separator") ? measure_documents : measure_text;
  std::optional<Profile> profile;
  if (arguments.flag("--profile")) profile.emplace(pool);
  const Measured measured = measure(arguments, loaded, other.model.get(), options, pool);
  if (profile) streams.err << measured_profile(profile, pool);
  if (recorder) {
    recorder->evaluated(measured.evaluation, loaded.model->config().layers);
    recorder->end({}, "", measured_facts(measured.evaluation));
  }
  if (arguments.given("--trace"))
    write_trace(arguments.text("--trace"), measured.evaluation, loaded.model->config(), options.level);
  auto json = to_json(measured, loaded, scheduler.get(), arguments.given("--against"));
  json["audit"] = recorder ? arguments.text("--audit") : "unrecorded";
  if (arguments.flag("--json")) {
    streams.out << json.dump() << "\n";
  } else {
    print_measured(json, streams.out);
    if (scheduler)
      streams.out << fmt::format("ranks            {}\n", ranks_text(*scheduler, measured.evaluation.ranks));
  }
}

}  // namespace

extern const Command kEvalCommand;
const Command kEvalCommand{
    .name = "eval",
    .summary = "Measure how well a model predicts a text",
    .details =
        "Windows of --context tokens move by --stride; each scores the tokens that none before it scored. "
        "The "
        "standard error takes windows as independent. Words are counted as WikiText-2's published figures "
        "do: "
        "whitespace-separated words plus one end-of-line a line.",
    .example = {.call = "qtf eval quickstart-out/chain --text wiki.test.tokens --json"},
    .options =
        {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
         {.name = "--text", .value = "FILE", .help = "a text file or a folder of them", .required = true},
         {.name = "--context",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "window length in tokens; 0: the model's context",
          .min = 0},
         {.name = "--stride",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "tokens between windows; 0: half the context",
          .min = 0},
         {.name = "--separator",
          .value = "STR",
          .help = "split the text here and score each document alone, cut at the context"},
         {.name = "--against",
          .value = "MODEL2",
          .help = "also print KL(MODEL2 ‖ MODEL), the share of equal top tokens, and the paired difference "
                  "of the losses"},
         level_option(),
         cache_dtype_option(),
         rank_policy_option(),
         mean_rank_option(),
         alpha_option(),
         hysteresis_option(),
         rank_seed_option(),
         audit_file_option(),
         audit_level_option(),
         record_text_option(),
         {.name = "--shots",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "read a quantum layer's circuit by N measurements a token; 0: exactly",
          .min = 0,
          .max = 1e6},
         {.name = "--noise",
          .value = "CHANNEL=X,…",
          .help = "simulate a noisy circuit: depolarizing=0.01,readout=0.02 (as of qtf circuit run)"},
         {.name = "--measurement-seed",
          .type = ValueType::integer,
          .value = "N",
          .initial = "1",
          .help = "of the shots",
          .min = 0},
         {.name = "--trace",
          .value = "FILE",
          .help = "write a JSON line a token and layer: attention entropy, level, rank and, in the quantum "
                  "layer's block, whether it was routed and its state's entanglement"},
         threads_option(),
         {.name = "--profile",
          .type = ValueType::flag,
          .help = "print on standard error where the time goes"},
         {.name = "--json", .type = ValueType::flag, .help = "print one JSON object"}},
    .run = run_eval,
};

}  // namespace qtf::cli
