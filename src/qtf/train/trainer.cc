#include "qtf/train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/progress.h"
#include "qtf/model/gauge.h"
#include "qtf/model/guides.h"
#include "qtf/model/model_folder.h"
#include "qtf/train/metrics.h"
#include "qtf/train/rank_training.h"

namespace qtf::train {

namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

void check(bool ok, const char* option, const char* range, double value) {
  if (!ok) throw_input_error("train", "{} must be {}, got {}", option, range, value);
}

}  // namespace

void validate(const TrainOptions& o) {
  const int given = (o.steps > 0) + (o.epochs > 0) + (o.minutes > 0);
  if (given != 1)
    throw_input_error("train", "give exactly one of --steps, --epochs and --minutes (above 0), got {}",
                      given);
  check(o.batch >= 1 && o.batch <= 65536, "--batch", "1 to 65536", static_cast<double>(o.batch));
  check(o.micro_batch >= 0, "--micro-batch", "0 (automatic) or more", static_cast<double>(o.micro_batch));
  check(o.learning_rate > 0 && o.learning_rate < 10, "--learning-rate", "above 0 and below 10",
        o.learning_rate);
  check(o.warmup > 0 && o.warmup < 1, "--warmup", "a share of the run in (0, 1)", o.warmup);
  check(o.final_share >= 0 && o.final_share <= 1, "--final-rate", "a share of the learning rate in [0, 1]",
        o.final_share);
  check(o.dropout >= 0 && o.dropout < 1, "--dropout", "in [0, 1)", o.dropout);
  check(o.guided >= 0 && o.guided <= 0.95, "--guided", "a share of the run in [0, 0.95]", o.guided);
  check(o.ema >= 0 && o.ema < 1, "--ema", "in [0, 1)", o.ema);
  check(o.adamw.weight_decay >= 0, "--weight-decay", "0 or more", o.adamw.weight_decay);
  check(o.adamw.clip >= 0, "--clip", "0 (off) or more", o.adamw.clip);
  check(o.adamw.beta1 >= 0 && o.adamw.beta1 < 1, "--beta1", "in [0, 1)", o.adamw.beta1);
  check(o.adamw.beta2 >= 0 && o.adamw.beta2 < 1, "--beta2", "in [0, 1)", o.adamw.beta2);
}

void validate(const model::Teacher<float>& teacher, const model::ModelConfig& pupil) {
  if (!teacher.model) return;
  check(teacher.weight > 0 && teacher.weight <= 1, "--teacher-weight", "above 0 and at most 1",
        teacher.weight);
  check(teacher.temperature >= 0.1 && teacher.temperature <= 100, "--teacher-temperature", "0.1 to 100",
        teacher.temperature);
  const model::ModelConfig& its = teacher.model->config();
  if (its.vocabulary != pupil.vocabulary) {
    throw_input_error("train",
                      "the teacher has a vocabulary of {}, the model of {}; they must share a tokenizer",
                      its.vocabulary, pupil.vocabulary);
  }
  if (its.context < pupil.context) {
    throw_input_error("train", "the teacher's context is {}; give --context {} or less, not {}", its.context,
                      its.context, pupil.context);
  }
}

namespace {

/// One run. Members are its state; run() reads like the recipe.
class Run {
 public:
  Run(TrainJob& job, ThreadPool& pool, const std::atomic<int>* stop)
      : job_(job),
        options_(job.options),
        pool_(pool),
        stop_(stop),
        team_(job.ranks),
        leads_(!team_ || team_->leads()),
        mine_(team_ ? split_range(options_.batch, team_->rank(), team_->size()) : Range{0, options_.batch}),
        context_(job.model->config().context),
        sampler_(job.train, context_, options_.seed),
        stepper_(*job.model, options_.adamw, pool,
                 options_.micro_batch ? options_.micro_batch * context_ : kMicroRows, team_),
        inputs_(static_cast<size_t>(mine_.size() * context_)),
        targets_(inputs_.size()),
        peak_(measure_pool_peak(pool, 0.02)) {
    total_steps_ = options_.steps;
    if (options_.epochs > 0) {
      total_steps_ =
          std::max<int64_t>(1, std::llround(options_.epochs * static_cast<double>(sampler_.windows()) /
                                            static_cast<double>(options_.batch)));
    }
    if (options_.mean_rank > 0) ranks_.emplace(job.model->config(), options_.mean_rank);
    if (options_.ema > 0) average_.assign(job.model->parameters().begin(), job.model->parameters().end());
  }

  TrainSummary run() {
    if (job_.resume) {
      progress_ = load_checkpoint(job_.out, job_.identity, [&](const RunState& state) {
        if (state.guided) add_guides();
        return arrays();
      });
    } else if (options_.guided > 0) {
      add_guides();
    }
    stepper_.set_steps_done(progress_.step);
    if (ranks_ && !progress_.rank_quantiles.empty()) ranks_->set_quantiles(progress_.rank_quantiles);
    if (team_) gather_team();
    if (leads_) metrics_.emplace(job_.out, progress_.metrics_bytes);
    if (!job_.resume) {
      write_start();
      for (const ordered_json& line : job_.before.metrics) log(line);
    }
    begin_ = last_checkpoint_ = Clock::now();
    if (job_.progress && leads_) {
      bar_.emplace(job_.name, bar_total(), stderr);
      bar_->start_at(bar_done());
    }
    if (job_.profile) profile_.emplace(pool_);
    const int64_t first_step = progress_.step;
    try {
      train_steps();
    } catch (const RanksLost&) {
      return stop_without_ranks(first_step);
    }
    if (profile_) end_profile(progress_.step - first_step);
    return interrupted() ? stop_here() : finish();
  }

 private:
  void train_steps() {
    while (!finished() && !interrupted()) {
      train_step();
      if (team_) agree();
      if (validation_due()) validate_now(options_.validation_tokens);
      if (checkpoint_due()) checkpoint();
    }
  }

  /// All ranks begin with the same job and rank 0's numbers. A resumed run's lie in the checkpoint that each
  /// has read.
  void gather_team() {
    team_->watch(stop_);
    check_agreement(*team_, job_.identity);
    if (!job_.resume) {
      team_->share(std::as_writable_bytes(job_.model->parameters()));
      team_->share(std::as_writable_bytes(job_.model->guides()));
      if (!average_.empty()) std::ranges::copy(job_.model->parameters(), average_.begin());
    }
    team_->sum(std::span(&peak_, 1));
  }

  /// The ranks' common mind after a step: rank 0's clock, and a signal that any of them got.
  void agree() {
    const int signal = stop_ ? stop_->load() : 0;
    std::array<double, 3> sums = {leads_ ? elapsed() : 0, static_cast<double>(signal), signal ? 1. : 0.};
    team_->sum(sums);
    agreed_seconds_ = sums[0];
    if (sums[2] > 0) agreed_signal_ = static_cast<int>(std::lround(sums[1] / sums[2]));
  }

  void log(const ordered_json& line) {
    if (metrics_) metrics_->write(line);
  }

  /// Steps and seconds as metrics.jsonl counts them.
  int64_t all_steps(int64_t step) const { return job_.before.steps + step; }
  double all_seconds() const { return job_.before.seconds + elapsed(); }

  double elapsed() const { return progress_.seconds + seconds_between(begin_, Clock::now()); }
  double share_done() const {
    const double seconds = team_ ? std::max(agreed_seconds_, progress_.seconds) : elapsed();
    if (options_.minutes > 0) return seconds / (60 * options_.minutes);
    return static_cast<double>(progress_.step) / static_cast<double>(total_steps_);
  }
  bool finished() const { return share_done() >= 1 || out_of_patience(); }
  bool out_of_patience() const {
    return options_.patience > 0 && progress_.bad_validations >= options_.patience;
  }
  int signal() const { return team_ ? agreed_signal_ : stop_ ? stop_->load() : 0; }
  bool interrupted() const { return signal() != 0; }
  int64_t bar_total() const {
    return options_.minutes > 0 ? std::llround(60 * options_.minutes) : total_steps_;
  }
  int64_t bar_done() const { return options_.minutes > 0 ? std::llround(elapsed()) : progress_.step; }

  CheckpointArrays arrays() {
    CheckpointArrays arrays{job_.model->parameters(), stepper_.optimizer().first_moments(),
                            stepper_.optimizer().second_moments(), average_};
    if (job_.model->guided()) {
      arrays.guides = job_.model->guides();
      arrays.guide_first_moments = stepper_.guide_optimizer().first_moments();
      arrays.guide_second_moments = stepper_.guide_optimizer().second_moments();
    }
    return arrays;
  }

  void add_guides() {
    const model::ParameterLayout layout = model::make_guide_layout(job_.model->config());
    if (job_.guides.empty()) {
      constexpr uint64_t kOwnStream = 0x6D1DE;
      job_.guides = model::initial_parameters<float>(layout, Random{options_.seed, kOwnStream}.bits(0));
    }
    job_.model->add_guides(job_.guides);
    job_.guides = {};
  }

  /// The guides fade with the run, and go.
  void fade_guides() {
    if (!job_.model->guided()) return;
    const double share = model::guide_share(share_done(), options_.guided);
    share > 0 ? job_.model->set_guide_share(share) : job_.model->remove_guides();
  }

  void write_start() {
    ordered_json line = {{"event", "start"},
                         {"name", job_.name},
                         {"parameters", model::stored_parameter_count(job_.model->config())},
                         {"train_tokens", job_.train.size()},
                         {"valid_tokens", job_.valid.size()},
                         {"batch", options_.batch},
                         {"context", context_},
                         {"threads", pool_.size()},
                         {"fma_peak", peak_}};
    if (team_) line["ranks"] = team_->size();
    log(line);
  }

  void end_profile(int64_t steps) {
    report_ = profile_->report();
    profile_.reset();
    auto parts = ordered_json::array();
    for (const ProfileRow& row : report_->rows) {
      parts.push_back(
          {{"part", row.path}, {"calls", row.calls}, {"seconds", row.seconds}, {"flops", row.flops}});
    }
    log({{"event", "profile"},
         {"step", progress_.step},
         {"steps", steps},
         {"seconds", report_->wall_seconds},
         {"threads", report_->threads},
         {"fma_peak", peak_},
         {"parts", parts}});
  }

  void load_batch() {
    const ProfileScope profile("reading batches");
    for (int64_t i = 0; i < mine_.size(); ++i) {
      sampler_.copy(progress_.step * options_.batch + mine_.begin + i, inputs_.data() + i * context_,
                    targets_.data() + i * context_);
    }
  }

  void train_step() {
    load_batch();
    fade_guides();
    StepInput input;
    input.batch = {inputs_, targets_, mine_.size(), context_};
    input.first_sequence = mine_.begin, input.all_sequences = options_.batch;
    input.learning_rate =
        options_.learning_rate * schedule(share_done(), options_.warmup, options_.final_share);
    input.dropout = options_.dropout;
    input.dropout_key = Random{options_.seed, 0xD20}.bits(static_cast<uint64_t>(progress_.step));
    if (options_.nested) {
      input.distilled_levels = sandwich_levels(job_.model->config(), options_.seed, progress_.step);
    }
    if (ranks_) {  // its levels take the place of the one between
      input.distilled_levels.resize(1);
      input.scheduler = &ranks_->scheduler();
    }
    input.in_turns = options_.in_turns;
    input.teacher = job_.teacher;

    const auto start = Clock::now();
    const StepResult result = stepper_.step(input);
    if (ranks_) ranks_->move(stepper_.steps_done(), stepper_.rank_samples());
    const double took = seconds_between(start, Clock::now());
    ++progress_.step;
    step_seconds_ += took;
    step_tokens_ += static_cast<double>(step_rows());
    if (!std::isfinite(result.nats_per_token) || !std::isfinite(result.gradient_norm)) {
      throw_diverged(fmt::format("loss {}, gradient norm {}", result.nats_per_token, result.gradient_norm));
    }
    if (!average_.empty()) {
      // A young average leans on fewer steps, so that it forgets the initial weights.
      const double young = static_cast<double>(progress_.step + 1) / static_cast<double>(progress_.step + 10);
      update_average(std::min(options_.ema, young), job_.model->parameters(), average_, pool_);
    }
    show_step(input, result, took);
  }

  [[noreturn]] void throw_diverged(const std::string& figures) const {
    const std::string checkpoint =
        has_checkpoint(job_.out) ? "the last checkpoint is from before it" : "no checkpoint was due yet";
    throw_input_error(
        "train",
        "the loss is no longer finite at step {} ({}); {}: try a lower --learning-rate than {} or a "
        "longer --warmup",
        progress_.step, figures, checkpoint, options_.learning_rate);
  }

  void show_step(const StepInput& input, const StepResult& result, double took) {
    const int64_t rows = step_rows();
    double flops = training_flops(job_.model->config(), rows, context_);
    const size_t smaller = input.distilled_levels.size() + (input.scheduler ? 1 : 0);
    const double turns = input.in_turns ? static_cast<double>(smaller) : 1;
    // Between the levels lies what a policy costs: about the second smallest's.
    if (input.scheduler) flops += training_flops(job_.model->config(), rows, context_, 2) / turns;
    for (const int level : input.distilled_levels)
      flops += training_flops(job_.model->config(), rows, context_, level) / turns;
    // A teacher only goes forward: a third of a step.
    if (input.teacher.model) flops += training_flops(input.teacher.model->config(), rows, context_) / 3;
    flops += 6.0 * static_cast<double>(rows * job_.model->guide_layout().size);
    const double share = flops / took / peak_;
    ordered_json line = {{"event", "step"},
                         {"step", all_steps(progress_.step)},
                         {"tokens", all_steps(progress_.step) * rows},
                         {"seconds", all_seconds()},
                         {"loss", result.nats_per_token},
                         {"learning_rate", input.learning_rate},
                         {"tokens_per_second", static_cast<double>(rows) / took},
                         {"peak_share", share},
                         {"grad_norm", result.gradient_norm}};
    if (job_.model->quantum()) line["routed_share"] = result.routed_share;
    log(line);
    if (!bar_) return;
    smooth_ = smooth_ == 0 ? result.nats_per_token : 0.95 * smooth_ + 0.05 * result.nats_per_token;
    std::string status = fmt::format("loss {:.3f}", smooth_);
    if (last_valid_ > 0) status += fmt::format("  valid ppl {:.1f}", std::exp(last_valid_));
    status +=
        fmt::format("  {:.1f} k tokens/s  {:.0f}% of peak", step_tokens_ / step_seconds_ / 1e3, 100 * share);
    bar_->update(bar_done(), status);
  }

  int64_t step_rows() const { return options_.batch * context_; }

  bool validation_due() const {
    if (options_.validate_every > 0)
      return progress_.step % options_.validate_every == 0 || share_done() >= 1;
    if (options_.minutes > 0) return share_done() >= next_validation_;
    return progress_.step % std::max<int64_t>(1, total_steps_ / 20) == 0 || progress_.step == total_steps_;
  }

  /// Runs `body` with the averaged weights in the model, where there are some.
  template <class Body>
  void with_saved_weights(const Body& body) {
    if (!average_.empty())
      std::swap_ranges(average_.begin(), average_.end(), job_.model->parameters().begin());
    body();
    if (!average_.empty())
      std::swap_ranges(average_.begin(), average_.end(), job_.model->parameters().begin());
  }

  Evaluation evaluate_model(int64_t max_tokens) {
    job_.model->prepare(tt::Use::inference, pool_);
    EvaluateOptions options;
    options.stride = max_tokens ? context_ : 0;
    options.max_tokens = max_tokens;
    return evaluate(*job_.model, job_.valid, options, pool_);
  }

  void write_validation(const char* event, const Evaluation& e, int64_t step) {
    ordered_json line = {{"event", event},
                         {"step", all_steps(step)},
                         {"tokens", all_steps(step) * options_.batch * context_},
                         {"seconds", all_seconds()},
                         {"loss", e.nats_per_token},
                         {"stderr", e.standard_error},
                         {"perplexity", e.perplexity()},
                         {"word_perplexity", e.word_perplexity(job_.valid_counts, job_.valid.size())},
                         {"bits_per_byte", e.bits_per_byte(job_.valid_counts, job_.valid.size())},
                         {"context", e.context},
                         {"stride", e.stride}};
    if (job_.model->quantum()) line["routed_share"] = e.routed_share;
    log(line);
  }

  /// By rank 0; the others hear the loss.
  Evaluation evaluate_for_all(int64_t max_tokens) {
    Evaluation e;
    if (leads_) e = evaluate_model(max_tokens);
    if (team_) {
      std::array<double, 2> loss = {e.nats_per_token, e.standard_error};
      team_->share(std::as_writable_bytes(std::span(loss)));
      e.nats_per_token = loss[0], e.standard_error = loss[1];
    }
    return e;
  }

  void validate_now(int64_t max_tokens) {
    const ProfileScope profile("validation");
    while (next_validation_ <= share_done()) next_validation_ += 0.05;
    with_saved_weights([&] {
      const Evaluation e = evaluate_for_all(max_tokens);
      if (!std::isfinite(e.nats_per_token)) {
        throw_diverged(fmt::format("validation loss {}", e.nats_per_token));
      }
      last_valid_ = e.nats_per_token;
      write_validation("valid", e, progress_.step);
      if (progress_.best_step >= 0 && !(e.nats_per_token < progress_.best_nats)) {
        // A guided map alone cannot do much: patience begins when it stands alone.
        progress_.bad_validations = job_.model->guided() ? 0 : progress_.bad_validations + 1;
        return;
      }
      progress_.bad_validations = 0;
      progress_.best_step = progress_.step;
      progress_.best_nats = e.nats_per_token;
      progress_.best_error = e.standard_error;
      if (leads_) model::save_weights(job_.out, job_.model->layout(), job_.model->parameters());
    });
  }

  bool checkpoint_due() const {
    if (!leads_) return false;
    if (options_.checkpoint_steps > 0 && progress_.step % options_.checkpoint_steps == 0) return true;
    return seconds_between(last_checkpoint_, Clock::now()) >= options_.checkpoint_seconds;
  }

  void checkpoint() {
    const ProfileScope profile("checkpoints");
    RunState state = progress_;
    state.seconds = elapsed();
    state.metrics_bytes = metrics_->bytes();
    state.guided = job_.model->guided();
    if (ranks_) state.rank_quantiles = ranks_->quantiles();
    save_checkpoint(job_.out, state, job_.identity, arrays());
    last_checkpoint_ = Clock::now();
  }

  TrainSummary summary() {
    TrainSummary s;
    s.progress = progress_;
    s.seconds = elapsed();
    s.profile = report_;
    s.fma_peak = peak_;
    s.tokens_per_second = step_seconds_ > 0 ? step_tokens_ / step_seconds_ : 0;
    return s;
  }

  TrainSummary stop_here() {
    if (leads_) checkpoint();
    bar_.reset();
    TrainSummary s = summary();
    s.interrupted = signal();
    return s;
  }

  /// Meetings that can fail lie between updates, so the numbers are those of the last whole step.
  TrainSummary stop_without_ranks(int64_t first_step) {
    if (leads_ && progress_.step > first_step) checkpoint();
    bar_.reset();
    TrainSummary s = summary();
    s.ranks_lost = true;
    return s;
  }

  TrainSummary finish() {
    if (progress_.best_step != progress_.step && progress_.best_step < 0)
      validate_now(options_.validation_tokens);
    bar_.reset();
    if (job_.model->guided()) job_.model->remove_guides();
    TrainSummary s = summary();
    if (!leads_) return s;
    model::load_weights(job_.out, job_.model->layout(), job_.model->parameters());
    s.valid = evaluate_model(0);
    write_validation("best", s.valid, progress_.best_step);
    return s;
  }

  TrainJob& job_;
  const TrainOptions& options_;
  ThreadPool& pool_;
  const std::atomic<int>* stop_;
  Ranks* team_;
  bool leads_;
  Range mine_;  // this rank's sequences of a batch
  int64_t context_;
  WindowSampler sampler_;
  Stepper stepper_;
  std::vector<int32_t> inputs_, targets_;
  double peak_;
  int64_t total_steps_ = 0;
  AlignedVector<float> average_;
  std::optional<RankTraining> ranks_;
  RunState progress_;
  std::optional<MetricsFile> metrics_;
  std::optional<Progress> bar_;
  std::optional<Profile> profile_;
  std::optional<ProfileReport> report_;
  Clock::time_point begin_, last_checkpoint_;
  double agreed_seconds_ = 0;
  int agreed_signal_ = 0;
  double step_seconds_ = 0, step_tokens_ = 0, smooth_ = 0, last_valid_ = 0, next_validation_ = 0.05;
};

}  // namespace

void validate(const TrainJob& job) {
  validate(job.options);
  const model::ModelConfig& config = job.model->config();
  if (job.options.nested && model::level_count(config) < 2)
    throw_input_error("train", "nested training needs a model with levels; add --levels 4");
  if (job.options.mean_rank > 0 && !model::has_rank_choice(config)) {
    throw_input_error(
        "train",
        "--rank-policy picks among nested levels of the feed-forward layers, and this model has "
        "none; add --levels 4 with --ratio or --shape ffn=chain:rank=…");
  }
  if (job.options.in_turns && !job.options.nested) {
    throw_input_error("train",
                      "--sandwich turns is for nested levels, and this model has one; add --levels 4");
  }
  if (job.options.guided > 0 && model::make_guide_layout(config).size == 0) {
    throw_input_error("train",
                      "--guided is for tensor trains, and this model is dense; add --ratio or --shape");
  }
  if (job.ranks && job.options.batch < job.ranks->size()) {
    throw_input_error("train", "{} ranks cannot share a batch of {}; give --batch {} or more, or fewer ranks",
                      job.ranks->size(), job.options.batch, job.ranks->size());
  }
  validate(job.teacher, config);
}

TrainSummary train(TrainJob& job, ThreadPool& pool, const std::atomic<int>* stop) {
  validate(job);
  return Run(job, pool, stop).run();
}

}  // namespace qtf::train
