#include "qtf/cli/train_setup.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "qtf/base/parse.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_choice.h"
#include "qtf/text/corpus.h"
#include "qtf/text/sentencepiece.h"

namespace qtf::cli {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kSettingsFile = "train.json";

/// Flags that say how to run, not what: they may differ on resume.
bool is_about_running(std::string_view name) {
  return name == "--out" || name == "--resume" || name == "--threads" || name == "--quiet" ||
         name == "--checkpoint-seconds" || name == "--checkpoint-steps";
}

json settings_to_json(const Arguments& arguments) {
  json settings = json::object();
  for (const Option& option : train_options()) {
    if (arguments.given(option.name) && !is_about_running(option.name)) {
      settings[std::string(option.name)] = arguments.list(option.name);
    }
  }
  return settings;
}

/// A flag's values in train.json; empty if it was not given. Throws IoError unless they are texts.
std::vector<std::string> stored_values(const json& settings, const std::string& name, const fs::path& path) {
  if (!settings.contains(name)) return {};
  const json& values = settings.at(name);
  const bool texts = values.is_array() && !values.empty() &&
                     std::all_of(values.begin(), values.end(), [](const json& v) { return v.is_string(); });
  if (!texts) {
    throw_io_error(path.string(), "is damaged: {} must be a list of texts; train into another --out", name);
  }
  return values.get<std::vector<std::string>>();
}

}  // namespace

Arguments resolve_settings(const Arguments& given) {
  if (!given.flag("--resume")) return given;
  const fs::path path = fs::path(given.text("--out")) / kSettingsFile;
  if (!fs::is_regular_file(path)) {
    throw_input_error("resume", "{} has no {}: no training run of qtf to go on with", given.text("--out"),
                      kSettingsFile);
  }
  const json stored = json::parse(read_file(path), nullptr, false);
  if (!stored.is_object())
    throw_io_error(path.string(), "is damaged: not a JSON object; train into another --out");
  Arguments::Values values;
  for (const Option& option : train_options()) {
    const std::string name(option.name);
    const std::vector<std::string> before = stored_values(stored, name, path);
    if (is_about_running(name) || !given.given(name)) {
      if (!before.empty()) values[name] = before;
      continue;
    }
    if (before != given.list(name)) {
      throw_input_error("resume",
                        "the run in {} was started {} {}; leave {} out, or train into another --out",
                        given.text("--out"), before.empty() ? "without" : "with",
                        before.empty() ? name : fmt::format("{} {}", name, fmt::join(before, " ")), name);
    }
    values[name] = given.list(name);
  }
  return Arguments(train_options(), std::move(values));
}

namespace {

/// The folder may be absent, empty, or (to resume) hold a run.
void check_out(const fs::path& out, bool resume) {
  if (!fs::exists(out) || resume) return;
  if (!fs::is_directory(out)) throw_input_error("train", "--out {} is a file, not a folder", out.string());
  for (const auto& entry : fs::directory_iterator(out)) {
    if (entry.path().filename() == ".lock") continue;
    if (model::is_model_folder(out)) {
      throw_input_error(
          "train", "--out {} holds a model already; add --resume to go on with it, or choose another folder",
          out.string());
    }
    throw_input_error("train", "--out {} exists and is not a model folder (it holds {}); choose another",
                      out.string(), entry.path().filename().string());
  }
}

train::TrainOptions read_train_options(const Arguments& a, const Arguments& given) {
  train::TrainOptions o;
  if (a.given("--steps")) o.steps = a.integer("--steps");
  if (a.given("--epochs")) o.epochs = a.number("--epochs");
  if (a.given("--minutes")) o.minutes = a.number("--minutes");
  o.batch = a.integer("--batch");
  o.micro_batch = a.integer("--micro-batch");
  o.learning_rate = a.number("--learning-rate");
  o.warmup = a.number("--warmup");
  o.final_share = a.number("--final-rate");
  o.adamw.weight_decay = a.number("--weight-decay");
  o.adamw.beta1 = a.number("--beta1");
  o.adamw.beta2 = a.number("--beta2");
  o.adamw.clip = a.number("--clip");
  o.dropout = a.number("--dropout");
  o.ema = a.number("--ema");
  o.validate_every = a.integer("--validate-every");
  o.patience = a.integer("--patience");
  o.seed = static_cast<uint64_t>(a.integer("--seed"));
  o.checkpoint_seconds = given.number("--checkpoint-seconds");
  o.checkpoint_steps = given.integer("--checkpoint-steps");
  train::validate(o);
  return o;
}

/// Trains a SentencePiece tokenizer. A vocabulary that nobody asked for gives way to a small text.
std::shared_ptr<const text::Tokenizer> train_tokenizer(const text::Corpus& corpus,
                                                       text::SentencePieceModel kind, int64_t vocabulary,
                                                       bool asked, std::ostream& notes) {
  text::SentencePieceOptions options;
  options.model = kind;
  constexpr int32_t kSmallest = 300;  // 256 bytes, the control pieces and a few learned ones
  options.vocabulary_size = static_cast<int32_t>(vocabulary);
  while (true) {
    try {
      auto tokenizer =
          text::open_sentencepiece(text::train_sentencepiece(corpus.texts(), options), "the new tokenizer");
      if (options.vocabulary_size != vocabulary) {
        notes << fmt::format("The text is too small for {} tokens; the vocabulary is {}.\n", vocabulary,
                             options.vocabulary_size);
      }
      return tokenizer;
    } catch (const InputError&) {
      if (asked || options.vocabulary_size <= kSmallest) throw;
      options.vocabulary_size = std::max(kSmallest, options.vocabulary_size / 2);
    }
  }
}

std::shared_ptr<const text::Tokenizer> choose_tokenizer(const Arguments& a, const text::Corpus& corpus,
                                                        int64_t vocabulary, std::ostream& notes) {
  const std::string choice = a.text("--tokenizer");
  const bool asked = a.given("--vocabulary");
  if (choice == "unigram") {
    return train_tokenizer(corpus, text::SentencePieceModel::kUnigram, vocabulary, asked, notes);
  }
  if (choice == "bpe")
    return train_tokenizer(corpus, text::SentencePieceModel::kBpe, vocabulary, asked, notes);
  auto tokenizer = text::load_tokenizer(choice);
  if (asked && tokenizer->vocabulary_size() != vocabulary) {
    throw_input_error(
        "train", "--vocabulary {} contradicts --tokenizer {}, which has {} tokens; leave --vocabulary out",
        vocabulary, choice, tokenizer->vocabulary_size());
  }
  return tokenizer;
}

/// Sizes from preset and flags; shapes come later, when the vocabulary is known.
model::ModelConfig read_sizes(const Arguments& a) {
  model::ModelConfig config = model::preset_config(a.text("--preset"));
  config.family = a.text("--family") == "gpt2" ? model::Family::gpt2 : model::Family::llama;
  const auto override_with = [&](const char* flag, int64_t& value) {
    if (a.given(flag)) value = a.integer(flag);
  };
  override_with("--width", config.width);
  override_with("--layers", config.layers);
  override_with("--heads", config.heads);
  override_with("--kv-heads", config.kv_heads);
  override_with("--feed-forward", config.feed_forward);
  override_with("--vocabulary", config.vocabulary);
  config.context = a.integer("--context");
  config.tied = !a.flag("--untied");
  if (config.family == model::Family::gpt2) {
    if (!a.given("--kv-heads")) config.kv_heads = config.heads;
    if (!a.given("--feed-forward")) config.feed_forward = 4 * config.width;
  }
  model::validate(config);
  return config;
}

/// Returns the choices made for the user, a line of decisions.jsonl each.
std::string apply_shapes(const Arguments& a, model::ModelConfig& config) {
  std::string decisions;
  if (a.given("--ratio-shape") && !a.given("--ratio"))
    throw UsageError("--ratio-shape needs --ratio; add it");
  if (a.given("--ratio")) {
    const std::string kind = a.text("--ratio-shape");
    for (const tt::ShapeKindInfo& info : tt::shape_kinds()) {
      if (info.name != kind) continue;
      decisions += model::to_json(model::apply_ratio(config, a.number("--ratio"), info.kind)).dump() + "\n";
    }
  }
  model::apply_shape_requests(config, a.list("--shape"));
  if (a.given("--levels")) model::apply_levels(config, static_cast<int>(a.integer("--levels")));
  return decisions;
}

/// The model to train: an older one, or a new one with random weights.
void make_model(const Arguments& a, const text::Corpus& corpus, TrainSetup& setup, std::ostream& notes) {
  if (a.given("--from")) {
    for (const char* flag : {"--preset", "--family", "--width", "--layers", "--heads", "--kv-heads",
                             "--feed-forward", "--vocabulary", "--context", "--untied", "--ratio",
                             "--ratio-shape", "--shape", "--levels", "--tokenizer"}) {
      if (a.given(flag))
        throw_input_error("train", "{} contradicts --from, whose model has its own; leave it out", flag);
    }
    model::LoadedModel loaded = model::load_model(a.text("--from"));
    if (!loaded.tokenizer) throw_input_error("train", "--from {} has no tokenizer", a.text("--from"));
    setup.model = std::move(loaded.model);
    setup.tokenizer = std::move(loaded.tokenizer);
    return;
  }
  model::ModelConfig config = read_sizes(a);
  setup.tokenizer = choose_tokenizer(a, corpus, config.vocabulary, notes);
  config.vocabulary = setup.tokenizer->vocabulary_size();
  setup.decisions = apply_shapes(a, config);
  setup.model = std::make_unique<model::Transformer<float>>(config);
  setup.model->initialise(static_cast<uint64_t>(a.integer("--seed")));
}

/// Validation text: its own file, or the last twentieth of the training text.
void choose_ranges(const Arguments& a, const text::Corpus& corpus, TrainSetup& setup) {
  setup.train_file.emplace(text::tokenize_corpus(corpus, *setup.tokenizer));
  train::TrainJob& job = setup.job;
  job.train = {&*setup.train_file, 0, setup.train_file->size()};
  if (a.given("--valid")) {
    setup.valid_file.emplace(text::tokenize_corpus(a.text("--valid"), *setup.tokenizer));
    job.valid = {&*setup.valid_file, 0, setup.valid_file->size()};
    job.valid_counts = setup.valid_file->counts();
    return;
  }
  job.valid = job.train;
  job.train.end = job.valid.begin = job.train.size() * 19 / 20;
  job.valid_counts = train::count_text(job.valid, *setup.tokenizer);
}

}  // namespace

namespace {

/// Makes a folder and those above it, and, unless kept, takes back what was made: a run that cannot begin
/// leaves nothing.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& folder) : folder_(fs::absolute(folder).lexically_normal()) {
    if (!folder_.has_filename()) folder_ = folder_.parent_path();
    for (fs::path p = folder_; !fs::exists(p); p = p.parent_path()) made_.push_back(p);
    std::error_code error;
    fs::create_directories(folder_, error);
    if (!error) return;
    take_back();
    throw_io_error("train", "cannot make the folder {}: {}; choose another --out", folder.string(),
                   error.message());
  }
  ~NewFolder() {
    if (!kept_) take_back();
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// The folder is locked and was empty: what lies in it from now on is this run's.
  void own_contents() { owned_ = true; }
  void keep() { kept_ = true; }

 private:
  void take_back() {
    std::error_code ignored;
    if (owned_) {
      for (const auto& entry : fs::directory_iterator(folder_, ignored)) fs::remove_all(entry, ignored);
    }
    for (const fs::path& p : made_) fs::remove(p, ignored);  // only while empty: others may have moved in
  }

  fs::path folder_;
  std::vector<fs::path> made_;  // innermost first
  bool owned_ = false, kept_ = false;
};

/// Weights and checkpoint are each written beside their old file before they replace it; a resumed run has
/// the old ones already.
void check_space(const fs::path& out, int64_t parameters, bool averaged, bool resume) {
  std::error_code error;
  const fs::space_info space = fs::space(out, error);
  const int64_t arrays = averaged ? 4 : 3;
  const int64_t needed = (resume ? 1 : 2) * (1 + arrays) * parameters * static_cast<int64_t>(sizeof(float));
  if (error || space.available >= static_cast<uintmax_t>(needed)) return;
  throw_io_error("train", "no space left on {}: the run needs {}, {} are free; free some and run again",
                 out.string(), format_bytes(needed), format_bytes(static_cast<int64_t>(space.available)));
}

/// Whether the run in `out` was killed before it had a checkpoint; the model card is written at the very end.
bool must_start_again(const fs::path& out) {
  return !train::has_checkpoint(out) && !fs::exists(out / "README.md");
}

}  // namespace

std::unique_ptr<TrainSetup> set_up_training(const Arguments& settings, const Arguments& given,
                                            ThreadPool& pool, std::ostream& notes) {
  auto setup = std::make_unique<TrainSetup>();
  train::TrainJob& job = setup->job;
  job.out = given.text("--out");
  job.resume = given.flag("--resume") && !must_start_again(job.out);
  job.progress = !given.flag("--quiet");
  job.name =
      job.out.filename().empty() ? job.out.parent_path().filename().string() : job.out.filename().string();
  if (job.out.empty()) throw UsageError("--out is empty; name the model folder to write");
  job.options = read_train_options(settings, given);
  check_out(job.out, given.flag("--resume"));

  const text::Corpus corpus(settings.text("--train"));
  if (job.resume) {
    model::LoadedModel stored = model::load_description(job.out);
    setup->model = std::move(stored.model);
    setup->tokenizer = std::move(stored.tokenizer);
  } else {
    make_model(settings, corpus, *setup, notes);
  }
  job.options.nested = model::level_count(setup->model->config()) > 1;
  choose_ranges(settings, corpus, *setup);
  job.model = setup->model.get();
  job.tokenizer = setup->tokenizer;
  const train::WindowSampler fits(job.train, job.model->config().context, 0);
  if (job.valid.size() < 2)
    throw_input_error("train", "the validation text has {} tokens; give more", job.valid.size());
  job.identity = {{"settings", settings_to_json(settings)},
                  {"train_text", setup->train_file->text_sha256()},
                  {"valid_text", setup->valid_file ? setup->valid_file->text_sha256() : "held out"},
                  {"tokenizer", setup->tokenizer->fingerprint()},
                  {"threads", pool.size()}};

  NewFolder folder(job.out);
  setup->lock.emplace(job.out);
  check_out(job.out, given.flag("--resume"));
  if (!given.flag("--resume")) folder.own_contents();
  check_space(job.out, job.model->layout().size, job.options.ema > 0, job.resume);
  if (!job.resume) {
    // The settings first: whoever is killed from here on can --resume.
    write_file_atomically(job.out / kSettingsFile, settings_to_json(settings).dump(2) + "\n");
    model::save_description(job.out, job.model->config(), *setup->tokenizer);
    if (!setup->decisions.empty()) write_file_atomically(job.out / "decisions.jsonl", setup->decisions);
  }
  folder.keep();
  return setup;
}

const std::vector<Option>& train_options() {
  static const std::vector<Option> options = {
      {.name = "--train",
       .value = "FILE",
       .help = "text to learn: a UTF-8 file, or a folder of them",
       .required = false},
      {.name = "--valid",
       .value = "FILE",
       .help = "text to validate on; without it, the last twentieth of --train"},
      {.name = "--out", .value = "DIR", .help = "the model folder to write", .required = true},
      {.name = "--resume",
       .type = ValueType::flag,
       .help = "go on with the unfinished run in --out, to the same bits at the same --threads"},
      {.name = "--from", .value = "MODEL", .help = "fine-tune this model instead of a new one"},
      {.name = "--preset",
       .value = "NAME",
       .initial = "tiny",
       .help = "sizes of the model",
       .choices = {"nano", "tiny", "small", "medium", "large"}},
      {.name = "--family",
       .value = "NAME",
       .initial = "llama",
       .help = "kind of transformer",
       .choices = {"llama", "gpt2"}},
      {.name = "--width",
       .type = ValueType::integer,
       .value = "D",
       .help = "model width, instead of the preset's",
       .min = 1},
      {.name = "--layers", .type = ValueType::integer, .value = "N", .help = "number of blocks", .min = 1},
      {.name = "--heads", .type = ValueType::integer, .value = "H", .help = "attention heads", .min = 1},
      {.name = "--kv-heads",
       .type = ValueType::integer,
       .value = "N",
       .help = "key and value heads",
       .min = 1},
      {.name = "--feed-forward",
       .type = ValueType::integer,
       .value = "F",
       .help = "feed-forward width",
       .min = 1},
      {.name = "--context",
       .type = ValueType::integer,
       .value = "T",
       .initial = "128",
       .help = "longest sequence in tokens; also the training sequences' length",
       .min = 2},
      {.name = "--untied", .type = ValueType::flag, .help = "give the head weights of its own"},
      {.name = "--tokenizer",
       .value = "KIND|PATH",
       .initial = "unigram",
       .help = "unigram or bpe (SentencePiece, trained on --train), bytes, or a tokenizer's or model's path"},
      {.name = "--vocabulary",
       .type = ValueType::integer,
       .value = "V",
       .help = "tokens, instead of the preset's",
       .min = 257},
      {.name = "--ratio",
       .type = ValueType::number,
       .value = "R",
       .help = "make the whole model R times smaller than dense: ranks are picked for every map",
       .min = 1},
      {.name = "--ratio-shape",
       .value = "SHAPE",
       .initial = "chain",
       .help = "the weight shape --ratio uses",
       .choices = {"chain", "mpo", "btt"}},
      {.name = "--shape",
       .value = "PART=SHAPE",
       .help = "shape of a part (embedding, attention, ffn, head) or of a map (up_proj): ffn=chain:rank=48",
       .repeated = true},
      {.name = "--levels",
       .type = ValueType::integer,
       .value = "N",
       .initial = "1",
       .help = "nested ranks a chain, all trained (sandwich, distilled from the largest)",
       .min = 1,
       .max = 4},
      {.name = "--steps",
       .type = ValueType::integer,
       .value = "N",
       .help = "length of the run in updates",
       .min = 1},
      {.name = "--epochs",
       .type = ValueType::number,
       .value = "X",
       .help = "… or in passes over the text",
       .min = 0},
      {.name = "--minutes",
       .type = ValueType::number,
       .value = "X",
       .help = "… or in wall-clock time",
       .min = 0},
      {.name = "--batch",
       .type = ValueType::integer,
       .value = "B",
       .initial = "16",
       .help = "sequences an update",
       .min = 1},
      {.name = "--micro-batch",
       .type = ValueType::integer,
       .value = "B",
       .initial = "0",
       .help = "sequences a worker passes at once, gradients adding up; 0: about 512 tokens",
       .min = 0},
      {.name = "--learning-rate",
       .type = ValueType::number,
       .value = "X",
       .initial = "0.003",
       .help = "largest step size; each core has its own share of it",
       .min = 0},
      {.name = "--warmup",
       .type = ValueType::number,
       .value = "X",
       .initial = "0.05",
       .help = "share of the run with a rising rate"},
      {.name = "--final-rate",
       .type = ValueType::number,
       .value = "X",
       .initial = "0.05",
       .help = "share of the rate at the end of the cosine"},
      {.name = "--weight-decay",
       .type = ValueType::number,
       .value = "X",
       .initial = "0.1",
       .help = "decoupled, of matrices"},
      {.name = "--beta1", .type = ValueType::number, .value = "X", .initial = "0.9", .help = "of AdamW"},
      {.name = "--beta2", .type = ValueType::number, .value = "X", .initial = "0.95", .help = "of AdamW"},
      {.name = "--clip",
       .type = ValueType::number,
       .value = "X",
       .initial = "1",
       .help = "largest gradient norm; 0: off"},
      {.name = "--dropout",
       .type = ValueType::number,
       .value = "P",
       .initial = "0",
       .help = "on the embedding and both branches of each block"},
      {.name = "--ema",
       .type = ValueType::number,
       .value = "X",
       .initial = "0",
       .help = "decay of averaged weights, validated and saved instead; 0: off"},
      {.name = "--validate-every",
       .type = ValueType::integer,
       .value = "N",
       .initial = "0",
       .help = "steps between validations; 0: 20 times a run",
       .min = 0},
      {.name = "--patience",
       .type = ValueType::integer,
       .value = "N",
       .initial = "0",
       .help = "end after so many validations without a new best; 0: never",
       .min = 0},
      {.name = "--checkpoint-seconds",
       .type = ValueType::number,
       .value = "X",
       .initial = "30",
       .help = "most time between checkpoints",
       .min = 0},
      {.name = "--checkpoint-steps",
       .type = ValueType::integer,
       .value = "N",
       .initial = "0",
       .help = "also after so many steps; 0: by time only",
       .min = 0},
      {.name = "--seed",
       .type = ValueType::integer,
       .value = "N",
       .initial = "1",
       .help = "of weights, data order and dropout",
       .min = 0},
      {.name = "--threads",
       .type = ValueType::integer,
       .value = "N",
       .initial = "0",
       .help = "0: all cores",
       .min = 0,
       .max = 1024},
      {.name = "--quiet", .type = ValueType::flag, .help = "no progress bar"},
  };
  return options;
}

}  // namespace qtf::cli
