#include "qtf/cli/model_card.h"

#include <fmt/format.h>

#include <set>

#include "qtf/base/file.h"
#include "qtf/base/quantity.h"
#include "qtf/explain/subject.h"

namespace qtf::cli {

namespace {

/// "attention: dense; ffn: chain": the kinds each part uses.
std::string shape_summary(const model::ModelConfig& config) {
  std::map<std::string, std::string> kinds;
  for (const model::MapSpec& map : model::linear_maps(config)) {
    const std::string kind(tt::shape_kinds()[static_cast<size_t>(model::shape_of(config, map).kind)].name);
    std::string& text = kinds[std::string(model::part_name(map.part))];
    if (text.find(kind) == std::string::npos) text += (text.empty() ? "" : " and ") + kind;
  }
  std::string summary;
  for (const auto& [part, text] : kinds)
    summary += fmt::format("{}{}: {}", summary.empty() ? "" : "; ", part, text);
  return summary;
}

/// Text that a table's cell may hold whatever it is.
std::string card_cell(std::string text) {
  for (size_t at = 0; (at = text.find_first_of("|<>`[]\n\r", at)) != std::string::npos;) text[at] = ' ';
  return text;
}

/// A double-quoted YAML string.
std::string yaml_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) >= ' ') quoted += c;
  }
  return quoted + "\"";
}

class CardWriter {
 public:
  CardWriter(const std::string& name, const model::ModelConfig& config, const ModelRecords& records)
      : name_(name), config_(config), records_(records) {}

  std::string write() {
    const std::string body = sizes() + making() + quality() + budgets();
    return metadata() + fmt::format("\n# {}\n\n", card_cell(name_)) + introduction() + body + index();
  }

 private:
  /// The link behind a number. Which records are linked is kept for the list at the end.
  std::string from(const NumberedRecord* record) {
    if (!record) return "not recorded";
    cited_.insert(record);
    return fmt::format("[record {0}](#record-{0})", record->number);
  }

  std::string row(const std::string& what, const std::string& value, const NumberedRecord* record) {
    if (value.empty()) return {};
    return fmt::format("| {} | {} | {} |\n", what, card_cell(value), from(record));
  }

  std::string metadata() const {
    std::string text =
        "---\nlibrary_name: qtf\npipeline_tag: text-generation\ntags:\n- tensor-train\n- "
        "small-language-model\n";
    if (config_.quantum) text += "- simulated-quantum-circuit\n";
    const NumberedRecord* start = records_.making.empty() ? nullptr : &records_.making.front();
    if (start && start->data.contains("source"))
      text += fmt::format("base_model: {}\n", yaml_text(start->data["source"].get<std::string>()));
    if (const NumberedRecord* made = records_.made("texts")) {
      text += fmt::format("model-index:\n- name: {}\n  results:\n", yaml_text(name_));
      // Of the whole model, not of one before it or a smaller level in it.
      std::string whole;
      for (const auto& one : made->data["figures"]["texts"])
        if (const std::string model = one.value("model", ""); model.find("level") == std::string::npos)
          whole = model;
      for (const auto& one : made->data["figures"]["texts"])
        if (one.value("model", "") == whole)
          text += fmt::format(
              "  - task:\n      type: text-generation\n    dataset:\n      type: text\n      name: {}\n"
              "    metrics:\n    - type: perplexity\n      value: {}\n",
              yaml_text(one.value("text", "")), one.value("perplexity", "0"));
    }
    return text + "---\n";
  }

  std::string introduction() {
    return fmt::format(
        "A decoder-only transformer of the {} family, made by qtf. Every figure on this page stands in the "
        "records of "
        "`audit.sqlite`, and behind each is the record's number; `qtf audit show . --from N --records 1` "
        "prints it, "
        "`qtf explain .` says why each decision was taken.\n\n",
        config_.family == model::Family::llama ? "Llama" : "GPT-2");
  }

  std::string sizes() {
    const NumberedRecord* made = records_.made("parameters");
    const NumberedRecord* files = records_.finished();
    std::string text = "## Size\n\n| | | from |\n|---|---|---|\n";
    if (const std::string parameters = figure(made, "parameters"); !parameters.empty()) {
      const int64_t count = std::stoll(parameters);
      const std::string dense = figure(made, "dense_parameters");
      text += row("parameters",
                  fmt::format("{} (numbers stored in model.safetensors)", explain::grouped(count)), made);
      if (!dense.empty() && count > 0)
        text += row("equal dense model",
                    fmt::format("{}; whole-model ratio {:.2f}", explain::grouped(std::stoll(dense)),
                                static_cast<double>(std::stoll(dense)) / static_cast<double>(count)),
                    made);
      if (const std::string bytes = figure(made, "bytes"); !bytes.empty())
        text += row("weights file", format_quantity(std::stoll(bytes), Quantity::bytes), made);
    }
    // The configuration's numbers are held by its file's hash.
    text +=
        row("sizes",
            fmt::format("vocabulary {}, width {}, {} layers, {} heads ({} kv), feed-forward {}, context {}",
                        config_.vocabulary, config_.width, config_.layers, config_.heads, config_.kv_heads,
                        config_.feed_forward, config_.context),
            files);
    text += row("weight shapes", shape_summary(config_), files);
    text += row("nested levels", fmt::format("{}", model::level_count(config_)), files);
    if (config_.quantum)
      text += row("quantum layer",
                  fmt::format("{} simulated qubits, at most {}.{:04} % of the tokens",
                              config_.quantum->circuit.qubits, config_.quantum->fraction_ppm / 10'000,
                              config_.quantum->fraction_ppm % 10'000),
                  files);
    return text + "\n";
  }

  std::string making() {
    std::string text = "## How it was made\n\n";
    for (const NumberedRecord& record : records_.making) {
      if (record.kind != "making.start") continue;
      std::string facts;
      for (const auto& [key, value] : record.data.items())
        if (key != "command" && key != "qtf" && value.is_string())
          facts +=
              fmt::format("{}{} {}", facts.empty() ? "" : ", ", key, card_cell(value.get<std::string>()));
      text += fmt::format(
          "- {}: `qtf {}` (version {}), {} ({})\n", record.time, card_cell(record.data.value("command", "")),
          card_cell(record.data.value("qtf", "")), facts.empty() ? "no further facts" : facts, from(&record));
    }
    return text + "\n";
  }

  std::string quality() {
    std::string text;
    if (const NumberedRecord* made = records_.made("texts")) {
      text =
          "## Measured\n\n| model | text | perplexity a token | protocol | from |\n|---|---|---|---|---|\n";
      for (const auto& one : made->data["figures"]["texts"])
        text += fmt::format("| {} | {} | {} | {} | {} |\n", card_cell(one.value("model", "")),
                            card_cell(one.value("text", "")), card_cell(one.value("perplexity", "")),
                            card_cell(protocol_of(one)), from(made));
      text += "\n";
    }
    if (const NumberedRecord* made = records_.made("word_perplexity")) {
      text += "## Measured on the validation text\n\n| | | from |\n|---|---|---|\n";
      for (const auto& [key, what] :
           {std::pair("nats_per_token", "nats/token"), std::pair("word_perplexity", "perplexity a word"),
            std::pair("bits_per_byte", "bits/byte"), std::pair("tokens", "tokens scored"),
            std::pair("context", "context"), std::pair("stride", "stride"),
            std::pair("steps", "training steps"), std::pair("seconds", "seconds of training")})
        text += row(what, figure(made, key), made);
      text += "\n";
    }
    return text;
  }

  static std::string protocol_of(const nlohmann::json& text) {
    if (!text.contains("context")) return "";
    return fmt::format("{} tokens scored, context {}, stride {}", text.value("tokens", ""),
                       text.value("context", ""), text.value("stride", ""));
  }

  std::string budgets() {
    const NumberedRecord* made = records_.made("asked");
    if (!made) return {};
    const auto& figures = made->data["figures"];
    std::string text =
        fmt::format("## Budgets\n\nA query: {}.\n\n| budget | asked | measured | from |\n|---|---|---|---|\n",
                    card_cell(figures.value("query", "")));
    const auto add = [&](const char* what, const char* asked, const char* measured, Quantity quantity) {
      const auto limit = figures["asked"].find(asked);
      const std::string value = figure(made, measured);
      if (value.empty()) return;
      text += fmt::format("| {} | {} | {} | {} |\n", what,
                          limit == figures["asked"].end()
                              ? "–"
                              : format_quantity(std::stoll(limit->get<std::string>()), quantity),
                          format_quantity(std::stoll(value), quantity), from(made));
    };
    add("parameters", "parameters", "parameters", Quantity::count);
    add("bytes of weights", "bytes", "bytes", Quantity::bytes);
    add("time of a query, 95th percentile", "latency_ns", "p95_ns", Quantity::duration);
    add("energy of a query", "energy_nj", "energy_nj", Quantity::energy);
    return text + fmt::format("\nEnergy is {}.\n\n", card_cell(figures.value("energy_tier", "")));
  }

  std::string index() {
    std::string text = "## Records\n\n| record | kind | SHA-256 |\n|---|---|---|\n";
    std::map<int64_t, const NumberedRecord*> sorted;
    for (const NumberedRecord* record : cited_) sorted[record->number] = record;
    for (const auto& [number, record] : sorted)
      text += fmt::format("| <a id=\"record-{0}\"></a>{0} | {1} | `{2}` |\n", number, card_cell(record->kind),
                          record->hash);
    return text + fmt::format(
                      "\n{} records, Merkle root `{}`. Check them with `qtf audit verify . --count {} --root "
                      "{}`, and take "
                      "every decision again with `qtf audit replay .`.\n\nRun it: `qtf generate . --prompt "
                      "\"The \"`. "
                      "Measure it: `qtf eval . --text FILE`.\n",
                      records_.found.count, to_hex(records_.found.root), records_.found.count,
                      to_hex(records_.found.root));
  }

  const std::string& name_;
  const model::ModelConfig& config_;
  const ModelRecords& records_;
  std::set<const NumberedRecord*> cited_;
};

}  // namespace

std::string model_card(const std::string& name, const model::ModelConfig& config,
                       const ModelRecords& records) {
  return CardWriter(name, config, records).write();
}

void write_model_card(const std::filesystem::path& folder, const std::string& name,
                      const model::ModelConfig& config) {
  write_file_atomically(folder / "README.md", model_card(name, config, read_model_records(folder)));
}

}  // namespace qtf::cli
