// Our side of bench/training/: some AdamW steps of a model folder on given batches, each step's loss and time
// as one JSON object. parity.py and compare.py run it beside PyTorch on the same files. With --write-to it
// gives the model other weight shapes instead, for both sides to train.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "../options.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/profile.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_choice.h"
#include "qtf/model/reshape.h"
#include "qtf/train/step.h"

namespace {

struct Flags {
  std::string model, batches, write_to;
  double ratio = 1;
  std::vector<std::string> shapes;
  int levels = 1;
  bool nested = false, in_turns = false, profile = false;
  int64_t steps = 20, batch = 8, context = 128, micro_rows = qtf::train::kMicroRows;
  double learning_rate = 1e-3;
  qtf::train::AdamWOptions adamw;
  int threads = 2;
};

Flags parse(int argc, char** argv) {
  Flags flags;
  qtf::benchmarks::Options app(
      "Runs optimisation steps on given batches and prints losses and times as JSON");
  app.add("--model", flags.model, "model folder to start from").required();
  app.add("--batches", flags.batches, "raw int32 tokens [steps][batch][context + 1]");
  app.add("--write-to", flags.write_to, "train nothing: write the model in other shapes to this folder");
  app.add("--ratio", flags.ratio, "with --write-to: chains, the whole model so many times smaller");
  app.add("--shape", flags.shapes, "with --write-to: PART=SHAPE, as qtf train takes it");
  app.add("--levels", flags.levels, "with --write-to: nested ranks of every chain");
  app.add("--in-turns", flags.in_turns, "with --nested: as --sandwich turns");
  app.add("--profile", flags.profile, "tell where the time of the steps goes");
  app.add("--nested", flags.nested, "train the model's levels as qtf train --levels does");
  app.add("--steps", flags.steps);
  app.add("--batch", flags.batch);
  app.add("--context", flags.context);
  app.add("--micro-rows", flags.micro_rows, "tokens that a worker passes at once");
  app.add("--learning-rate", flags.learning_rate);
  app.add("--beta1", flags.adamw.beta1);
  app.add("--beta2", flags.adamw.beta2);
  app.add("--weight-decay", flags.adamw.weight_decay);
  app.add("--clip", flags.adamw.clip);
  app.add("--threads", flags.threads);
  app.parse(argc, argv);
  return flags;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

/// The model decomposed into other shapes, as a folder.
void write_shapes(const Flags& flags) {
  const qtf::model::LoadedModel loaded = qtf::model::load_model(flags.model);
  qtf::model::ModelConfig config = loaded.model->config();
  if (flags.ratio > 1) qtf::model::apply_ratio(config, flags.ratio);
  qtf::model::apply_shape_requests(config, flags.shapes);
  if (flags.levels > 1) qtf::model::apply_levels(config, flags.levels);
  qtf::model::save_folder(flags.write_to, *qtf::model::reshape(*loaded.model, config).model, nullptr);
}

nlohmann::json run(const Flags& flags) {
  qtf::ThreadPool pool(flags.threads);
  qtf::model::LoadedModel loaded = qtf::model::load_model(flags.model);
  const qtf::MappedFile file(flags.batches);
  const int64_t window = flags.context + 1, per_step = flags.batch * window;
  if (file.size() < static_cast<size_t>(flags.steps * per_step) * sizeof(int32_t)) {
    qtf::throw_input_error("training_steps", "{} holds {} bytes, {} steps need {}", flags.batches,
                           file.size(), flags.steps,
                           static_cast<size_t>(flags.steps * per_step) * sizeof(int32_t));
  }
  const auto* tokens = reinterpret_cast<const int32_t*>(file.bytes().data());
  qtf::train::Stepper stepper(*loaded.model, flags.adamw, pool, flags.micro_rows);

  std::optional<qtf::Profile> profile;
  std::vector<double> losses, seconds;
  std::vector<int32_t> inputs(static_cast<size_t>(flags.batch * flags.context)), targets(inputs.size());
  for (int64_t step = 0; step < flags.steps; ++step) {
    for (int64_t i = 0; i < flags.batch; ++i) {
      const int32_t* from = tokens + step * per_step + i * window;
      std::copy_n(from, flags.context, inputs.data() + i * flags.context);
      std::copy_n(from + 1, flags.context, targets.data() + i * flags.context);
    }
    qtf::train::StepInput input;
    input.batch = {inputs, targets, flags.batch, flags.context};
    input.learning_rate = flags.learning_rate;
    input.in_turns = flags.in_turns;
    if (flags.nested) input.distilled_levels = qtf::train::sandwich_levels(loaded.model->config(), 1, step);
    if (flags.profile && step == std::min<int64_t>(2, flags.steps - 1)) profile.emplace(pool);
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(stepper.step(input).nats_per_token);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  auto parts = nlohmann::json::object();
  if (profile) {
    for (const qtf::ProfileRow& row : profile->report().rows)
      parts[row.path] = {{"seconds", row.seconds}, {"flops", row.flops}, {"calls", row.calls}};
    profile.reset();
  }
  // The first step touches all memory for the first time.
  const double typical = median({seconds.begin() + (seconds.size() > 2 ? 2 : 0), seconds.end()});
  const double rows = static_cast<double>(flags.batch * flags.context);
  // Of the largest level: what nested training adds is not told.
  const double flops =
      qtf::train::training_flops(loaded.model->config(), flags.batch * flags.context, flags.context);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {{"losses", losses},
          {"step_seconds", seconds},
          {"tokens_per_second", rows / typical},
          {"profile", parts},
          {"parameters", loaded.model->layout().size},
          {"flops_per_token", flops / rows},
          {"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024},
          {"peak_share", flops / typical / qtf::train::measure_pool_peak(pool, 0.1)}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Flags flags = parse(argc, argv);
    if (flags.write_to.empty()) {
      std::cout << run(flags).dump() << "\n";
    } else {
      write_shapes(flags);
    }
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "training_steps: " << e.what() << "\n";
    return 2;
  }
}
