#include <fmt/format.h>

#include <cmath>
#include <ostream>

#include "qtf/audit/fields.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/quantity.h"
#include "qtf/base/sha256.h"
#include "qtf/cli/budget_build.h"
#include "qtf/cli/budget_report.h"
#include "qtf/cli/calibration_input.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/measured_costs.h"
#include "qtf/cli/model_card.h"
#include "qtf/cli/new_model_folder.h"
#include "qtf/cli/open_model.h"
#include "qtf/model/model_files.h"

namespace qtf::cli {
namespace {

using nlohmann::ordered_json;

constexpr int kFrontPoints = 16;

BudgetAsked read_asked(const Arguments& arguments, const model::ModelConfig& config) {
  BudgetAsked asked;
  const auto read = [&](const char* option, Quantity quantity) -> std::optional<int64_t> {
    if (!arguments.given(option)) return {};
    return parse_quantity(arguments.text(option), quantity, option);
  };
  asked.limits.parameters = read("--max-params", Quantity::count);
  asked.limits.bytes = read("--max-bytes", Quantity::bytes);
  asked.limits.latency_ns = read("--max-latency-ms", Quantity::duration);
  asked.limits.energy_nj = read("--max-energy-per-query", Quantity::energy);
  if (arguments.given("--target-perplexity")) {
    asked.target_perplexity = arguments.number("--target-perplexity");
    if (!(*asked.target_perplexity > 1))
      throw_input_error("--target-perplexity", "must be above 1, got {}", *asked.target_perplexity);
    if (!arguments.given("--text"))
      throw UsageError("--target-perplexity needs the text that it is measured on: give --text FILE");
  }
  const budget::Budgets& limits = asked.limits;
  if (!(limits.parameters || limits.bytes || limits.latency_ns || limits.energy_nj ||
        asked.target_perplexity))
    throw UsageError(
        "budget: give one at least of --max-params, --max-bytes, --max-latency-ms, --max-energy-per-query, "
        "--target-perplexity");
  if (arguments.given("--query")) {
    asked.query = adapt::parse_query(arguments.text("--query"));
  } else {
    // Two thirds read, one third generated, as far as the context goes.
    asked.query.prompt = std::max<int64_t>(1, std::min<int64_t>(128, config.context * 2 / 3));
    asked.query.tokens = std::max<int64_t>(1, std::min<int64_t>(64, config.context / 3));
  }
  budget::check_query(config, asked.query);
  return asked;
}

FileNumbers file_numbers(const std::string& type) {
  FileNumbers numbers;
  if (type == "int8" || type == "int4")
    numbers.coding = Coding{.type = *code_type_named(type)};
  else
    numbers.dtype = type == "f16" ? io::DType::f16 : type == "bf16" ? io::DType::bf16 : io::DType::f32;
  return numbers;
}

/// The budgets as they are kept, in whole units.
nlohmann::json asked_facts(const BudgetAsked& asked) {
  nlohmann::json facts = nlohmann::json::object();
  const auto add = [&](const char* key, const std::optional<int64_t>& limit) {
    if (limit) facts[key] = std::to_string(*limit);
  };
  add("parameters", asked.limits.parameters), add("bytes", asked.limits.bytes);
  add("latency_ns", asked.limits.latency_ns), add("energy_nj", asked.limits.energy_nj);
  if (asked.target_perplexity) facts["perplexity"] = fmt::format("{}", *asked.target_perplexity);
  return facts;
}

/// Everything that the decisions were made from beside their own questions.
nlohmann::json inputs_of(const BudgetReport& report, const KeptProfile& kept, const BudgetBuilder& builder,
                         const std::string& type) {
  const int64_t scale = builder.loss_scale() ? builder.loss_scale()->millionths : 1'000'000;
  return {{"source", std::filesystem::path(report.source).filename().string()},
          {"source_hash", kept.profile.model_hash},
          {"profile_sha256", sha256_hex(budget::profile_text(kept.profile))},
          {"calibration_text", builder.calibration_text()},
          {"calibration_tokens", std::to_string(builder.calibration_tokens())},
          {"loss_scale_millionths", std::to_string(scale)},
          {"query", adapt::to_string(report.asked.query)},
          {"asked", asked_facts(report.asked)},
          {"type", type},
          {"machine", describe(kept.profile.measured_on.machine)},
          {"energy_meter", kept.profile.energy.meter},
          {"threads", std::to_string(kept.profile.measured_on.threads)}};
}

/// The same as a line of decisions.jsonl.
std::string inputs_line(const nlohmann::json& inputs) {
  ordered_json line{{"decision", "budget_inputs"}};
  for (const auto& [key, value] : inputs.items()) line[key] = value;
  return line.dump() + "\n";
}

/// What was measured of the model that is kept.
nlohmann::json measured_budget(const BudgetReport& report, const model::ModelConfig& config) {
  const BudgetMeasured& m = *report.measured;
  const adapt::Energy& energy = m.query.energy;
  nlohmann::json figures = {{"parameters", std::to_string(m.parameters)},
                            {"dense_parameters", std::to_string(model::dense_parameter_count(config))},
                            {"bytes", std::to_string(m.bytes)},
                            {"asked", asked_facts(report.asked)},
                            {"query", adapt::to_string(report.asked.query)},
                            {"binding", report.binding},
                            {"p50_ns", std::to_string(m.query.p50_ns)},
                            {"p95_ns", std::to_string(m.query.p95_ns)},
                            {"energy_nj", std::to_string(adapt::nanojoules(energy.joules))},
                            {"least_nj", std::to_string(adapt::nanojoules(energy.low))},
                            {"most_nj", std::to_string(adapt::nanojoules(energy.high))},
                            {"energy_tier", adapt::tier_name(energy.tier)}};
  if (m.perplexity) {
    figures["perplexity"] = fmt::format("{:.3f}", *m.perplexity);
    figures["perplexity_bits"] = audit::float_bits(*m.perplexity);
  }
  return figures;
}

void fill_page(BudgetReport& report, const BudgetBuilder& builder, const std::vector<int64_t>& chosen,
               const KeptProfile& kept) {
  const budget::SizeTable& table = builder.table();
  report.totals = budget::totals_of(table, chosen);
  report.predicted_loss = 1e-9 * static_cast<double>(report.totals.loss);
  report.by_parameters = budget::pareto_front(table, budget::kParameters, kFrontPoints);
  report.by_time = budget::pareto_front(table, budget::kTime, kFrontPoints);
  for (size_t m = 0; m < chosen.size(); ++m) {
    const budget::MapSize& size = table.maps[m].sizes[static_cast<size_t>(chosen[m])];
    report.maps.emplace_back(table.maps[m].spec.name,
                             size.rank == 0
                                 ? std::string("whole")
                                 : fmt::format("rank {}{}", size.rank, size.merged ? ", merged" : ""));
  }
  report.machine = describe(kept.profile.measured_on.machine);
  report.energy_source = kept.profile.energy.meter;
}

/// budget.json: the report, and what a later --verify compares with.
ordered_json stored_json(const BudgetReport& report, const KeptProfile& kept) {
  ordered_json json = to_json(report);
  json["reference_ns"] = kept.profile.reference_ns;
  json["threads"] = kept.profile.measured_on.threads;
  json["machine"] = describe(kept.profile.measured_on.machine);
  json["instructions"] = kept.profile.measured_on.instructions;
  return json;
}

void print_front(const BudgetReport& report, std::ostream& out) {
  out << fmt::format("{:>12} {:>10} {:>12} {:>16}\n", "parameters", "bytes", "table, ms", "predicted loss");
  for (const budget::FrontPoint& point : report.by_parameters)
    out << fmt::format(
        "{:>12} {:>10} {:>12.4g} {:>16.4f}\n", format_quantity(point.totals.parameters, Quantity::count),
        format_quantity(point.totals.bytes, Quantity::bytes),
        1e-6 * static_cast<double>(point.totals.cost.ns), 1e-9 * static_cast<double>(point.totals.loss));
}

std::string measured_text(const BudgetMeasured& m, std::optional<double> grams_per_kwh) {
  return fmt::format(
      "{} parameters, {}; a query takes {} (95th percentile; median {}) and {}", m.parameters,
      format_quantity(m.bytes, Quantity::bytes), format_quantity(m.query.p95_ns, Quantity::duration),
      format_quantity(m.query.p50_ns, Quantity::duration), energy_text(m.query.energy, grams_per_kwh));
}

/// The report's "measured" with the carbon of a query.
ordered_json with_carbon(ordered_json json, const BudgetMeasured& measured,
                         std::optional<double> grams_per_kwh) {
  if (grams_per_kwh) json.at("measured").update(energy_json(measured.query.energy, grams_per_kwh));
  return json;
}

void print_budget(const BudgetReport& report, const std::filesystem::path& out,
                  std::optional<double> grams_per_kwh, std::ostream& stream) {
  print_front(report, stream);
  stream << measured_text(*report.measured, grams_per_kwh) << "\n";
  if (report.measured->perplexity) stream << fmt::format("perplexity {:.4g}\n", *report.measured->perplexity);
  stream << fmt::format(
      "{} binds; predicted loss {:.4f} nats/token, at most {:.2g} % of it could be saved within the "
      "budgets\n",
      report.binding, report.predicted_loss, 100 * report.bound_gap);
  stream << fmt::format("The model is in {}, and what else could be had in {}\n", out.string(),
                        (out / "budget.html").string());
}

[[noreturn]] void refuse(const Arguments& arguments, const Streams& streams, const BudgetReport& report) {
  if (arguments.flag("--json")) streams.out << to_json(report).dump() << "\n";
  streams.err << fmt::format("qtf: [budget] cannot be kept: {} binds; it can be with {}\n", report.binding,
                             nearest_text(report));
  throw ExitStatus(2);
}

void make_budget(const Arguments& arguments, const Streams& streams) {
  if (!arguments.given("--out")) throw UsageError("--out is missing ('qtf help budget' shows what it is)");
  const std::filesystem::path out = new_model_path(arguments, "budget");
  const auto intensity = read_grid_intensity(arguments);
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const std::string source = arguments.text("MODEL");
  model::LoadedModel loaded = open_model(source, "budget");
  compress::check_can_compress(loaded.model->config());
  BudgetReport report;
  report.asked = read_asked(arguments, loaded.model->config());
  const CalibrationInput input = arguments.given("--calibrate")
                                     ? read_calibration(arguments, loaded, "budget")
                                     : stored_calibration(source);
  const auto meter = open_meter(arguments, pool.size());
  const KeptProfile kept =
      find_profile(arguments, loaded.model->config(), model::model_hash(source), pool, *meter);
  BudgetBuilder builder(loaded, input, kept.profile, report.asked.query, *meter,
                        file_numbers(arguments.text("--type")), pool, !arguments.flag("--quiet"));
  if (arguments.given("--text")) builder.probe(arguments.text("--text"));

  BuiltBudget built = builder.build(report.asked);
  if (builder.loss_scale())
    built.decisions.records.insert(built.decisions.records.begin(), adapt::record(*builder.loss_scale()));
  report.feasible = built.feasible, report.bound_gap = built.bound_gap;
  report.nearest = built.nearest, report.nearest_perplexity = built.nearest_perplexity;
  report.measured = built.measured;
  report.binding = built.feasible          ? tightest_budget(report.asked, *built.measured)
                   : built.nearest.empty() ? "target_perplexity"
                                           : built.nearest.front().name;
  report.name = out.filename().string(), report.source = source;
  const nlohmann::json inputs = inputs_of(report, kept, builder, arguments.text("--type"));
  if (arguments.given("--audit"))
    record_decisions(arguments.text("--audit"), "budget", inputs, built.decisions);
  if (!built.feasible) refuse(arguments, streams, report);

  fill_page(report, builder, built.chosen, kept);
  NewModelFolder folder(out, "budget");
  builder.save(*built.model, folder.path());
  report.measured->bytes = static_cast<int64_t>(std::filesystem::file_size(folder / "model.safetensors"));
  QTF_ASSERT(!report.asked.limits.bytes || report.measured->bytes <= *report.asked.limits.bytes);
  write_file_atomically(folder / "decisions.jsonl", inputs_line(inputs) + built.decisions.lines);
  write_file_atomically(folder / "cost_profile.json", budget::profile_text(kept.profile));
  write_file_atomically(folder / "budget.json", stored_json(report, kept).dump(1) + "\n");
  write_file_atomically(folder / "budget.html", budget_page(report));
  record_start(folder.path(), "budget", inputs, built.decisions);
  record_made(folder.path(), measured_budget(report, built.model->config()));
  write_model_card(folder.path(), report.name, built.model->config());
  folder.keep();
  if (arguments.flag("--json"))
    streams.out << with_carbon(to_json(report), *report.measured, intensity).dump() << "\n";
  else
    print_budget(report, out, intensity, streams.out);
}

/// What budget.json says of the folder.
struct StoredBudget {
  BudgetAsked asked;
  int64_t reference_ns = 0;
  std::string machine, instructions;
  int threads = 0;
};

StoredBudget read_stored(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "budget.json";
  if (!std::filesystem::exists(file))
    throw_input_error("budget", "{} has no budget.json; --verify is for models that qtf budget made",
                      folder.string());
  try {
    const ordered_json json = ordered_json::parse(read_file(file));
    return {asked_from(json.at("asked")), json.at("reference_ns"), json.at("machine"),
            json.at("instructions"), json.at("threads")};
  } catch (const ordered_json::exception& error) {
    throw_io_error(file.string(), "is damaged: {}", error.what());
  }
}

void verify_budget(const Arguments& arguments, const Streams& streams) {
  const std::filesystem::path folder = arguments.text("MODEL");
  StoredBudget stored = read_stored(folder);
  ThreadPool pool(arguments.given("--threads") ? static_cast<int>(arguments.integer("--threads"))
                                               : stored.threads);
  const budget::MeasuredOn here = budget::measured_here(pool.size());
  if (stored.machine != describe(here.machine) || stored.instructions != here.instructions ||
      stored.threads != here.threads)
    throw_input_error("budget", "the budget was kept on {} ({}, {} threads); measure it there",
                      stored.machine, stored.instructions, stored.threads);
  model::LoadedModel loaded = open_model(folder.string(), "budget");
  loaded.model->prepare(tt::Use::inference, pool);
  const auto meter = open_meter(arguments, pool.size());
  BudgetMeasured measured;
  measured.parameters = model::parameter_count(loaded.model->config());
  measured.bytes = loaded.bytes;
  measured.query =
      budget::measure_query(*loaded.model, stored.asked.query, pool, *meter, stored.reference_ns);
  if (stored.asked.target_perplexity) {
    if (!arguments.given("--text"))
      throw UsageError(
          "the budget has a target perplexity; give the text that it is measured on: --text FILE");
    measured.perplexity = perplexity_on(arguments.text("--text"), loaded, pool);
  }
  const bool holds = keeps_budgets(stored.asked, measured);
  const auto intensity = read_grid_intensity(arguments);
  if (arguments.flag("--json")) {
    ordered_json json{{"holds", holds}, {"asked", to_json(stored.asked)}, {"measured", to_json(measured)}};
    json["runs"] = measured.query.runs, json["repeated"] = measured.query.repeated;
    json["unsteady"] = measured.query.unsteady;
    streams.out << with_carbon(std::move(json), measured, intensity).dump() << "\n";
  } else {
    streams.out << measured_text(measured, intensity) << "\n"
                << (holds ? "The budget holds\n" : "The budget does not hold\n");
  }
  if (!holds) throw ExitStatus(2);
}

void run_budget(const Arguments& arguments, const Streams& streams) {
  arguments.flag("--verify") ? verify_budget(arguments, streams) : make_budget(arguments, streams);
}

}  // namespace

extern const Command kBudgetCommand;
const Command kBudgetCommand{
    .name = "budget",
    .summary = "Make the best model that keeps budgets of size, time and energy, as measured",
    .details =
        "Picks every map's rank so that the model loses least within all budgets at once, builds it, and "
        "times "
        "it on this machine for the query; ranks are picked anew until the 95th percentile holds. What "
        "cannot "
        "be kept is refused with exit status 2, the budget that binds, and the nearest that can be. Ranks "
        "are "
        "cut by a calibration: the model folder's own, or --calibrate. Numbers take units: 2M, 3MB, 50ms, "
        "0.3J. How all this is measured: docs/budgets.md.",
    .example = {.call = "qtf budget book-model --out book-phone --calibrate book.txt --max-latency-ms 20 "
                        "--query prompt=64,tokens=32"},
    .options = with_measuring_options(
        {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
         {.name = "--out", .value = "DIR", .help = "the model folder to write"},
         {.name = "--max-params", .value = "N", .help = "most parameters of the file, such as 2M"},
         {.name = "--max-bytes", .value = "B", .help = "most bytes of model.safetensors, such as 3MB"},
         {.name = "--max-latency-ms",
          .value = "X",
          .help = "most time of a query, in ms or such as 50ms, 0.1s"},
         {.name = "--max-energy-per-query",
          .value = "J",
          .help = "most energy of a query, in J or such as 300mJ"},
         {.name = "--target-perplexity",
          .type = ValueType::number,
          .value = "P",
          .help = "most perplexity on --text; alone: the fewest parameters that reach it"},
         {.name = "--query",
          .value = "Q",
          .help = "what a query is: prompt=128,tokens=64, which is the default as far as the context goes"},
         {.name = "--text",
          .value = "FILE",
          .help = "a text for --target-perplexity, on which predicted losses are scaled by two real models"},
         calibrate_option(false),
         calibrate_tokens_option(),
         {.name = "--separator",
          .value = "STR",
          .help = "split the calibration text here and take each document alone, cut at the context"},
         {.name = "--audit",
          .value = "FILE",
          .help = "record the decisions in this audit file too, also those of a budget that is refused"},
         {.name = "--type",
          .value = "TYPE",
          .initial = "f32",
          .help = "of the numbers in model.safetensors; int8 and int4: codes as of qtf quantize, from which "
                  "the model is run and measured",
          .choices = {"f32", "f16", "bf16", "int8", "int4"}},
         {.name = "--verify",
          .type = ValueType::flag,
          .help = "measure MODEL, which qtf budget made, afresh; exit status 2 if a budget does not hold"}}),
    .run = run_budget,
};

}  // namespace qtf::cli
