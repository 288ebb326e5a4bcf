#include "qtf/cli/train_setup.h"

#include <algorithm>
#include <array>
#include <ostream>

#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/base/sha256.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/new_folder.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/rank_options.h"
#include "qtf/cli/train_parent.h"
#include "qtf/model/gauge.h"
#include "qtf/model/guides.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_choice_record.h"
#include "qtf/model/reshape.h"
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
         name == "--json" || name == "--profile" || name == "--checkpoint-seconds" ||
         name == "--checkpoint-steps";
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

}  // namespace

void write_settings(const fs::path& out, const Arguments& settings) {
  write_file_atomically(out / kSettingsFile, settings_to_json(settings).dump(2) + "\n");
}

namespace {

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

namespace {

/// With --batch of all ranks.
Arguments with_batch_of(const Arguments& given, int ranks) {
  if (ranks == 1) return given;
  Arguments::Values values;
  for (const Option& option : train_options()) {
    if (given.given(option.name)) values[std::string(option.name)] = given.list(option.name);
  }
  values["--batch"] = {fmt::format("{}", ranks * given.integer("--batch"))};
  return Arguments(train_options(), std::move(values));
}

}  // namespace

Arguments resolve_settings(const Arguments& given, int ranks) {
  if (!given.flag("--resume")) return with_batch_of(given, ranks);
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

namespace {

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
  o.guided = a.number("--guided");
  o.in_turns = a.text("--sandwich") == "turns";
  if (a.given("--mean-rank") && !a.given("--rank-policy"))
    throw UsageError("--mean-rank is the policy's; add --rank-policy entropy");
  if (a.given("--rank-policy")) o.mean_rank = read_share(a, "--mean-rank");
  o.validate_every = a.integer("--validate-every");
  o.patience = a.integer("--patience");
  o.seed = static_cast<uint64_t>(a.integer("--seed"));
  o.checkpoint_seconds = given.number("--checkpoint-seconds");
  o.checkpoint_steps = given.integer("--checkpoint-steps");
  if (begins_dense(a)) set_length(a, RunPart::rest, o);
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

/// A trained model of another folder, with its tokenizer.
model::LoadedModel load_trained(const Arguments& a, const char* flag) {
  model::LoadedModel loaded = model::load_model(a.text(flag));
  if (!loaded.tokenizer) throw_input_error("train", "{} {} has no tokenizer", flag, a.text(flag));
  return loaded;
}

/// The tokenizer of a new model; `taught`: the teacher's, or null. A pupil takes it unless told otherwise.
std::shared_ptr<const text::Tokenizer> choose_tokenizer(const Arguments& a, const text::Corpus& corpus,
                                                        int64_t vocabulary,
                                                        std::shared_ptr<const text::Tokenizer> taught,
                                                        std::ostream& notes) {
  const bool from_teacher = taught && !a.given("--tokenizer");
  const std::string choice = a.text(from_teacher ? "--teacher" : "--tokenizer");
  const bool asked = a.given("--vocabulary");
  if (!from_teacher && choice == "unigram") {
    return train_tokenizer(corpus, text::SentencePieceModel::kUnigram, vocabulary, asked, notes);
  }
  if (!from_teacher && choice == "bpe")
    return train_tokenizer(corpus, text::SentencePieceModel::kBpe, vocabulary, asked, notes);
  auto tokenizer = from_teacher ? std::move(taught) : text::load_tokenizer(choice);
  if (asked && tokenizer->vocabulary_size() != vocabulary) {
    throw_input_error(
        "train", "--vocabulary {} contradicts {} {}, which has {} tokens; leave --vocabulary out", vocabulary,
        from_teacher ? "--teacher" : "--tokenizer", choice, tokenizer->vocabulary_size());
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
  if (a.given("--quantum")) config.quantum = model::parse_quantum(a.text("--quantum"));
  model::validate(config);
  return config;
}

/// Returns the choices made for the user.
audit::DecisionList apply_shapes(const Arguments& a, model::ModelConfig& config) {
  audit::DecisionList decisions;
  for (const char* flag : {"--ratio-shape", "--richness"}) {
    if (a.given(flag) && !a.given("--ratio")) throw UsageError(fmt::format("{} needs --ratio; add it", flag));
  }
  if (a.given("--ratio")) {
    const std::string kind = a.text("--ratio-shape");
    for (const tt::ShapeKindInfo& info : tt::shape_kinds()) {
      if (info.name != kind) continue;
      const model::Richness richness = model::parse_richness(config, a.list("--richness"));
      const auto choice = model::apply_ratio(config, a.number("--ratio"), info.kind, richness,
                                             static_cast<int>(a.integer("--levels")));
      decisions.add(model::record(choice), model::to_json(choice));
    }
  }
  model::apply_shape_requests(config, a.list("--shape"));
  if (a.given("--levels")) model::apply_levels(config, static_cast<int>(a.integer("--levels")));
  return decisions;
}

/// An older model, in other shapes where they are asked for.
void take_model(const Arguments& a, TrainSetup& setup, std::ostream& notes) {
  for (const char* flag : {"--preset", "--family", "--width", "--layers", "--heads", "--kv-heads",
                           "--feed-forward", "--vocabulary", "--context", "--untied", "--tokenizer"}) {
    if (a.given(flag))
      throw_input_error("train", "{} contradicts --from, whose model has its own; leave it out", flag);
  }
  model::LoadedModel loaded = load_trained(a, "--from");
  setup.tokenizer = std::move(loaded.tokenizer);
  // Numbers that a file leaves out give training a way around bad conditioning.
  if (model::has_fixed_gauge(loaded.model->config())) loaded.model = model::with_free_gauge(*loaded.model);
  model::ModelConfig config = loaded.model->config();
  setup.decisions = apply_shapes(a, config);
  const bool new_layer = a.given("--quantum");
  if (new_layer && config.quantum)
    throw_input_error("train", "--quantum contradicts --from, whose model has a quantum layer; leave it out");
  if (new_layer) config.quantum = model::parse_quantum(a.text("--quantum"));
  if (a.number("--guided") > 0)
    setup.job.guides = model::guides_from(*loaded.model, model::make_guide_layout(config));
  if (config.shapes == loaded.model->config().shapes && !new_layer) {
    setup.model = std::move(loaded.model);
    return;
  }
  model::Reshaped reshaped =
      model::reshape(*loaded.model, config, static_cast<uint64_t>(a.integer("--seed")));
  setup.model = std::move(reshaped.model);
  if (reshaped.maps.empty()) return;
  const auto [least, most] =
      std::minmax_element(reshaped.maps.begin(), reshaped.maps.end(),
                          [](const auto& x, const auto& y) { return x.error < y.error; });
  notes << fmt::format("Decomposed {} maps of {}: relative errors of the weights {:.3f} to {:.3f}\n",
                       reshaped.maps.size(), a.text("--from"), least->error, most->error);
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

/// The model of a run to go on with, its weights still to be read. A run that was killed while it stored its
/// finished chains with a fixed gauge gets all numbers back, which training has.
void take_unfinished(const fs::path& out, TrainSetup& setup) {
  model::LoadedModel stored = model::load_description(out);
  setup.tokenizer = std::move(stored.tokenizer);
  setup.model = std::move(stored.model);
  if (!model::has_fixed_gauge(setup.model->config()) || !train::has_checkpoint(out)) return;
  try {
    model::load_weights(out, setup.model->layout(), setup.model->parameters());
    const auto free = model::with_free_gauge(*setup.model);
    model::save_weights(out, free->layout(), free->parameters());
  } catch (const IoError&) {
    // It was killed between config.json and the weights, which have all numbers still.
  }
  setup.model = std::make_unique<model::Transformer<float>>(model::with_free_gauge(setup.model->config()));
}

/// Weights and checkpoint are each written beside their old file before they replace it; a resumed run has
/// the old ones already.
void check_space(const fs::path& out, const train::TrainJob& job) {
  std::error_code error;
  const fs::space_info space = fs::space(out, error);
  const int64_t weights = job.model->layout().size, arrays = job.options.ema > 0 ? 4 : 3;
  const int64_t guides = job.options.guided > 0 ? 3 * model::make_guide_layout(job.model->config()).size : 0;
  const int64_t numbers = (job.resume ? 1 : 2) * ((1 + arrays) * weights + guides);
  const int64_t needed = numbers * static_cast<int64_t>(sizeof(float));
  if (error || space.available >= static_cast<uintmax_t>(needed)) return;
  throw_io_error("train", "no space left on {}: the run needs {}, {} are free; free some and run again",
                 out.string(), format_bytes(needed), format_bytes(static_cast<int64_t>(space.available)));
}

/// Whether the run in `out` was killed before it had a checkpoint; the model card is written at the very end.
bool must_start_again(const fs::path& out) {
  return !train::has_checkpoint(out) && !fs::exists(out / "README.md");
}

/// The dense part's model, compressed; it is the teacher too.
void take_parent(const Arguments& a, const text::Corpus& corpus, const model::LoadedModel& parent,
                 TrainSetup& setup, ThreadPool& pool, std::ostream& notes) {
  setup.tokenizer = parent.tokenizer;
  choose_ranges(a, corpus, setup);
  setup.model = compress_parent(a, *parent.model, setup.job.train, pool, setup.decisions);
  if (a.given("--quantum")) {
    model::ModelConfig config = setup.model->config();
    config.quantum = model::parse_quantum(a.text("--quantum"));
    setup.model = model::reshape(*setup.model, config, static_cast<uint64_t>(a.integer("--seed"))).model;
  }
  notes << "Compressed the dense model; now the chains are trained, with it as teacher\n";
}

/// The model to train: an older one, or a new one with random weights.
void make_model(const Arguments& a, const text::Corpus& corpus,
                const std::shared_ptr<const text::Tokenizer>& taught, TrainSetup& setup,
                std::ostream& notes) {
  if (a.given("--from")) return take_model(a, setup, notes);
  model::ModelConfig config = read_sizes(a);
  setup.tokenizer = choose_tokenizer(a, corpus, config.vocabulary, taught, notes);
  config.vocabulary = setup.tokenizer->vocabulary_size();
  setup.decisions = apply_shapes(a, config);
  setup.model = std::make_unique<model::Transformer<float>>(config);
  setup.model->initialise(static_cast<uint64_t>(a.integer("--seed")));
}

/// The model whose predictions are learned too; nothing where none is asked for.
model::LoadedModel load_teacher(const Arguments& a, const Arguments& given) {
  if (begins_dense(a)) return model::load_model(parent_folder(given));
  if (a.given("--teacher")) return load_trained(a, "--teacher");
  for (const char* flag : {"--teacher-weight", "--teacher-temperature"}) {
    if (a.given(flag)) throw UsageError(fmt::format("{} needs --teacher; add it", flag));
  }
  return {};
}

/// A teacher must split texts as the trained model does.
void set_teacher(const Arguments& a, model::LoadedModel loaded, ThreadPool& pool, TrainSetup& setup) {
  if (!loaded.model) return;
  if (loaded.tokenizer->fingerprint() != setup.tokenizer->fingerprint()) {
    throw_input_error("train",
                      "--teacher {} has another tokenizer than the model to train; train a new one without "
                      "--tokenizer, or choose another teacher",
                      a.text("--teacher"));
  }
  setup.teacher = std::move(loaded.model);
  setup.job.teacher = {setup.teacher.get(), a.number("--teacher-weight"), a.number("--teacher-temperature")};
  setup.teacher->prepare(tt::Use::inference, pool);
}

std::string hash_of_weights(const model::Transformer<float>& model) {
  const auto bytes = std::as_bytes(model.parameters());
  return sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// What all ranks know of a job before texts and models are read.
std::unique_ptr<TrainSetup> begin_setup(const Arguments& settings, const Arguments& given,
                                        train::Ranks* ranks) {
  auto setup = std::make_unique<TrainSetup>();
  train::TrainJob& job = setup->job;
  job.out = given.text("--out");
  job.ranks = ranks;
  job.resume = given.flag("--resume") && !must_start_again(job.out);
  job.progress = !given.flag("--quiet");
  job.profile = given.flag("--profile");
  if (job.out.empty()) throw UsageError("--out is empty; name the model folder to write");
  job.name = name_of(job.out);
  job.options = read_train_options(settings, given);
  return setup;
}

/// A set-up whose model and tokenizer are there: teacher, texts, and what a resumed run must share.
void complete_setup(const Arguments& settings, const Arguments& given, const text::Corpus& corpus,
                    model::LoadedModel teacher, ThreadPool& pool, TrainSetup& setup) {
  train::TrainJob& job = setup.job;
  job.options.nested = model::level_count(setup.model->config()) > 1;
  set_teacher(settings, std::move(teacher), pool, setup);
  if (!setup.train_file) choose_ranges(settings, corpus, setup);
  if (begins_dense(settings)) job.before = run_before(parent_folder(given));
  job.model = setup.model.get();
  job.tokenizer = setup.tokenizer;
  train::validate(job);
  const train::WindowSampler fits(job.train, job.model->config().context, 0);
  if (job.valid.size() < 2)
    throw_input_error("train", "the validation text has {} tokens; give more", job.valid.size());
  job.identity = {{"settings", settings_to_json(settings)},
                  {"train_text", setup.train_file->text_sha256()},
                  {"valid_text", setup.valid_file ? setup.valid_file->text_sha256() : "held out"},
                  {"tokenizer", setup.tokenizer->fingerprint()},
                  // Sums of several ranks have an order of their own: any number of ranks may go on.
                  {"threads", job.ranks ? json() : json(pool.size())}};
  if (setup.teacher) job.identity["teacher"] = hash_of_weights(*setup.teacher);
}

/// Where ranks wait until the folder of --out says what to train.
void meet_at_folder(train::Ranks& ranks) {
  std::array<double, 1> nothing = {};
  ranks.sum(nothing);
}

}  // namespace

std::unique_ptr<TrainSetup> set_up_training(const Arguments& settings, const Arguments& given,
                                            ThreadPool& pool, train::Ranks* ranks, std::ostream& notes) {
  auto setup = begin_setup(settings, given, ranks);
  train::TrainJob& job = setup->job;
  check_out(job.out, given.flag("--resume"));
  const text::Corpus corpus(settings.text("--train"));
  model::LoadedModel teacher = load_teacher(settings, given);
  if (job.resume) {
    take_unfinished(job.out, *setup);
  } else if (begins_dense(settings)) {
    take_parent(settings, corpus, teacher, *setup, pool, notes);
  } else {
    make_model(settings, corpus, teacher.tokenizer, *setup, notes);
  }
  complete_setup(settings, given, corpus, std::move(teacher), pool, *setup);

  NewFolder folder(job.out);
  setup->lock.emplace(job.out);
  check_out(job.out, given.flag("--resume"));
  if (!given.flag("--resume")) folder.own_contents();
  check_space(job.out, job);
  if (!job.resume) {
    // The settings first: whoever is killed from here on can --resume.
    write_settings(job.out, settings);
    model::save_description(job.out, job.model->config(), *setup->tokenizer);
    if (!setup->decisions.empty()) write_file_atomically(job.out / "decisions.jsonl", setup->decisions.lines);
    record_start(job.out, "train", {{"identity", sha256_hex(job.identity.dump())}}, setup->decisions);
  }
  folder.keep();
  if (ranks) meet_at_folder(*ranks);
  return setup;
}

std::unique_ptr<TrainSetup> join_training(const Arguments& settings, const Arguments& given, ThreadPool& pool,
                                          train::Ranks& ranks) {
  meet_at_folder(ranks);
  auto setup = begin_setup(settings, given, &ranks);
  if (!model::is_model_folder(setup->job.out)) {
    throw_input_error(
        "train",
        "rank {} sees no model in --out {} that rank 0 has begun; give all ranks the same command, "
        "and a folder on a file system that all of them share",
        ranks.rank(), setup->job.out.string());
  }
  model::LoadedModel begun = model::load_description(setup->job.out);
  setup->tokenizer = std::move(begun.tokenizer);
  setup->model = std::make_unique<model::Transformer<float>>(model::with_free_gauge(begun.model->config()));
  const text::Corpus corpus(settings.text("--train"));
  complete_setup(settings, given, corpus, load_teacher(settings, given), pool, *setup);
  return setup;
}

}  // namespace qtf::cli
