#include "qtf/train/step.h"

#include <algorithm>
#include <array>

#include "qtf/base/profile.h"
#include "qtf/base/random.h"
#include "qtf/kernels/fma_peak.h"
#include "qtf/kernels/vector.h"

namespace qtf::train {

namespace {
constexpr const char* kSums = "sums of gradients";
}

std::vector<int> sandwich_levels(const model::ModelConfig& config, uint64_t seed, int64_t step) {
  const int levels = model::level_count(config);
  if (levels < 2) return {};
  std::vector<int> chosen = {1};
  if (levels > 2) {
    const Random random{seed, 0x1E7E1};
    chosen.push_back(
        2 + static_cast<int>(random.below(static_cast<uint64_t>(step), static_cast<uint64_t>(levels - 2))));
  }
  return chosen;
}

Stepper::Stepper(model::Transformer<float>& model, const AdamWOptions& options, ThreadPool& pool,
                 int64_t micro_rows, Ranks* ranks)
    : model_(model),
      pool_(pool),
      options_(options),
      optimizer_(model.layout(), options),
      micro_rows_(micro_rows),
      gradients_(static_cast<size_t>(pool.size())),
      arenas_(static_cast<size_t>(pool.size())),
      nats_(static_cast<size_t>(pool.size())),
      router_samples_(static_cast<size_t>(pool.size())),
      rank_samples_(static_cast<size_t>(pool.size())),
      ranks_(ranks) {
  if (ranks_) sums_.emplace(*ranks_, pool.size());
}

AdamW& Stepper::guide_optimizer() {
  if (!guide_optimizer_) guide_optimizer_.emplace(model_.guide_layout(), options_);
  return *guide_optimizer_;
}

double Stepper::worker_pass(int worker, const StepInput& input) {
  const model::TokenBatch& batch = input.batch;
  const Range mine = split_range(batch.sequences, worker, pool_.size());
  const int64_t at_once = std::max<int64_t>(1, micro_rows_ / batch.length);
  AlignedVector<float>& gradients = gradients_[static_cast<size_t>(worker)];
  {
    const ProfileScope profile(kSums);
    std::ranges::fill(gradients, 0.F);
  }
  model::RouterSamples& samples = router_samples_[static_cast<size_t>(worker)];
  samples = {};
  model::RankSamples& rank_samples = rank_samples_[static_cast<size_t>(worker)];
  rank_samples = {};
  double nats = 0;
  for (int64_t first = mine.begin; first < mine.end; first += at_once) {
    const int64_t sequences = std::min(at_once, mine.end - first);
    const auto begin = static_cast<size_t>(first * batch.length),
               count = static_cast<size_t>(sequences * batch.length);
    const model::TokenBatch part{batch.inputs.subspan(begin, count), batch.targets.subspan(begin, count),
                                 sequences, batch.length};
    model::StepOptions options;
    options.gradient_scale = 1.0 / static_cast<double>(input.sequences() * batch.length);
    options.dropout = {input.dropout, input.dropout_key, (input.first_sequence + first) * batch.length};
    options.distilled_levels = input.distilled_levels;
    options.scheduler = input.scheduler;
    if (input.scheduler) options.rank_samples = &rank_samples;
    options.in_turns = input.in_turns;
    // With few sequences, no level goes without for long.
    options.first_sequence = input.first_sequence + first + steps_;
    options.router_samples = &samples;
    if (sums_ && first + sequences == mine.end) options.block_done = [&] { sums_->finish_run(worker); };
    nats += model_.forward_backward(part, options, gradients.data(), arenas_[static_cast<size_t>(worker)],
                                    input.teacher);
  }
  if (sums_) sums_->finish(worker);
  return nats;
}

/// As a backward pass finishes them: the blocks' from the last to the first, then all else.
std::vector<Range> Stepper::gradient_runs() const {
  const size_t blocks = model_.blocks().size();
  std::vector<Range> runs;
  for (size_t i = blocks; i-- > 0;) runs.push_back(model_.block_gradients(i));
  runs.push_back({model_.block_gradients(blocks - 1).end, model_.gradient_size()});
  runs.push_back({0, model_.block_gradients(0).begin});
  return runs;
}

void Stepper::reduce_gradients() {
  const ProfileScope profile(kSums);
  if (sums_) return sums_->wait();
  pool_.parallel_for(model_.gradient_size(), [&](int, Range range) {
    for (size_t worker = 1; worker < gradients_.size(); ++worker) {
      kernels::add<float>(range.size(), gradients_[worker].data() + range.begin,
                          gradients_[0].data() + range.begin);
    }
  });
}

double Stepper::compute_gradients(const StepInput& input) {
  model_.prepare(tt::Use::training, pool_);
  for (AlignedVector<float>& gradients : gradients_)
    gradients.resize(static_cast<size_t>(model_.gradient_size()));
  if (sums_) {
    std::vector<float*> buffers;
    for (AlignedVector<float>& gradients : gradients_) buffers.push_back(gradients.data());
    sums_->begin(std::move(buffers), gradient_runs());
  }
  pool_.run([&](int worker) { nats_[static_cast<size_t>(worker)] = worker_pass(worker, input); });
  reduce_gradients();
  model_.pull_back(gradients_[0].data(), pool_);
  double nats = 0;
  for (double n : nats_) nats += n;
  if (ranks_) ranks_->sum(std::span(&nats, 1));
  collect_samples();
  return nats / static_cast<double>(input.sequences() * input.batch.length);
}

/// Workers' samples in their order, then ranks' in theirs. All meetings of a step lie before its update, so
/// that a lost rank leaves the others at a step's end.
void Stepper::collect_samples() {
  model::RouterSamples& router = step_router_samples_;
  router = {};
  for (const model::RouterSamples& part : router_samples_) {
    router.selections.insert(router.selections.end(), part.selections.begin(), part.selections.end());
    router.entropies.insert(router.entropies.end(), part.entropies.begin(), part.entropies.end());
    router.routed += part.routed;
    router.tokens += part.tokens;
  }
  step_rank_samples_.clear();
  for (const model::RankSamples& part : rank_samples_) {
    step_rank_samples_.resize(std::max(step_rank_samples_.size(), part.size()));
    for (size_t layer = 0; layer < part.size(); ++layer)
      step_rank_samples_[layer].insert(step_rank_samples_[layer].end(), part[layer].begin(),
                                       part[layer].end());
  }
  if (!ranks_) return;
  for (std::vector<float>& layer : step_rank_samples_) layer = gather(*ranks_, layer);
  if (!model_.quantum()) return;
  router.selections = gather(*ranks_, router.selections);
  router.entropies = gather(*ranks_, router.entropies);
  std::array<double, 2> counts = {static_cast<double>(router.routed), static_cast<double>(router.tokens)};
  ranks_->sum(counts);
  router.routed = static_cast<int64_t>(counts[0]), router.tokens = static_cast<int64_t>(counts[1]);
}

double Stepper::calibrate_router() {
  const model::RouterSamples& all = step_router_samples_;
  const model::QuantumParameters& at = *model_.layout().quantum;
  float* threshold = model_.parameters().data() + at.threshold;
  float* quantiles = model_.parameters().data() + at.entropy_quantiles;
  adapt::RouterState state{*threshold, {quantiles, quantiles + model::kEntropyQuantiles}};
  adapt::calibrate(steps_, model_.config().quantum->fraction_ppm,
                   {.tokens = all.tokens, .open_scores = all.selections, .entropies = all.entropies}, state);
  *threshold = state.threshold;
  std::copy(state.entropy_quantiles.begin(), state.entropy_quantiles.end(), quantiles);
  return static_cast<double>(all.routed) / static_cast<double>(all.tokens);
}

StepResult Stepper::step(const StepInput& input) {
  StepResult result;
  result.nats_per_token = compute_gradients(input);
  const ProfileScope profile("optimizer");
  result.gradient_norm =
      optimizer_.step(++steps_, input.learning_rate, gradients_[0], model_.parameters(), pool_);
  if (model_.quantum()) result.routed_share = calibrate_router();
  if (model_.guided()) {
    const auto gradients = std::span<const float>(gradients_[0]);
    guide_optimizer().step(steps_, input.learning_rate,
                           gradients.subspan(static_cast<size_t>(model_.guide_gradient())), model_.guides(),
                           pool_);
  } else {
    guide_optimizer_.reset();
  }
  return result;
}

std::span<const float> Stepper::gradients() const {
  return {gradients_[0].data(), static_cast<size_t>(model_.layout().size)};
}

double training_flops(const model::ModelConfig& config, int64_t tokens, int64_t length, int level) {
  // The causal half: a token attends to (length + 1) / 2 others on average.
  return 6.0 * static_cast<double>(tokens) *
         static_cast<double>(model::macs_per_token(config, (length - 1) / 2, level));
}

double measure_pool_peak(ThreadPool& pool, double seconds) {
  std::vector<double> peaks(static_cast<size_t>(pool.size()));
  pool.run([&](int worker) { peaks[static_cast<size_t>(worker)] = kernels::measure_fma_peak(seconds); });
  double total = 0;
  for (double peak : peaks) total += peak;
  return total;
}

}  // namespace qtf::train
