#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <ostream>

#include "qtf/audit/fields.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/cli/calibration_input.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/model_card.h"
#include "qtf/cli/new_model_folder.h"
#include "qtf/cli/open_model.h"
#include "qtf/compress/compress.h"
#include "qtf/compress/quantize.h"
#include "qtf/model/gauge.h"
#include "qtf/model/model_files.h"
#include "qtf/text/token_file.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuitedBlock = "auto";

/// What a text says of the codes: the quantized model's loss beside the original's.
struct QuantizationLoss {
  train::Evaluation evaluation;
  double bits_per_byte = 0, bits_before = 0;

  double perplexity_share() const { return std::expm1(evaluation.difference); }
  double share_error() const { return std::exp(evaluation.difference) * evaluation.difference_error; }
};

QuantizationLoss measure_loss(const fs::path& path, const text::Tokenizer& tokenizer,
                              const model::Transformer<float>& quantized,
                              const model::Transformer<float>& original, ThreadPool& pool) {
  const text::TokenFile text = text::tokenize_corpus(path, tokenizer);
  QuantizationLoss loss{train::evaluate(quantized, {&text, 0, text.size()}, {}, pool, &original)};
  loss.bits_per_byte = loss.evaluation.bits_per_byte(text.counts(), text.size());
  train::Evaluation before = loss.evaluation;
  before.nats_per_token -= before.difference;
  loss.bits_before = before.bits_per_byte(text.counts(), text.size());
  return loss;
}

nlohmann::json figures_of(const model::LoadedModel& made, const std::optional<QuantizationLoss>& loss) {
  const model::ModelConfig& config = made.model->config();
  nlohmann::json figures = {{"parameters", std::to_string(model::parameter_count(config))},
                            {"dense_parameters", std::to_string(model::dense_parameter_count(config))},
                            {"bytes", std::to_string(made.bytes)}};
  if (!loss) return figures;
  figures.update(measured_facts(loss->evaluation));
  figures["bits_per_byte"] = fmt::format("{:.4f}", loss->bits_per_byte);
  figures["bits_per_byte_before"] = fmt::format("{:.4f}", loss->bits_before);
  figures["difference_bits"] = audit::float_bits(loss->evaluation.difference);
  figures["difference_error_bits"] = audit::float_bits(loss->evaluation.difference_error);
  return figures;
}

model::QuantizedWeights calibrated_or_nearest(const Arguments& arguments, const model::LoadedModel& original,
                                              const model::Transformer<float>& source, const Coding& coding,
                                              ThreadPool& pool) {
  if (!arguments.given("--calibrate")) return model::quantize(source.layout(), source.parameters(), coding);
  if (source.config().quantum)
    throw_input_error("quantize", "a model with a quantum layer cannot be calibrated; leave --calibrate out");
  const CalibrationInput input = read_calibration(arguments, original, "quantize");
  if (input.stored)
    return compress::quantize(source, compress::load_calibration(*input.stored, source.config()), coding,
                              pool);
  const auto dense = compress::dense_copy(*original.model, pool);
  return compress::quantize(source, compress::calibrate(*dense, input.text, pool), coding, pool);
}

Coding read_coding(const Arguments& arguments, const model::ModelConfig& config) {
  const std::string type = arguments.text("--dtype"), block = arguments.text("--block");
  return block == kSuitedBlock ? model::suited_coding(*code_type_named(type), config)
                               : model::parse_coding(type, block, "--block");
}

void run_quantize(const Arguments& arguments, const Streams& streams) {
  const fs::path out = new_model_path(arguments, "quantize");
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel original = open_model(arguments.text("MODEL"), "quantize");
  if (original.model->codes())
    throw_input_error("quantize", "{} is quantized already ({}); give the model that it was made from",
                      arguments.text("MODEL"), model::to_string(original.model->codes()->coding));
  const Coding coding = read_coding(arguments, original.model->config());
  // A fixed gauge saves numbers, but few bits do not tell them apart well enough: 50 % of perplexity against
  // 9 % (docs/quantization.md).
  std::unique_ptr<model::Transformer<float>> spread;
  if (coding.type == CodeType::int4) spread = model::with_spread_gauge(*original.model);
  const model::Transformer<float>& source = spread ? *spread : *original.model;
  const model::ParameterLayout& layout = source.layout();
  const std::span<const float> values = source.parameters();

  model::LoadedModel made;
  made.model = std::make_unique<model::Transformer<float>>(source.config());
  for (const model::Parameter& p : model::parameters_beside_cores(layout))
    std::copy_n(values.begin() + p.offset, p.size, made.model->parameters().begin() + p.offset);
  made.model->set_codes(calibrated_or_nearest(arguments, original, source, coding, pool));

  std::optional<QuantizationLoss> loss;
  if (arguments.given("--text")) {
    original.model->prepare(tt::Use::inference, pool), made.model->prepare(tt::Use::inference, pool);
    loss = measure_loss(arguments.text("--text"), *original.tokenizer, *made.model, *original.model, pool);
  }

  NewModelFolder folder(out, "quantize");
  model::save_quantized_folder(folder.path(), *made.model, original.tokenizer.get());
  made.bytes = static_cast<int64_t>(fs::file_size(folder / "model.safetensors"));
  record_start(folder.path(), "quantize",
               {{"source", fs::path(arguments.text("MODEL")).filename().string()},
                {"source_hash", model::model_hash(arguments.text("MODEL"))},
                {"coding", model::to_string(coding)}},
               {});
  record_made(folder.path(), figures_of(made, loss));
  write_model_card(folder.path(), out.filename().string(), made.model->config());
  folder.keep();

  streams.out << fmt::format("{}: {} parameters as {}, {} (before: {})\n", out.string(),
                             format_count(model::parameter_count(made.model->config())),
                             model::to_string(coding), format_bytes(made.bytes),
                             format_bytes(original.bytes));
  if (!loss) return;
  streams.out << fmt::format("bits/byte        {:.5f} (before: {:.5f}, {:+.5f})\n", loss->bits_per_byte,
                             loss->bits_before, loss->bits_per_byte - loss->bits_before);
  streams.out << fmt::format(
      "perplexity       {:+.2f} ± {:.2f} % (paired, {} tokens); same top token {:.2f} %\n",
      100 * loss->perplexity_share(), 100 * loss->share_error(), loss->evaluation.tokens,
      100 * loss->evaluation.same_top);
}

}  // namespace

extern const Command kQuantizeCommand;
const Command kQuantizeCommand{
    .name = "quantize",
    .summary = "Store a model's weights in 16, 8 or 4 bits, and run it from them",
    .details =
        "Cores, embedding and head become halves (f16) or integers with a scale for each block of weights "
        "(int8, int4); norms and biases stay floats. With --calibrate what one weight's rounding misses is "
        "made "
        "up for by others, which halves the loss of int4. Every command runs such a model from its codes, "
        "multiplying by exactly the numbers that they stand for: whole, batched or token by token, the "
        "result "
        "has the same bits. Training from it goes on with floats.",
    .example = {.call = "qtf quantize quickstart-out/chain --out chain-int8 --dtype int8"},
    .options = {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
                {.name = "--out", .value = "DIR", .help = "the new model folder", .required = true},
                {.name = "--dtype",
                 .value = "TYPE",
                 .initial = "int8",
                 .help = "what a weight becomes",
                 .choices = {"f16", "int8", "int4"}},
                {.name = "--block",
                 .value = "N",
                 .initial = kSuitedBlock,
                 .help =
                     "weights of a row that share a scale, an even number; row: all of them; auto: 32, and "
                     "16 for chains in int4"},
                {.name = "--text",
                 .value = "FILE",
                 .help = "a text file or a folder of them, to measure what is lost"},
                calibrate_option(false),
                calibrate_tokens_option(),
                {.name = "--separator",
                 .value = "STR",
                 .help = "split the calibration text here: each document alone"},
                threads_option()},
    .run = run_quantize,
};

}  // namespace qtf::cli
