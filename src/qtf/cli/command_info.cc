#include <fmt/format.h>

#include <ostream>

#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/cli/command.h"
#include "qtf/model/model_folder.h"
#include "qtf/quantum/resources.h"

namespace qtf::cli {
namespace {

using nlohmann::ordered_json;

/// How the execution plan runs a map.
std::string runs_as(const tt::WeightShape& shape, const std::vector<int>& merged) {
  if (shape.kind == tt::ShapeKind::dense) return "matrix";
  if (tt::is_rebuilt(shape) || static_cast<int>(merged.size()) == tt::level_count(shape))
    return "merged matrix";
  return merged.empty() ? "factors" : fmt::format("factors, merged at level {}", fmt::join(merged, ", "));
}

ordered_json map_json(const model::MapParameters& map, const model::ModelConfig& config) {
  return {{"name", map.spec.name},
          {"part", model::part_name(map.spec.part)},
          {"layer", map.spec.layer},
          {"shape", tt::summary(map.shape)},
          {"out", map.spec.out},
          {"in", map.spec.in},
          {"parameters", map.size},
          {"dense_parameters", map.spec.out * map.spec.in},
          {"macs", model::map_macs(config, map.spec)},
          {"runs_as", runs_as(map.shape, model::merged_levels(config, map.spec.name))}};
}

/// The quantum layer: sizes, cost and what a device would need to run the circuit.
ordered_json quantum_json(const model::ModelConfig& c) {
  const model::QuantumConfig& q = *c.quantum;
  ordered_json json = {{"block", model::quantum_block(c)},
                       {"qubits", q.circuit.qubits},
                       {"layers", q.circuit.layers},
                       {"ansatz", nn::info(q.circuit.kind).name},
                       {"fraction", q.fraction()},
                       {"train", q.train},
                       {"routing", model::to_string(q.routing)},
                       {"parameters", model::quantum_parameters(c)},
                       {"circuit_parameters", q.circuit.weights()},
                       {"macs_any_token", nn::quantum_macs_any(c.width)},
                       {"macs_routed_token", nn::quantum_macs_routed(q.circuit, c.width)}};
  const auto circuit = nn::inner_circuit(q.circuit);
  if (!circuit) return json;
  const quantum::Resources resources = quantum::count_resources(*circuit);
  json["gates"] = resources.gates, json["two_qubit_gates"] = resources.two_qubit_gates;
  json["depth"] = resources.depth;
  return json;
}

/// How the cores are stored.
std::string weights_text(const model::Transformer<float>& model) {
  return model.codes() ? model::to_string(model.codes()->coding) : "floats";
}

ordered_json to_json(const model::LoadedModel& loaded) {
  const model::ModelConfig& c = loaded.model->config();
  const int64_t parameters = model::parameter_count(c), dense = model::dense_parameter_count(c);
  ordered_json layers = ordered_json::array();
  for (const auto& map : loaded.model->layout().maps) layers.push_back(map_json(map, c));
  ordered_json json = {{"architecture",
                        {{"family", c.family == model::Family::llama ? "llama" : "gpt2"},
                         {"vocabulary", c.vocabulary},
                         {"width", c.width},
                         {"layers", c.layers},
                         {"heads", c.heads},
                         {"kv_heads", c.kv_heads},
                         {"feed_forward", c.feed_forward},
                         {"context", c.context},
                         {"tied", c.tied},
                         {"levels", model::level_count(c)}}},
                       {"parameters", parameters},
                       {"dense_parameters", dense},
                       {"ratio", static_cast<double>(dense) / static_cast<double>(parameters)},
                       {"bytes", loaded.bytes},
                       {"weights", weights_text(*loaded.model)},
                       {"macs_per_token", model::macs_per_token(c, (c.context - 1) / 2)},
                       {"layers", layers}};
  if (c.quantum) json["quantum"] = quantum_json(c);
  if (c.rank_policy) json["rank_policy"] = model::to_json(*c.rank_policy);
  return json;
}

void print_quantum(const ordered_json& q, std::ostream& out) {
  out << fmt::format(
      "\nquantum layer    after the attention of block {}: {} qubits, {} layers, ansatz {}{}; at most {:.1f} "
      "% of "
      "the tokens, routed by {}\n",
      q.at("block").get<int64_t>(), q.at("qubits").get<int>(), q.at("layers").get<int>(),
      q.at("ansatz").get<std::string>(), q.at("train").get<bool>() ? "" : " (not trained)",
      100 * q.at("fraction").get<double>(),
      q.at("routing").get<std::string>() == "gate" ? "score" : "chance");
  out << fmt::format(
      "                 {} parameters ({} of the circuit), {} MACs a token and {} a routed one",
      q.at("parameters").get<int64_t>(), q.at("circuit_parameters").get<int64_t>(),
      q.at("macs_any_token").get<int64_t>(), q.at("macs_routed_token").get<int64_t>());
  if (q.contains("gates")) {
    out << fmt::format("; {} gates, {} of them on two qubits, depth {}", q.at("gates").get<int64_t>(),
                       q.at("two_qubit_gates").get<int64_t>(), q.at("depth").get<int64_t>());
  }
  out << "\n";
}

void print_rank_policy(const ordered_json& policy, std::ostream& out) {
  const auto share = [&](const char* key) {
    return policy.at(key).get<double>() / static_cast<double>(adapt::kUnit);
  };
  out << fmt::format(
      "\nranks            calibrated for --rank-policy {}: mean rank {:.3f} of the range, hysteresis "
      "{:.3f}\n",
      policy.at("signal").get<std::string>(), share("mean_rank"), share("hysteresis"));
}

void print_text(const ordered_json& json, std::ostream& out) {
  const auto count = [](const ordered_json& value) { return format_count(value.get<int64_t>()); };
  const ordered_json& a = json.at("architecture");
  out << fmt::format(
      "{} family: vocabulary {}, width {}, {} layers, {} heads ({} kv), feed-forward {}, context {}{}{}\n",
      a.at("family").get<std::string>(), a.at("vocabulary").get<int64_t>(), a.at("width").get<int64_t>(),
      a.at("layers").get<int64_t>(), a.at("heads").get<int64_t>(), a.at("kv_heads").get<int64_t>(),
      a.at("feed_forward").get<int64_t>(), a.at("context").get<int64_t>(),
      a.at("tied").get<bool>() ? ", tied head" : "",
      a.at("levels").get<int>() > 1 ? fmt::format(", {} nested levels", a.at("levels").get<int>()) : "");
  out << fmt::format(
      "parameters       {} (numbers stored; the equal dense model has {}: ratio {:.2f} of the whole model)\n",
      count(json.at("parameters")), count(json.at("dense_parameters")), json.at("ratio").get<double>());
  out << fmt::format("file             {}, weights as {}\n", format_bytes(json.at("bytes").get<int64_t>()),
                     json.at("weights").get<std::string>());
  out << fmt::format("MACs a token     {} (half-full context)\n\n", count(json.at("macs_per_token")));
  out << fmt::format("{:<40} {:>13} {:<34} {:>10} {:>8}  {}\n", "map", "out x in", "shape", "parameters",
                     "of dense", "runs as");
  for (const ordered_json& map : json.at("layers")) {
    const double share = map.at("parameters").get<double>() / map.at("dense_parameters").get<double>();
    out << fmt::format("{:<40} {:>13} {:<34} {:>10} {:>7.1f}%  {}\n", map.at("name").get<std::string>(),
                       fmt::format("{} x {}", map.at("out").get<int64_t>(), map.at("in").get<int64_t>()),
                       map.at("shape").get<std::string>(), map.at("parameters").get<int64_t>(), 100 * share,
                       map.at("runs_as").get<std::string>());
  }
  if (json.contains("quantum")) print_quantum(json.at("quantum"), out);
  if (json.contains("rank_policy")) print_rank_policy(json.at("rank_policy"), out);
}

void run_info(const Arguments& arguments, const Streams& streams) {
  const ordered_json json = to_json(model::load_model(arguments.text("MODEL")));
  if (arguments.flag("--json")) {
    streams.out << json.dump() << "\n";
  } else {
    print_text(json, streams.out);
  }
}

}  // namespace

extern const Command kInfoCommand;
const Command kInfoCommand{
    .name = "info",
    .summary = "Describe a model: architecture, shapes, parameters, size and cost",
    .example = {.call = "qtf info quickstart-out/chain"},
    .options = {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
                {.name = "--json", .type = ValueType::flag, .help = "print one JSON object"}},
    .run = run_info,
};

}  // namespace qtf::cli
