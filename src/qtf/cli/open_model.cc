#include "qtf/cli/open_model.h"

namespace qtf::cli {

model::LoadedModel open_model(const std::string& path, std::string_view place) {
  model::LoadedModel loaded = model::load_model(path);
  if (!loaded.tokenizer)
    throw_input_error(place, "{} has no tokenizer that can be used: {}", path, loaded.tokenizer_problem);
  return loaded;
}

std::string name_of(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

Option cache_dtype_option() {
  return {.name = "--cache-dtype",
          .value = "TYPE",
          .initial = "f32",
          .help = "what keys and values of the tokens before are kept in",
          .choices = {"f32", "f16", "int8", "int4"}};
}

void set_cache_type(std::string_view dtype, model::Transformer<float>& model) {
  if (dtype != "f32" && !code_type_named(dtype))
    throw_input_error("cache dtype", "{} is none of f32, f16, int8 and int4", dtype);
  model.set_cache_type(code_type_named(dtype));
}

Option level_option(std::string_view help) {
  return {.name = "--level",
          .type = ValueType::integer,
          .value = "K",
          .initial = "0",
          .help = help,
          .min = 0,
          .max = 4};
}

int read_level(const Arguments& arguments, const model::ModelConfig& config, std::string_view place) {
  const auto level = static_cast<int>(arguments.integer("--level"));
  const int levels = model::level_count(config);
  if (level > levels) {
    throw_input_error(place, "--level {}: this model has {} level{}", level, levels, levels == 1 ? "" : "s");
  }
  return level == levels ? 0 : level;
}

}  // namespace qtf::cli
