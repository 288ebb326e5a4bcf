#include "qtf/cli/run_metrics.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/cli/open_model.h"

namespace qtf::cli {
namespace {

using Json = nlohmann::json;

/// The number under `key`, or kMissing where there is none (a non-finite one is written as null).
double number(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : kMissing;
}

std::string string(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int64_t step_number(const Json& line, std::string_view place, int64_t line_number) {
  const auto found = line.find("step");
  if (found == line.end() || !found->is_number_integer()) {
    throw_input_error(place, "line {} lacks a whole number \"step\"; write the run again", line_number);
  }
  return found->get<int64_t>();
}

/// Drops what an interrupted run had logged of steps that its resumption does again.
template <class Metrics>
void forget_from(std::vector<Metrics>& metrics, int64_t step) {
  while (!metrics.empty() && metrics.back().step >= step) metrics.pop_back();
}

StepMetrics step_metrics(const Json& line, int64_t step) {
  return {.step = step,
          .seconds = number(line, "seconds"),
          .loss = number(line, "loss"),
          .learning_rate = number(line, "learning_rate"),
          .tokens_per_second = number(line, "tokens_per_second"),
          .grad_norm = number(line, "grad_norm")};
}

ValidMetrics valid_metrics(const Json& line, int64_t step) {
  return {.step = step,
          .seconds = number(line, "seconds"),
          .loss = number(line, "loss"),
          .stderr_loss = number(line, "stderr"),
          .perplexity = number(line, "perplexity"),
          .word_perplexity = number(line, "word_perplexity"),
          .bits_per_byte = number(line, "bits_per_byte"),
          .routed_share = number(line, "routed_share")};
}

void read_end(const Json& line, RunMetrics& run) {
  run.finished = true;
  if (run.name.empty()) run.name = string(line, "name");
  if (std::isnan(run.parameters)) run.parameters = number(line, "parameters");
  run.dense_parameters = number(line, "dense_parameters");
  run.ratio = number(line, "ratio");
  run.bytes = number(line, "bytes");
  run.macs_per_token = number(line, "macs_per_token");
  run.sample = string(line, "sample");
}

void read_line(std::string_view text, std::string_view place, int64_t line_number, RunMetrics& run) {
  const Json line = Json::parse(text, nullptr, false);
  if (!line.is_object()) {
    throw_input_error(place, "line {} is not a JSON object; the file is damaged", line_number);
  }
  const std::string event = string(line, "event");
  if (event == "end") {
    read_end(line, run);
  } else if (event == "step") {
    const int64_t step = step_number(line, place, line_number);
    forget_from(run.steps, step);
    forget_from(run.valid, step);
    run.steps.push_back(step_metrics(line, step));
  } else if (event == "valid") {
    const int64_t step = step_number(line, place, line_number);
    forget_from(run.valid, step);
    run.valid.push_back(valid_metrics(line, step));
  } else if (event == "best") {
    run.final_best = valid_metrics(line, step_number(line, place, line_number));
  } else if (event == "start") {
    run.name = string(line, "name");
    run.parameters = number(line, "parameters");
  }
}

}  // namespace

RunMetrics parse_metrics(std::string_view lines, std::string_view place) {
  RunMetrics run;
  for (int64_t line_number = 1; !lines.empty(); ++line_number) {
    const size_t end = lines.find('\n');
    if (end == std::string_view::npos) break;
    if (end > 0) read_line(lines.substr(0, end), place, line_number, run);
    lines.remove_prefix(end + 1);
  }
  return run;
}

RunMetrics read_run(const std::filesystem::path& folder) {
  const auto path = folder / "metrics.jsonl";
  if (!std::filesystem::exists(path)) {
    throw_input_error("report", "'{}' holds no metrics.jsonl; give a folder that 'qtf train' wrote",
                      folder.string());
  }
  RunMetrics run = parse_metrics(read_file(path), path.string());
  if (run.steps.empty() && run.valid.empty()) {
    throw_input_error("report", "'{}' holds no step yet; wait for the run's first lines", path.string());
  }
  if (run.name.empty()) run.name = name_of(folder);
  return run;
}

ValidMetrics RunMetrics::best() const {
  if (!std::isnan(final_best.loss)) return final_best;
  ValidMetrics best;
  for (const ValidMetrics& v : valid) {
    if (std::isnan(best.loss) || v.loss < best.loss) best = v;
  }
  return best;
}

double RunMetrics::seconds() const {
  double seconds = steps.empty() ? kMissing : steps.back().seconds;
  if (!valid.empty()) seconds = std::fmax(seconds, valid.back().seconds);
  return seconds;
}

double RunMetrics::tokens_per_second() const {
  std::vector<double> rates;
  for (const StepMetrics& s : steps) {
    if (!std::isnan(s.tokens_per_second)) rates.push_back(s.tokens_per_second);
  }
  if (rates.empty()) return kMissing;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace qtf::cli
