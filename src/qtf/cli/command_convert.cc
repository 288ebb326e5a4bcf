#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <ostream>

#include "qtf/base/parse.h"
#include "qtf/cli/open_model.h"
#include "qtf/model/dense_model.h"
#include "qtf/model/model_formats.h"
#include "qtf/model/quantized_weights.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

/// The type asked for, if the format has it.
io::TensorType read_type(const Arguments& arguments, const model::ModelFormat& format) {
  std::vector<std::string> known;
  for (const io::TensorType type : format.types) {
    known.push_back(lower_case(io::info(type).name));
    if (known.back() == arguments.text("--type")) return type;
  }
  throw_input_error("convert", "--type {}: {} is written as {}", arguments.text("--type"),
                    model::with_article(format), fmt::join(known, ", "));
}

/// DST must be new: a file that does not exist, or a folder that holds nothing.
void check_destination(const fs::path& path) {
  if (!fs::exists(path)) return;
  if (fs::is_directory(path) && fs::is_empty(path)) return;
  throw_input_error("convert", "{} exists already; choose another name, or remove it", path.string());
}

/// Removes what a failed conversion leaves of a new destination.
class Cleanup {
 public:
  explicit Cleanup(fs::path path) : path_(std::move(path)), existed_(fs::exists(path_)) {}
  ~Cleanup() {
    std::error_code ignored;
    if (!done_ && existed_) {
      for (const auto& entry : fs::directory_iterator(path_, ignored)) fs::remove_all(entry.path(), ignored);
    } else if (!done_) {
      fs::remove_all(path_, ignored);
    }
  }
  void keep() { done_ = true; }

 private:
  fs::path path_;
  bool existed_;
  bool done_ = false;
};

int64_t bytes_of(const fs::path& path) {
  if (!fs::is_directory(path)) return static_cast<int64_t>(fs::file_size(path));
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path)) bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

void run_convert(const Arguments& arguments, const Streams& streams) {
  const fs::path source = arguments.text("SRC"), destination = arguments.text("DST");
  const model::ModelFormat& format = model::format_to_write(destination);
  const io::TensorType type = read_type(arguments, format);
  check_destination(destination);
  model::LoadedModel loaded = model::load_model(source);
  const bool dense = format.dense_only || arguments.flag("--dense");
  const int level = read_level(arguments, loaded.model->config(), "convert");
  if (arguments.given("--level") && !dense)
    throw_input_error("convert", "--level chooses what becomes dense; add --dense");

  std::vector<std::string> notes;
  if (!loaded.tokenizer) notes.push_back(fmt::format("no tokenizer was read: {}", loaded.tokenizer_problem));
  const model::ModelConfig& config = loaded.model->config();
  if (dense && (config.quantum || !config.shapes.empty())) {
    model::DenseModel multiplied = model::make_dense(*loaded.model, level);
    loaded.model = std::move(multiplied.model);
    notes.insert(notes.end(), multiplied.dropped.begin(), multiplied.dropped.end());
  }
  Cleanup cleanup(destination);
  const auto lacks = format.save(destination, *loaded.model, loaded.tokenizer.get(), type);
  cleanup.keep();
  notes.insert(notes.end(), lacks.begin(), lacks.end());

  const model::QuantizedWeights* codes = format.keeps_codes ? loaded.model->codes() : nullptr;
  streams.out << fmt::format("{}: {} with {} parameters in {}, {}\n", destination.string(), format.name,
                             format_count(model::parameter_count(loaded.model->config())),
                             codes ? model::to_string(codes->coding) : std::string(io::info(type).name),
                             format_bytes(bytes_of(destination)));
  for (const std::string& note : notes) streams.out << "note: " << note << "\n";
}

}  // namespace

extern const Command kConvertCommand;
const Command kConvertCommand{
    .name = "convert",
    .summary = "Bring a model into another format: from or for Hugging Face's programs and llama.cpp",
    .details =
        "SRC is a model folder (qtf's own, or Hugging Face's with safetensors), a GGUF file or a llama2.c "
        ".bin; "
        "every command that takes MODEL reads them as they are, too. DST is a GGUF file if it ends in .gguf, "
        "an edge file for devices (docs/edge.md) if it ends in .edge, else a folder. A folder keeps tensor "
        "trains unless --dense multiplies them out; GGUF is always dense; an edge file keeps chains and a "
        "quantized model's codes. "
        "What the result lacks is named.",
    .example = {.call = "qtf convert quickstart-out/chain chain.gguf --type q8_0"},
    .options = {{.name = "SRC", .help = "the model to read", .required = true},
                {.name = "DST",
                 .help = "what to write: NAME.gguf, NAME.edge, or a new folder",
                 .required = true},
                {.name = "--type",
                 .value = "TYPE",
                 .initial = "f32",
                 .help = "numbers of the matrices; bf16 is for folders, q8_0 for GGUF",
                 .choices = {"f32", "f16", "bf16", "q8_0"}},
                {.name = "--dense",
                 .type = ValueType::flag,
                 .help = "multiply tensor trains out, so that other programs can read the folder"},
                level_option("nested level that becomes dense, 1 the smallest; 0: the largest")},
    .run = run_convert,
};

}  // namespace qtf::cli
