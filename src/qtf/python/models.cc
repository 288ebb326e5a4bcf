#include <fmt/format.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <numeric>
#include <variant>

#include "qtf/base/parse.h"
#include "qtf/cli/cli.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/rank_options.h"
#include "qtf/model/continuation.h"
#include "qtf/model/inference.h"
#include "qtf/model/model_folder.h"
#include "qtf/python/bindings.h"
#include "qtf/text/corpus.h"
#include "qtf/text/token_file.h"
#include "qtf/train/evaluate.h"

namespace qtf::python {
namespace {

/// Which levels a pass runs, as the command line's options of the same names.
struct RankChoice {
  int level = 0;
  std::optional<std::string> rank_policy = {};
  std::optional<double> mean_rank = {}, alpha = {}, hysteresis = {};

  std::unique_ptr<model::RankScheduler> scheduler(const model::ModelConfig& config) const {
    cli::Arguments::Values given;
    const auto give = [&](const char* name, const auto& value) {
      if (value) given[name] = {fmt::format("{}", *value)};
    };
    give("--rank-policy", rank_policy);
    give("--mean-rank", mean_rank);
    give("--alpha", alpha);
    give("--hysteresis", hysteresis);
    const int levels = model::level_count(config);
    if (level < 0 || level > levels)
      throw_input_error("qtf", "level must be 0 (the largest) to {} for this model, got {}", levels, level);
    return cli::read_rank_scheduler(cli::check_arguments(command(), std::move(given)), config);
  }

 private:
  static const cli::Command& command() {
    static const cli::Command ranks{
        .name = "ranks",
        .summary = {},
        .options = {cli::rank_policy_option(), cli::mean_rank_option(), cli::alpha_option(),
                    cli::hysteresis_option(), cli::rank_seed_option()}};
    return ranks;
  }
};

/// A model ready to run, and the threads that run it: one pass at a time, whoever asks.
struct Model {
  Model(const std::filesystem::path& place, int threads, const std::string& cache_dtype)
      : path(place.string()), pool(threads), loaded(cli::open_model(path, "load")) {
    cli::set_cache_type(cache_dtype, *loaded.model);
    loaded.model->prepare(tt::Use::inference, pool);
  }

  const model::ModelConfig& config() const { return loaded.model->config(); }

  std::string path;
  ThreadPool pool;
  model::LoadedModel loaded;
  std::mutex mutex;
};

/// A piece of a text as it is written, and what the pass that drew it decided.
struct Token {
  model::TokenTrace trace;
  std::string text = {};
  int32_t id = 0;

  double entropy() const {
    const std::vector<float>& entropies = trace.entropies;
    return std::accumulate(entropies.begin(), entropies.end(), 0.0) / static_cast<double>(entropies.size());
  }
};

/// Writes a text, a token a call.
class Generation {
 public:
  Generation(std::shared_ptr<Model> model, const std::string& prompt, model::ContinuationOptions options,
             const RankChoice& ranks)
      : model_(std::move(model)),
        scheduler_(ranks.scheduler(model_->config())),
        levels_(ranks.level, scheduler_.get()),
        text_(*model_->loaded.model, *model_->loaded.tokenizer,
              model::encode_prompt(*model_->loaded.model, *model_->loaded.tokenizer, prompt, "generate"),
              std::move(options)),
        inference_(*model_->loaded.model, model_->pool),
        logits_(static_cast<size_t>(model_->config().vocabulary)) {}

  /// None: the text is finished.
  std::optional<Token> next() {
    if (text_.finished()) return {};
    const std::lock_guard lock(model_->mutex);
    read();
    Token token{.trace = text_.trace({entropy_.data(), model_->config().layers, rows_}, rows_ - 1)};
    auto drawn = text_.draw(logits_);
    token.id = drawn.token, token.text = std::move(drawn.text);
    if (text_.finished()) token.text += text_.finish();
    if (drawn.token < 0 && token.text.empty()) return {};
    return token;
  }

 private:
  void read() {
    const model::ModelConfig& config = model_->config();
    const model::Chunk<float> chunk{text_.unread(), &text_.cache()};
    rows_ = static_cast<int64_t>(chunk.tokens.size());
    hidden_.resize(static_cast<size_t>(rows_ * config.width));
    entropy_.resize(static_cast<size_t>(rows_ * config.layers));
    const Matrix<float> hidden(hidden_.data(), rows_, config.width);
    inference_.forward({&chunk, 1}, levels_, hidden, {entropy_.data(), config.layers, rows_});
    inference_.logits(hidden.row_block(rows_ - 1, 1), levels_.level, {logits_.data(), 1, config.vocabulary});
  }

  std::shared_ptr<Model> model_;
  std::unique_ptr<model::RankScheduler> scheduler_;
  model::Levels levels_;
  model::Continuation text_;
  model::Inference<float> inference_;
  int64_t rows_ = 0;  // of the last pass
  std::vector<float> hidden_, entropy_, logits_;
};

/// How well a model predicts a text, with the text's own counts.
struct Evaluated {
  train::Evaluation evaluation;
  text::TextCounts counts;
  int64_t text_tokens = 0;

  double word_perplexity() const { return evaluation.word_perplexity(counts, text_tokens); }
  double bits_per_byte() const { return evaluation.bits_per_byte(counts, text_tokens); }
};

using TextOrPath = std::variant<std::string, std::filesystem::path>;

Evaluated evaluate(Model& model, const TextOrPath& text, int64_t context, int64_t stride,
                   const RankChoice& ranks) {
  const auto scheduler = ranks.scheduler(model.config());
  train::EvaluateOptions options;
  options.context = context, options.stride = stride;
  options.level = ranks.level, options.scheduler = scheduler.get();
  const text::Tokenizer& tokenizer = *model.loaded.tokenizer;
  Evaluated result;
  const std::lock_guard lock(model.mutex);
  if (const auto* path = std::get_if<std::filesystem::path>(&text)) {
    const text::TokenFile file = text::tokenize_corpus(*path, tokenizer, {.cache = {}, .progress = false});
    result.counts = file.counts(), result.text_tokens = file.size();
    result.evaluation =
        train::evaluate(*model.loaded.model, train::TokenRange{&file, 0, file.size()}, options, model.pool);
    return result;
  }
  const auto tokens = tokenizer.encode(std::get<std::string>(text));
  result.counts = text::count_text(std::get<std::string>(text));
  result.text_tokens = static_cast<int64_t>(tokens.size());
  result.evaluation =
      train::evaluate(*model.loaded.model, std::span<const int32_t>(tokens), options, model.pool);
  return result;
}

/// Token ids of a list, or of an array of whole numbers.
std::vector<int32_t> token_ids(const py::object& tokens, const model::ModelConfig& config,
                               const char* place) {
  const py::array array = py::array::ensure(tokens);
  const char kind = array ? array.dtype().kind() : '?';
  if (!array || array.ndim() != 1 || array.size() == 0 || (kind != 'i' && kind != 'u'))
    throw_input_error(place, "tokens must be one or more whole numbers, a list or an array of one dimension");
  std::vector<int32_t> ids;
  for (const int64_t id : array.cast<std::vector<int64_t>>()) {
    if (id < 0 || id >= config.vocabulary)
      throw_input_error(place, "token {} at {} is not in the model's vocabulary of {}", id, ids.size(),
                        config.vocabulary);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

py::array_t<float> logits(Model& model, const py::object& tokens, int level) {
  const model::ModelConfig& config = model.config();
  const std::vector<int32_t> ids = token_ids(tokens, config, "logits");
  const auto rows = static_cast<int64_t>(ids.size());
  if (rows > config.context)
    throw_input_error("logits", "{} tokens are more than the model's context of {}", rows, config.context);
  const RankChoice ranks{.level = level};
  ranks.scheduler(config);  // checks the level
  py::array_t<float> result({rows, config.vocabulary});
  const Matrix<float> out(result.mutable_data(), rows, config.vocabulary);
  const py::gil_scoped_release others_run;
  const std::lock_guard lock(model.mutex);
  auto cache = model.loaded.model->make_cache(rows);
  std::vector<float> memory(static_cast<size_t>(rows * config.width));
  const Matrix<float> hidden(memory.data(), rows, config.width);
  model::Inference<float> inference(*model.loaded.model, model.pool);
  const model::Chunk<float> chunk{ids, &cache};
  inference.forward({&chunk, 1}, level, hidden);
  inference.logits(hidden, level, out);
  return result;
}

std::string describe(const Model& model) {
  return fmt::format("<qtf.Model {}: {} parameters, {} layers, vocabulary {}, context {}>", model.path,
                     format_count(model::parameter_count(model.config())), model.config().layers,
                     model.config().vocabulary, model.config().context);
}

std::unique_ptr<Generation> generate(std::shared_ptr<Model> model, const std::string& prompt, int64_t tokens,
                                     double temperature, int64_t top_k, double top_p, double min_p,
                                     double repeat_penalty, uint64_t seed, std::vector<std::string> stop,
                                     const RankChoice& ranks) {
  if (tokens < 0) throw_input_error("generate", "tokens must be 0 or more, got {}", tokens);
  for (const std::string& text : stop)
    if (text.empty()) throw_input_error("generate", "a stop text must not be empty");
  model::SamplingOptions sampling{.temperature = temperature,
                                  .top_k = top_k,
                                  .top_p = top_p,
                                  .min_p = min_p,
                                  .repeat_penalty = repeat_penalty,
                                  .seed = seed};
  model::validate(sampling);
  return std::make_unique<Generation>(std::move(model), prompt,
                                      model::ContinuationOptions{tokens, sampling, std::move(stop)}, ranks);
}

void bind_results(py::module_& module) {
  py::class_<Token>(module, "Token",
                    "A piece of a text as it is written, and what the pass that drew it decided.")
      .def_readonly("text", &Token::text,
                    "Whole characters; empty while a character or a stop text may go on.")
      .def_readonly("id", &Token::id, "-1: the end of the text, with what was held back.")
      .def_property_readonly("entropy", &Token::entropy, "Mean attention entropy of the layers, 0 to 1.")
      .def_property_readonly(
          "entropies", [](const Token& token) { return token.trace.entropies; },
          "Attention entropy of each layer.")
      .def_property_readonly(
          "levels",
          [](const Token& token) {
            return std::vector<int>(token.trace.levels.begin(), token.trace.levels.end());
          },
          "Nested level of each layer; 0: none was chosen for the token.")
      .def_property_readonly(
          "routed", [](const Token& token) { return token.trace.routed; },
          "Whether it passed the quantum layer.")
      .def("__repr__", [](const Token& token) {
        return fmt::format("<qtf.Token {} {}>", token.id, std::string(py::repr(py::str(token.text))));
      });

  using train::Evaluation;
  const auto part = [](auto member) { return [member](const Evaluated& e) { return e.evaluation.*member; }; };
  py::class_<Evaluated>(module, "Evaluation", "How well a model predicts a text.")
      .def_property_readonly("nats_per_token", part(&Evaluation::nats_per_token))
      .def_property_readonly("standard_error", part(&Evaluation::standard_error), "Of nats_per_token.")
      .def_property_readonly("perplexity", [](const Evaluated& e) { return e.evaluation.perplexity(); })
      .def_property_readonly("word_perplexity", &Evaluated::word_perplexity)
      .def_property_readonly("bits_per_byte", &Evaluated::bits_per_byte)
      .def_property_readonly("tokens", part(&Evaluation::tokens), "Scored.")
      .def_property_readonly("seconds", part(&Evaluation::seconds))
      .def_property_readonly("routed_share", part(&Evaluation::routed_share),
                             "Of the tokens, through the quantum layer.")
      .def("__repr__", [](const Evaluated& e) {
        return fmt::format("<qtf.Evaluation perplexity {:.3f}, {:.4f} bits/byte, {:.4f} ± {:.4f} nats/token>",
                           e.evaluation.perplexity(), e.bits_per_byte(), e.evaluation.nats_per_token,
                           e.evaluation.standard_error);
      });
}

void bind_generation(py::module_& module) {
  py::class_<Generation>(module, "Generation", "A text while it is written: an iterator over its tokens.")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", [](Generation& self) {
        std::optional<Token> token;
        {
          const py::gil_scoped_release others_run;
          token = self.next();
        }
        if (!token) throw py::stop_iteration();
        return std::move(*token);
      });
}

}  // namespace

void bind_models(py::module_& module) {
  using namespace py::literals;
  const py::kw_only kw_only;
  const auto released = py::call_guard<py::gil_scoped_release>();
  bind_results(module);
  bind_generation(module);
  using Number = std::optional<double>;
  using Name = std::optional<std::string>;
  const auto config = [](auto member) { return [member](const Model& m) { return m.config().*member; }; };
  py::class_<Model, std::shared_ptr<Model>>(module, "Model", "A model ready to run; see load().")
      .def_readonly("path", &Model::path)
      .def_property_readonly("vocabulary", config(&model::ModelConfig::vocabulary))
      .def_property_readonly("context", config(&model::ModelConfig::context))
      .def_property_readonly("width", config(&model::ModelConfig::width))
      .def_property_readonly("layers", config(&model::ModelConfig::layers))
      .def_property_readonly("levels", [](const Model& m) { return model::level_count(m.config()); })
      .def_property_readonly("parameters", [](const Model& m) { return model::parameter_count(m.config()); })
      .def_property_readonly(
          "start_token",
          [](const Model& m) {
            const auto token = m.config().bos_token;
            return token < 0 ? std::optional<int64_t>() : std::optional<int64_t>(token);
          },
          "What goes before every text; None: nothing.")
      .def(
          "encode", [](const Model& m, const std::string& text) { return m.loaded.tokenizer->encode(text); },
          "text"_a, "The ids of a text, without a start token.")
      .def(
          "decode",
          [](const Model& m, const py::object& tokens) {
            return py::bytes(m.loaded.tokenizer->decode(token_ids(tokens, m.config(), "decode")))
                .attr("decode")("utf-8", "replace");
          },
          "tokens"_a, "The text of ids; bytes that are no UTF-8 become U+FFFD.")
      .def("logits", &logits, "tokens"_a, kw_only, "level"_a = 0,
           "Logits [tokens, vocabulary], float32, of the token after each of these.")
      .def(
          "generate",
          [](std::shared_ptr<Model> model, const std::string& prompt, int64_t tokens, double temperature,
             int64_t top_k, double top_p, double min_p, double repeat_penalty, uint64_t seed,
             std::vector<std::string> stop, int level, Name rank_policy, Number mean_rank, Number alpha,
             Number hysteresis) {
            return generate(std::move(model), prompt, tokens, temperature, top_k, top_p, min_p,
                            repeat_penalty, seed, std::move(stop),
                            {level, std::move(rank_policy), mean_rank, alpha, hysteresis});
          },
          "prompt"_a, kw_only, "tokens"_a = 128, "temperature"_a = 0.8, "top_k"_a = 0, "top_p"_a = 1.0,
          "min_p"_a = 0.0, "repeat_penalty"_a = 1.0, "seed"_a = 0, "stop"_a = py::tuple(), "level"_a = 0,
          "rank_policy"_a = py::none(), "mean_rank"_a = py::none(), "alpha"_a = py::none(),
          "hysteresis"_a = py::none(),
          "Continues a prompt, a Token at a time: the tokens that `qtf generate` writes with these options.")
      .def(
          "evaluate",
          [](Model& model, const TextOrPath& text, int64_t context, int64_t stride, int level,
             Name rank_policy, Number mean_rank, Number alpha, Number hysteresis) {
            return evaluate(model, text, context, stride,
                            {level, std::move(rank_policy), mean_rank, alpha, hysteresis});
          },
          "text"_a, kw_only, "context"_a = 0, "stride"_a = 0, "level"_a = 0, "rank_policy"_a = py::none(),
          "mean_rank"_a = py::none(), "alpha"_a = py::none(), "hysteresis"_a = py::none(), released,
          "How well the model predicts a text, given as a str, or a file or folder, given as a pathlib.Path: "
          "the figures of `qtf eval`.")
      .def("__repr__", &describe);
  module.def(
      "load",
      [](const std::filesystem::path& path, int threads, const std::string& cache_dtype) {
        return std::make_shared<Model>(path, threads, cache_dtype);
      },
      "path"_a, kw_only, "threads"_a = 0, "cache_dtype"_a = "f32", released,
      "Opens a model folder, a GGUF file or a llama2.c .bin. threads: 0: all cores. cache_dtype: what keys "
      "and "
      "values of the tokens before are kept in: f32, f16, int8 or int4.");
}

}  // namespace qtf::python
