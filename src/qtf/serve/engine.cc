#include "qtf/serve/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/model/inference.h"
#include "qtf/serve/prefix_cache.h"

namespace qtf::serve {

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Logarithms of the tokens' probabilities are logits minus this.
double log_sum_exp(std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

/// The n most likely tokens, the likeliest first; of equals the lower id.
std::vector<TokenProbability> most_likely(std::span<const float> logits, int64_t n, double log_sum) {
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  const auto end = ids.begin() + std::min<int64_t>(n, static_cast<int64_t>(ids.size()));
  const auto logit = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  std::partial_sort(ids.begin(), end, ids.end(),
                    [&](int32_t a, int32_t b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  std::vector<TokenProbability> top;
  for (auto id = ids.begin(); id != end; ++id) top.push_back({*id, static_cast<float>(logit(*id) - log_sum)});
  return top;
}

/// A job that waits for its turn.
struct Waiting {
  Job job;
  Ticket cancelled;
  Clock::time_point submitted;
};

/// A job in the batch.
struct Active {
  Active(Waiting&& waiting, const model::LoadedModel& loaded, std::optional<PrefixCache::Hit>&& hit)
      : job(std::move(waiting.job)),
        cancelled(std::move(waiting.cancelled)),
        submitted(waiting.submitted),
        cached(hit ? std::min<int64_t>(hit->tokens, static_cast<int64_t>(job.prompt.size()) - 1) : 0),
        text(*loaded.model, *loaded.tokenizer, job.prompt, job.options,
             hit ? std::optional(std::move(hit->cache)) : std::nullopt),
        budgets(job.budgets, job.options.tokens, job.driven ? job.driven->mean() : 0) {}

  PrefixScope scope() const { return {job.scope, job.level, job.scheduler}; }

  Job job;
  Ticket cancelled;
  Clock::time_point submitted;
  int64_t cached;
  model::Continuation text;
  model::BudgetKeeper budgets;
  double first_token_ms = 0;
  int64_t window_rows = 0;  ///< that it read since the energy meter was started
  std::optional<adapt::Energy> energy = adapt::Energy{};
  std::vector<TokenProbability> prompt_logprobs;
  std::optional<Ending> ending;  ///< once it is over
  std::string error;
};

/// What one sequence reads in a pass.
struct Piece {
  Active* sequence;
  std::span<const int32_t> tokens;
};

/// A sequence that has read all it has, and what follows.
struct Draw {
  Active* sequence;
  std::span<const float> logits;
  int64_t row;  ///< of its last token in the pass
  Written written;
};

adapt::Energy sum(const adapt::Energy& a, const adapt::Energy& b) {
  return {a.joules + b.joules, a.low + b.low, a.high + b.high, b.tier};
}

}  // namespace

class Engine::Loop {
 public:
  Loop(model::LoadedModel loaded, int threads, const EngineOptions& options)
      : options_(options),
        loaded_(std::move(loaded)),
        pool_(threads),
        inference_(*loaded_.model, pool_),
        prefixes_(options.prefix_cache_bytes) {
    loaded_.model->prepare(tt::Use::inference, pool_);
    try {
      adapt::MeterOptions meter;
      meter.threads = pool_.size();
      meter_ = adapt::open_meter(options.meter, meter);
      state_.energy_tier = adapt::tier_name(meter_->tier());
    } catch (const InputError&) {
      if (options.meter != "auto") throw;  // else answers say that their energy is not known
    }
    thread_ = std::jthread([this] { run(); });
  }

  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      accepting_ = false;
      ending_ = true;
    }
    changed_.notify_all();
  }

  const model::LoadedModel& loaded() const { return loaded_; }

  std::vector<Ticket> submit(std::vector<Job>&& jobs) {
    for (const Job& job : jobs) {
      model::check_prompt(*loaded_.model, *loaded_.tokenizer, job.prompt, "serve");
      model::validate(job.options.sampling);
    }
    const std::lock_guard lock(mutex_);
    if (!accepting_ || static_cast<int64_t>(waiting_.size() + jobs.size()) > options_.most_waiting) {
      state_.refused += static_cast<int64_t>(jobs.size());
      return {};
    }
    std::vector<Ticket> tickets;
    for (Job& job : jobs) {
      tickets.push_back(std::make_shared<std::atomic<bool>>(false));
      waiting_.push_back({std::move(job), tickets.back(), Clock::now()});
      ++state_.jobs;
    }
    changed_.notify_all();
    return tickets;
  }

  bool drain(double seconds) {
    std::unique_lock lock(mutex_);
    accepting_ = false;
    return changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                             [&] { return waiting_.empty() && state_.active == 0; });
  }

  EngineState state() const {
    const std::lock_guard lock(mutex_);
    EngineState state = state_;
    state.waiting = static_cast<int64_t>(waiting_.size());
    return state;
  }

 private:
  void run() {
    while (admit()) {
      const Clock::time_point start = Clock::now();
      for (std::vector<Piece>& pieces : next_passes()) pass(pieces, start);
      drop_ended();
      const std::lock_guard lock(mutex_);
      state_.busy_seconds += ms_since(start) / 1e3;
    }
    for (const auto& sequence : active_) {
      sequence->ending = Ending::shutdown;
      end(*sequence);
    }
    active_.clear();
    refuse_waiting();
  }

  /// Fills the batch; waits while there is nothing to do. False at the end.
  bool admit() {
    std::unique_lock lock(mutex_);
    state_.active = static_cast<int64_t>(active_.size());
    if (state_.active == 0) changed_.notify_all();
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty() || !active_.empty(); });
    if (ending_) return false;
    while (!waiting_.empty() && static_cast<int64_t>(active_.size()) < options_.most_active) {
      Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      begin(std::move(next));
      lock.lock();
    }
    state_.active = static_cast<int64_t>(active_.size());
    return true;
  }

  void begin(Waiting&& next) {
    std::optional<PrefixCache::Hit> hit;
    if (!next.job.echo && !next.job.driven)
      hit = prefixes_.find({next.job.scope, next.job.level, next.job.scheduler}, next.job.prompt);
    if (meter_ && active_.empty()) meter_->start();
    active_.push_back(std::make_unique<Active>(std::move(next), loaded_, std::move(hit)));
  }

  /// A pass for every choice of ranks: each sequence reads its one new token, or some of its prompt.
  std::vector<std::vector<Piece>> next_passes() {
    std::vector<std::vector<Piece>> passes;
    int64_t room = options_.prompt_tokens;
    for (const auto& sequence : active_) {
      std::span<const int32_t> tokens = sequence->text.unread();
      if (tokens.size() > 1) {
        tokens = tokens.first(std::min(tokens.size(), static_cast<size_t>(room)));
        room -= static_cast<int64_t>(tokens.size());
      }
      if (tokens.empty() || sequence->text.finished()) continue;
      const auto same = [&](const std::vector<Piece>& other) {
        const Job& job = other.front().sequence->job;
        return job.level == sequence->job.level && job.scheduler == sequence->job.scheduler;
      };
      const auto found = std::ranges::find_if(passes, same);
      std::vector<Piece>& pass = found == passes.end() ? passes.emplace_back() : *found;
      pass.push_back({sequence.get(), tokens});
    }
    return passes;
  }

  void pass(std::vector<Piece>& pieces, Clock::time_point start) {
    const model::ModelConfig& config = loaded_.model->config();
    const Job& job = pieces.front().sequence->job;
    std::vector<model::Chunk<float>> chunks;
    int64_t rows = 0;
    for (const Piece& piece : pieces) {
      chunks.push_back({piece.tokens, &piece.sequence->text.cache()});
      rows += static_cast<int64_t>(piece.tokens.size());
    }
    const Matrix<float> hidden = matrix(hidden_, rows, config.width);
    const Matrix<float> entropy = matrix(entropy_, config.layers, rows);
    inference_.forward(chunks, {job.level, job.scheduler.get()}, hidden, entropy);
    const std::vector<int64_t> last = last_rows(pieces, hidden);
    const Matrix<float> ends = matrix(ends_, static_cast<int64_t>(last.size()), config.width);
    for (size_t i = 0; i < last.size(); ++i)
      std::copy_n(hidden.row(last[i]), config.width, ends.row(static_cast<int64_t>(i)));
    const Matrix<float> logits = matrix(logits_, ends.rows, config.vocabulary);
    if (ends.rows > 0) inference_.logits(ends, job.level, logits);

    int64_t row = 0, of_prompts = 0;
    const double ms = ms_since(start);
    std::vector<Draw> draws;
    for (const Piece& piece : pieces) {
      const auto size = static_cast<int64_t>(piece.tokens.size());
      piece.sequence->window_rows += size;
      window_rows_ += size;
      row += size;
      if (piece.sequence->text.drawn().empty()) of_prompts += size;
      if (!piece.sequence->text.unread().empty()) continue;
      const float* mine = logits.row(static_cast<int64_t>(draws.size()));
      draws.push_back({piece.sequence, {mine, static_cast<size_t>(config.vocabulary)}, row - 1, {}});
    }
    pool_.parallel_for(static_cast<int64_t>(draws.size()), [&](int, Range range) {
      for (int64_t i = range.begin; i < range.end; ++i) draw(draws[static_cast<size_t>(i)], entropy, ms);
    });
    for (Draw& one : draws) tell(*one.sequence, std::move(one.written));
    for (const Piece& piece : pieces) keep_budgets(*piece.sequence, ms);
    const std::lock_guard lock(mutex_);
    ++state_.passes;
    state_.prompt_tokens += of_prompts;
  }

  /// Drives the mean rank of a text by what its tokens take: of a decoded one, the time that its caller
  /// waited.
  void keep_budgets(Active& sequence, double ms) {
    if (!sequence.job.driven || sequence.text.drawn().size() < 2) return;
    const auto energy = [&]() -> std::optional<adapt::Energy> {
      close_energy_window();
      if (meter_) meter_->start();
      return meter_ ? sequence.energy : std::nullopt;
    };
    if (const auto mean = sequence.budgets.add(std::llround(1e6 * ms), energy))
      sequence.job.driven->set_mean(*mean);
  }

  /// Rows whose logits are needed: of the sequences that have read all they have. Tells echoed prompts'.
  std::vector<int64_t> last_rows(const std::vector<Piece>& pieces, Matrix<float> hidden) {
    std::vector<int64_t> last;
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      const auto size = static_cast<int64_t>(piece.tokens.size());
      if (piece.sequence->job.echo && piece.sequence->text.drawn().empty())
        add_prompt_logprobs(*piece.sequence, hidden.row_block(row, size));
      row += size;
      if (piece.sequence->text.unread().empty()) last.push_back(row - 1);
    }
    return last;
  }

  /// hidden: of the tokens that a sequence has just read of its prompt.
  void add_prompt_logprobs(Active& sequence, ConstMatrix<float> hidden) {
    const model::ModelConfig& config = loaded_.model->config();
    const auto known = static_cast<size_t>(loaded_.tokenizer->vocabulary_size());
    const int64_t first = sequence.text.cache().length() - hidden.rows;
    if (first == 0) sequence.prompt_logprobs.push_back({sequence.job.prompt.front(), 0});
    for (int64_t i = 0; i < hidden.rows && first + i + 1 < sequence.text.prompt_tokens(); ++i) {
      const Matrix<float> logits = matrix(logits_, 1, config.vocabulary);
      inference_.logits(hidden.row_block(i, 1), sequence.job.level, logits);
      const std::span<const float> row(logits.data, known);
      const int32_t token = sequence.job.prompt[static_cast<size_t>(first + i + 1)];
      sequence.prompt_logprobs.push_back(
          {token, static_cast<float>(row[static_cast<size_t>(token)] - log_sum_exp(row))});
    }
  }

  /// A sequence's next token, on any thread: it touches this sequence alone.
  void draw(Draw& draw, Matrix<float> entropy, double ms) const {
    Active& sequence = *draw.sequence;
    Written& written = draw.written;
    const int64_t begin =
        static_cast<int64_t>(sequence.text.history().size()) - sequence.text.cache().length();
    written.trace = {sequence.text.trace(entropy, draw.row), begin, ms};
    try {
      auto drawn = sequence.text.draw(draw.logits);
      written.token = drawn.token;
      written.text = std::move(drawn.text);
    } catch (const InputError& error) {
      sequence.error = error.what();
      sequence.ending = Ending::error;
      return;
    }
    if (written.token < 0 || !sequence.job.logprobs) return;
    const auto known = draw.logits.first(static_cast<size_t>(loaded_.tokenizer->vocabulary_size()));
    const double log_sum = log_sum_exp(known);
    written.logprob = static_cast<float>(known[static_cast<size_t>(written.token)] - log_sum);
    written.top = most_likely(known, sequence.job.top, log_sum);
  }

  /// Tells a sequence's listener of the token that was drawn.
  void tell(Active& sequence, Written&& written) {
    const Listener& listener = sequence.job.listener;
    const bool first = sequence.text.drawn().size() <= 1 && sequence.first_token_ms == 0;
    if (first && sequence.job.echo && listener.on_prompt) listener.on_prompt(sequence.prompt_logprobs);
    if (sequence.ending == Ending::error) return;
    if (first) sequence.first_token_ms = ms_since(sequence.submitted);
    if (written.token < 0) return;
    {
      const std::lock_guard lock(mutex_);
      ++state_.tokens;
      state_.routed_tokens += written.trace.routed;
    }
    if (listener.on_token) listener.on_token(std::move(written));
  }

  /// Ends the sequences that are finished, failed or cancelled.
  void drop_ended() {
    std::vector<std::unique_ptr<Active>> ended;
    for (auto& sequence : active_) {
      if (sequence->text.finished()) {
        sequence->ending = sequence->text.stopped() ? Ending::stop : Ending::length;
      } else if (*sequence->cancelled) {
        sequence->ending = Ending::cancelled;
      }
      if (sequence->ending) ended.push_back(nullptr);
    }
    if (ended.empty()) return;
    close_energy_window();
    const auto rest =
        std::stable_partition(active_.begin(), active_.end(), [](const auto& s) { return !s->ending; });
    std::move(rest, active_.end(), ended.begin());
    active_.erase(rest, active_.end());
    for (const auto& sequence : ended) end(*sequence);
    if (meter_ && !active_.empty()) meter_->start();
  }

  /// Shares the energy since the last window among the sequences, by the rows that they read.
  void close_energy_window() {
    std::optional<adapt::Energy> energy;
    if (meter_) {
      try {
        energy = meter_->stop();
      } catch (const InputError&) {  // too short a time to be measured
      } catch (const IoError&) {
        meter_.reset();
      }
    }
    const double rows = static_cast<double>(std::max<int64_t>(1, window_rows_));
    for (const auto& sequence : active_) {
      if (sequence->window_rows == 0) continue;
      const double share = static_cast<double>(std::exchange(sequence->window_rows, 0)) / rows;
      if (energy && sequence->energy) sequence->energy = sum(*sequence->energy, energy->scaled(share));
      if (!energy) sequence->energy.reset();
    }
    window_rows_ = 0;
    const std::lock_guard lock(mutex_);
    if (energy) state_.joules += energy->joules;
  }

  void end(Active& sequence) {
    Finished finished;
    finished.ending = *sequence.ending;
    finished.error = sequence.error;
    finished.text = sequence.text.finish();
    finished.prompt_tokens = sequence.text.prompt_tokens();
    finished.cached_tokens = sequence.cached;
    finished.tokens = static_cast<int64_t>(sequence.text.drawn().size());
    finished.first_token_ms = sequence.first_token_ms;
    finished.ms = ms_since(sequence.submitted);
    finished.energy = meter_ ? sequence.energy : std::nullopt;
    if (sequence.job.driven) {
      finished.mean_rank = sequence.job.driven->mean();
      finished.decisions = std::move(sequence.budgets.decisions);
    }
    keep_prefix(sequence);
    {
      const std::lock_guard lock(mutex_);
      state_.cached_tokens += sequence.cached;
      state_.cancelled += finished.ending == Ending::cancelled;
    }
    if (sequence.job.listener.on_end) sequence.job.listener.on_end(std::move(finished));
  }

  void keep_prefix(Active& sequence) {
    if (!sequence.text.whole() || sequence.job.driven) return;
    const auto read = static_cast<size_t>(sequence.text.cache().length());
    const auto tokens = sequence.text.history().first(read);
    prefixes_.keep(sequence.scope(), {tokens.begin(), tokens.end()}, std::move(sequence.text.cache()));
  }

  void refuse_waiting() {
    std::deque<Waiting> rest;
    {
      const std::lock_guard lock(mutex_);
      rest.swap(waiting_);
      state_.active = 0;
    }
    changed_.notify_all();
    for (const Waiting& waiting : rest) {
      Finished finished;
      finished.ending = Ending::shutdown;
      if (waiting.job.listener.on_end) waiting.job.listener.on_end(std::move(finished));
    }
  }

  /// Room for a pass, kept from one to the next.
  static Matrix<float> matrix(std::vector<float>& room, int64_t rows, int64_t columns) {
    room.resize(std::max(room.size(), static_cast<size_t>(rows * columns)));
    return {room.data(), rows, columns};
  }

  EngineOptions options_;
  model::LoadedModel loaded_;
  ThreadPool pool_;
  model::Inference<float> inference_;
  PrefixCache prefixes_;
  std::unique_ptr<adapt::EnergyMeter> meter_;
  std::vector<std::unique_ptr<Active>> active_;
  std::vector<float> hidden_, entropy_, ends_, logits_;
  int64_t window_rows_ = 0;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  EngineState state_;
  bool accepting_ = true, ending_ = false;

  std::jthread thread_;  // last: it uses all of the above
};

Engine::Engine(model::LoadedModel loaded, int threads, const EngineOptions& options)
    : loop_(std::make_unique<Loop>(std::move(loaded), threads, options)) {}
Engine::~Engine() = default;

const model::Transformer<float>& Engine::model() const {
  return *loop_->loaded().model;
}
const text::Tokenizer& Engine::tokenizer() const {
  return *loop_->loaded().tokenizer;
}
int64_t Engine::bytes() const {
  return loop_->loaded().bytes;
}
std::vector<Ticket> Engine::submit(std::vector<Job> jobs) {
  return loop_->submit(std::move(jobs));
}
bool Engine::drain(double seconds) {
  return loop_->drain(seconds);
}
EngineState Engine::state() const {
  return loop_->state();
}

}  // namespace qtf::serve
