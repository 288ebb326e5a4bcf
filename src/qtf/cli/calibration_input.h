// What --calibrate gives a command: a text, or moments that an earlier call stored.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "qtf/cli/command.h"
#include "qtf/compress/sequences.h"
#include "qtf/model/model_folder.h"

namespace qtf::cli {

Option calibrate_option(bool required);
Option calibrate_tokens_option();

struct CalibrationInput {
  compress::Sequences text;
  std::string sha256;                           ///< of the text
  std::optional<std::filesystem::path> stored;  ///< moments instead of a text
};

/// By --calibrate, --calibrate-tokens and --separator. Throws InputError, `place` naming the command, for a
/// text that gives fewer tokens than the widest map has inputs.
CalibrationInput read_calibration(const Arguments& arguments, const model::LoadedModel& loaded,
                                  std::string_view place);

}  // namespace qtf::cli
