
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/budget/cost_profile.h"

namespace qtf::budget {

namespace {

using nlohmann::ordered_json;

constexpr const char* kProfileFormat = "qtf profile 1";

ordered_json machine_json(const MeasuredOn& on) {
  return {{"processor", on.machine.processor},
          {"architecture", on.machine.architecture},
          {"cores", on.machine.cores},
          {"instructions", on.instructions},
          {"threads", on.threads}};
}

MeasuredOn machine_from(const ordered_json& json) {
  return {{json.at("processor"), json.at("architecture"), json.at("cores")},
          json.at("instructions"),
          json.at("threads")};
}

ordered_json costs_json(const adapt::MeasuredCosts& costs) {
  ordered_json rows = ordered_json::array();
  for (size_t t = 0; t < costs.size(); ++t)
    rows.push_back({{"tokens", adapt::kTimedTokens[t]},
                    {"median_ns", costs[t].time.median_ns},
                    {"spread_ns", costs[t].time.spread_ns},
                    {"energy_nj", costs[t].energy_nj}});
  return rows;
}

adapt::MeasuredCosts costs_from(const ordered_json& json) {
  adapt::MeasuredCosts costs;
  for (size_t t = 0; t < costs.size(); ++t) {
    const ordered_json& row = json.at(t);
    if (row.at("tokens") != adapt::kTimedTokens[t]) throw std::runtime_error("other token counts");
    costs[t] = {{row.at("median_ns"), row.at("spread_ns")}, row.at("energy_nj")};
  }
  return costs;
}

ordered_json map_json(const adapt::MapCosts& map) {
  ordered_json shapes = ordered_json::array();
  for (const adapt::TimedShape& shape : map.shapes)
    shapes.push_back({{"shape", shape.shape}, {"rank", shape.rank}, {"costs", costs_json(shape.costs)}});
  return {{"map", map.map},
          {"use", map.use == adapt::MapUse::shown_tokens ? "shown tokens" : "every token"},
          {"out", map.out},
          {"in", map.in},
          {"shapes", shapes}};
}

adapt::MapCosts map_from(const ordered_json& json) {
  adapt::MapCosts map{
      json.at("map"),
      json.at("use") == "shown tokens" ? adapt::MapUse::shown_tokens : adapt::MapUse::every_token,
      json.at("out"),
      json.at("in"),
      {}};
  for (const ordered_json& shape : json.at("shapes"))
    map.shapes.push_back({shape.at("shape"), shape.at("rank"), costs_from(shape.at("costs"))});
  return map;
}

}  // namespace

std::string profile_text(const CostProfile& profile) {
  ordered_json maps = ordered_json::array();
  for (const adapt::MapCosts& map : profile.table.maps) maps.push_back(map_json(map));
  return ordered_json{{"format", kProfileFormat},
                      {"machine", machine_json(profile.measured_on)},
                      {"model", profile.model_hash},
                      {"reference_ns", profile.reference_ns},
                      {"repeated", profile.repeated},
                      {"unsteady", profile.unsteady},
                      {"energy",
                       {{"tier", adapt::tier_name(profile.energy.tier)},
                        {"meter", profile.energy.meter},
                        {"low_ppm", profile.energy.low_ppm},
                        {"high_ppm", profile.energy.high_ppm}}},
                      {"maps", maps}}
             .dump(1) +
         "\n";
}

CostProfile parse_profile(std::string_view text, const std::string& place) {
  try {
    const ordered_json json = ordered_json::parse(text);
    if (json.at("format") != kProfileFormat) throw std::runtime_error("another format");
    CostProfile profile;
    profile.measured_on = machine_from(json.at("machine"));
    profile.model_hash = json.at("model");
    profile.reference_ns = json.at("reference_ns");
    profile.repeated = json.at("repeated"), profile.unsteady = json.at("unsteady");
    const ordered_json& energy = json.at("energy");
    profile.energy = {
        energy.at("tier") == "measured" ? adapt::EnergyTier::measured : adapt::EnergyTier::modelled,
        energy.at("meter"), energy.at("low_ppm"), energy.at("high_ppm")};
    for (const ordered_json& map : json.at("maps")) profile.table.maps.push_back(map_from(map));
    if (profile.reference_ns < 1) throw std::runtime_error("no reference");
    return profile;
  } catch (const std::exception& error) {
    throw_io_error(place, "is no profile ({}); run qtf profile again", error.what());
  }
}

void check_profile(const CostProfile& profile, const MeasuredOn& here, const std::string& model_hash,
                   const std::string& place) {
  const MeasuredOn& there = profile.measured_on;
  if (!(there.machine == here.machine && there.instructions == here.instructions))
    throw_input_error("profile", "{} is of another machine ({}; {}), this is {}; {}: run qtf profile here",
                      place, describe(there.machine), there.instructions, describe(here.machine),
                      here.instructions);
  if (there.threads != here.threads)
    throw_input_error("profile",
                      "{} was measured with --threads {}, this is --threads {}; run qtf profile again", place,
                      there.threads, here.threads);
  if (profile.model_hash != model_hash)
    throw_input_error("profile", "{} is of another model ({:.12}…), this is {:.12}…: run qtf profile on it",
                      place, profile.model_hash, model_hash);
}

std::filesystem::path profile_path(const MeasuredOn& here, const std::string& model_hash) {
  const std::string machine = sha256_hex(machine_json(here).dump());
  return cache_folder() / "profiles" / fmt::format("{:.16}-{:.32}.json", machine, model_hash);
}

}  // namespace qtf::budget
