#include "qtf/serve/facts.h"

#include <fmt/format.h>

#include "qtf/audit/verify.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/model/gauge.h"

namespace qtf::serve {

using Json = nlohmann::ordered_json;

Json model_facts(const Engine& engine) {
  const model::ModelConfig& config = engine.model().config();
  const int64_t parameters = model::stored_parameter_count(config);
  Json facts{
      {"parameters", parameters},
      {"bytes", engine.bytes()},
      {"ratio", static_cast<double>(model::dense_parameter_count(config)) / static_cast<double>(parameters)},
      {"context", config.context},
      {"layers", config.layers},
      {"levels", model::level_count(config)},
      {"policy", config.rank_policy ? Json(adapt::info(config.rank_policy->signal).name) : Json(nullptr)}};
  if (config.quantum)
    facts["quantum"] = {{"qubits", config.quantum->circuit.qubits},
                        {"layers", config.quantum->circuit.layers}};
  return facts;
}

std::string prometheus_text(const EngineState& state) {
  std::string text;
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    text += fmt::format("# HELP qtf_{0} {1}\n# TYPE qtf_{0} {2}\nqtf_{0} {3}\n", name, help, type, value);
  };
  add("active_sequences", "gauge", "Texts in the batch.", state.active);
  add("waiting_jobs", "gauge", "Texts that wait for a place in the batch.", state.waiting);
  add("jobs_total", "counter", "Texts asked for.", state.jobs);
  add("refused_jobs_total", "counter", "Texts refused because the queue was full.", state.refused);
  add("cancelled_jobs_total", "counter", "Texts whose caller hung up.", state.cancelled);
  add("prompt_tokens_total", "counter", "Tokens read of prompts.", state.prompt_tokens);
  add("cached_tokens_total", "counter", "Tokens of prompts found in the prefix cache.", state.cached_tokens);
  add("tokens_total", "counter", "Tokens written.", state.tokens);
  add("routed_tokens_total", "counter", "Of those, through the quantum layer.", state.routed_tokens);
  add("passes_total", "counter", "Passes through the model.", state.passes);
  add("busy_seconds_total", "counter", "Seconds that the model worked.", state.busy_seconds);
  if (!state.energy_tier.empty()) {
    text += fmt::format(
        "# HELP qtf_joules_total Energy of finished texts.\n# TYPE qtf_joules_total counter\n"
        "qtf_joules_total{{tier=\"{}\"}} {}\n",
        state.energy_tier, state.joules);
  }
  return text;
}

Json records_facts(const std::filesystem::path& file, const std::string& model_name) {
  const audit::Verification found = audit::verify(file);
  Json problems = Json::array();
  for (const audit::VerifyProblem& problem : found.problems)
    problems.push_back({{"record", problem.sequence}, {"what", problem.what}});
  return {{"consistent", found.problems.empty()},
          {"records", found.count},
          {"root", to_hex(found.root)},
          {"problems", problems},
          {"verify", audit::verify_command(model_name, found)}};
}

}  // namespace qtf::serve
