#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"
#include "qtf/compress/calibration.h"
#include "qtf/io/safetensors.h"

namespace qtf::compress {

namespace {

constexpr const char* kFormat = "qtf calibration 1";

/// Every moment with its name in the file.
template <class Moments, class Visit>
void visit_moments(Moments& calibration, const Visit& visit) {
  visit("embedding.gradients", calibration.embedding_gradients);
  visit("hidden", calibration.hidden);
  for (size_t b = 0; b < calibration.blocks.size(); ++b) {
    auto& block = calibration.blocks[b];
    for (size_t s = 0; s < block.inputs.size(); ++s)
      visit(fmt::format("blocks.{}.inputs.{}", b, s), block.inputs[s]);
    for (size_t m = 0; m < block.gradients.size(); ++m)
      visit(fmt::format("blocks.{}.gradients.{}", b, m), block.gradients[m]);
  }
}

}  // namespace

template <class Moment>
ModelMoments<Moment> empty_moments(const model::ModelConfig& config) {
  ModelMoments<Moment> moments;
  moments.embedding_gradients = Moment(config.width);
  moments.hidden = Moment(config.width);
  moments.blocks.resize(static_cast<size_t>(config.layers));
  std::vector<int64_t> seen(static_cast<size_t>(config.layers), 0);
  for (const model::MapSpec& map : model::linear_maps(config)) {
    if (map.layer < 0) continue;
    BlockMoments<Moment>& block = moments.blocks[static_cast<size_t>(map.layer)];
    const Site site = site_of(config.family, seen[static_cast<size_t>(map.layer)]++);
    block.inputs[static_cast<size_t>(site)] = Moment(map.in);
    block.gradients.emplace_back(map.out);
  }
  return moments;
}
template ModelMoments<SecondMoment> empty_moments(const model::ModelConfig&);
template ModelMoments<MeanMoment> empty_moments(const model::ModelConfig&);

void save_calibration(const std::filesystem::path& file, const Calibration& calibration) {
  io::SafetensorsWriter writer;
  writer.set_metadata("format", kFormat);
  writer.set_metadata("tokens", std::to_string(calibration.tokens));
  writer.set_metadata("text_sha256", calibration.text_sha256);
  writer.add("token_counts", {static_cast<int64_t>(calibration.token_counts.size())},
             std::span<const int64_t>(calibration.token_counts));
  visit_moments(calibration, [&](const std::string& name, const MeanMoment& moment) {
    writer.add(name, {static_cast<int64_t>(moment.lower.size())},
               std::span<const float>(moment.lower.data(), moment.lower.size()));
  });
  writer.write(file);
}

Calibration load_calibration(const std::filesystem::path& path, const model::ModelConfig& config) {
  const io::SafetensorsFile file(path);
  const auto text = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  if (text("format") != kFormat)
    throw_io_error(path.string(), "is no calibration: its format is '{}', not '{}'", text("format"), kFormat);
  Calibration calibration{empty_moments<MeanMoment>(config), 0, {}, {}};
  calibration.token_counts.assign(static_cast<size_t>(config.vocabulary), 0);
  calibration.text_sha256 = text("text_sha256");
  calibration.tokens = parse_count(text("tokens"), path.string() + ": tokens");
  const auto check = [&](const std::string& name, const io::TensorInfo& info, size_t expected) {
    if (info.elements() != static_cast<int64_t>(expected))
      throw_input_error("calibration", "{} is of another model: {} has {} numbers, this model needs {}",
                        path.string(), name, info.elements(), expected);
  };
  if (calibration.tokens < 1) throw_io_error(path.string(), "was made of no tokens");
  check("token_counts", file.at("token_counts"), calibration.token_counts.size());
  file.read(file.at("token_counts"), std::span<int64_t>(calibration.token_counts));
  visit_moments(calibration, [&](const std::string& name, MeanMoment& moment) {
    check(name, file.at(name), moment.lower.size());
    file.read(file.at(name), std::span<float>(moment.lower.data(), moment.lower.size()));
    for (const float mean : moment.lower)
      if (!std::isfinite(mean)) throw_io_error(path.string(), "{} holds NaN or infinity", name);
  });
  for (const int64_t count : calibration.token_counts)
    if (count < 0 || count > calibration.tokens)
      throw_io_error(path.string(), "token_counts holds {}, of {} tokens", count, calibration.tokens);
  return calibration;
}

}  // namespace qtf::compress
