// What commands that run a model begin with: opening it, and reading --level.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "qtf/base/thread_pool.h"
#include "qtf/cli/command.h"
#include "qtf/model/model_folder.h"

namespace qtf::cli {

/// A model and its tokenizer, not yet packed. Throws like model::load_model, and InputError if there is no
/// tokenizer.
model::LoadedModel open_model(const std::string& path, std::string_view place);

/// How a model is called: the last name of its path, whether that is "chain/", "." or "../x".
std::string name_of(const std::filesystem::path& path);

/// --cache-dtype, which set_cache_type() reads.
Option cache_dtype_option();

/// What the model's caches hold from now on: "f32", "f16", "int8" or "int4". Throws InputError for others.
void set_cache_type(std::string_view dtype, model::Transformer<float>& model);

/// --level, which read_level() reads.
Option level_option(std::string_view help = "nested level, 1 the smallest; 0: the largest");

/// The value of --level for Transformer's calls: 0 is the largest. Throws InputError if the model has fewer
/// levels.
int read_level(const Arguments& arguments, const model::ModelConfig& config, std::string_view place);

}  // namespace qtf::cli
