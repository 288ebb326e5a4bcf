#include "qtf/train/checkpoint.h"

#include "qtf/base/error.h"
#include "qtf/io/safetensors.h"

namespace qtf::train {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

fs::path file_of(const fs::path& folder) {
  return folder / "checkpoint.safetensors";
}

json to_json(const RunState& p) {
  return {{"step", p.step},
          {"seconds", p.seconds},
          {"best_step", p.best_step},
          {"best_nats", p.best_nats},
          {"best_error", p.best_error},
          {"bad_validations", p.bad_validations},
          {"metrics_bytes", p.metrics_bytes},
          {"guided", p.guided},
          {"rank_quantiles", p.rank_quantiles}};
}

RunState progress_from(const json& j) {
  return {j.at("step"),
          j.at("seconds"),
          j.at("best_step"),
          j.at("best_nats"),
          j.at("best_error"),
          j.at("bad_validations"),
          j.at("metrics_bytes"),
          j.value("guided", false),
          j.value("rank_quantiles", std::vector<std::vector<int64_t>>())};
}

/// Names and numbers of the arrays in file order.
std::vector<std::pair<std::string, std::span<float>>> named(const CheckpointArrays& arrays) {
  std::vector<std::pair<std::string, std::span<float>>> list = {{"parameters", arrays.parameters},
                                                                {"first_moments", arrays.first_moments},
                                                                {"second_moments", arrays.second_moments}};
  if (!arrays.average.empty()) list.emplace_back("average", arrays.average);
  if (!arrays.guides.empty()) {
    list.emplace_back("guides", arrays.guides);
    list.emplace_back("guide_first_moments", arrays.guide_first_moments);
    list.emplace_back("guide_second_moments", arrays.guide_second_moments);
  }
  return list;
}

void check_identity(const fs::path& path, const json& found, const json& expected) {
  for (const auto& [key, value] : expected.items()) {
    const bool any = value.is_null() || (found.contains(key) && found.at(key).is_null());
    if (any || (found.contains(key) && found.at(key) == value)) continue;
    throw_input_error(
        "resume",
        "{} was made with {} = {}, this run has {}; resume with the same settings, or train into "
        "another --out",
        path.string(), key, found.contains(key) ? found.at(key).dump() : "none", value.dump());
  }
}

}  // namespace

bool has_checkpoint(const fs::path& folder) {
  return fs::is_regular_file(file_of(folder));
}

void remove_checkpoint(const fs::path& folder) {
  std::error_code ignored;
  fs::remove(file_of(folder), ignored);
}

void save_checkpoint(const fs::path& folder, const RunState& progress, const json& identity,
                     const CheckpointArrays& arrays) {
  io::SafetensorsWriter writer;
  for (const auto& [name, values] : named(arrays)) {
    writer.add(name, {static_cast<int64_t>(values.size())}, std::span<const float>(values));
  }
  writer.set_metadata("progress", to_json(progress).dump());
  writer.set_metadata("identity", identity.dump());
  writer.write(file_of(folder));
}

RunState load_checkpoint(const fs::path& folder, const json& identity,
                         const std::function<CheckpointArrays(const RunState&)>& arrays) {
  const fs::path path = file_of(folder);
  if (!has_checkpoint(folder)) {
    throw_input_error("resume", "{} has no checkpoint: nothing was trained there, or the run is finished",
                      folder.string());
  }
  const io::SafetensorsFile file(path);
  const auto entry = [&](const char* key) {
    const auto found = file.metadata().find(key);
    const json parsed = found == file.metadata().end() ? json(json::value_t::discarded)
                                                       : json::parse(found->second, nullptr, false);
    if (parsed.is_discarded())
      throw_io_error(path.string(), "has no valid \"{}\" entry; it is not a checkpoint", key);
    return parsed;
  };
  check_identity(path, entry("identity"), identity);
  const RunState state = [&] {
    try {
      return progress_from(entry("progress"));
    } catch (const json::exception& e) {
      throw_io_error(path.string(), "its progress entry is damaged: {}", e.what());
    }
  }();
  for (const auto& [name, values] : named(arrays(state))) {
    const io::TensorInfo& info = file.at(name);
    if (info.elements() != static_cast<int64_t>(values.size())) {
      throw_io_error(path.string(), "{} has {} numbers, this model {}", name, info.elements(), values.size());
    }
    file.read(info, values);
  }
  return state;
}

}  // namespace qtf::train
