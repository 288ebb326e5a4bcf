// What a compression kept and lost: report.json and report.html of the new model's folder.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "qtf/compress/compress.h"
#include "qtf/compress/methods.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {

inline constexpr const char* kReportFile = "report.html";

/// One model on one text.
struct MeasuredText {
  std::string model;  ///< "before", "compressed", "healed", or "level 2 of 4"
  std::string text;   ///< "calibration" or "test"
  int64_t parameters = 0;
  double perplexity = 0;
  double standard_error = 0;                    ///< of the nats per token
  int64_t tokens = 0, context = 0, stride = 0;  ///< scored, and in which windows
  double kl_divergence = 0;                     ///< to the original, nats/token
  double same_top = 1;
  double tokens_per_second = 0;
};

/// Everything the report says.
struct CompressionReport {
  std::string name, source;
  const compress::Method* method = nullptr;
  const compress::Compressed* result = nullptr;
  model::ModelConfig config;  ///< of the new model
  int64_t bytes = 0;          ///< of model.safetensors
  int64_t dense_bytes = 0;    ///< of the dense model as F32
  int64_t peak_memory = 0;    ///< of the program, bytes
  int64_t calibration_tokens = 0;
  double seconds = 0;  ///< without healing
  double heal_minutes = 0;
  std::vector<MeasuredText> texts;
};

nlohmann::ordered_json to_json(const CompressionReport& report);

/// One page that needs nothing else: no script, no font, no network.
std::string compression_page(const CompressionReport& report);

}  // namespace qtf::cli
