#include "qtf/serve/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/serve/chat_template.h"

namespace qtf::serve {

std::shared_ptr<const model::RankScheduler> Schedulers::find(const CompletionRequest& request,
                                                             const model::ModelConfig& config) {
  if (request.rank_policy.empty() && !request.mean_rank) return nullptr;
  model::RankOptions options;
  const int levels = model::level_count(config);
  if (!request.rank_policy.empty() && levels > 1)
    options.policy = adapt::parse_rank_policy(request.rank_policy, levels);
  if (request.mean_rank) options.mean = std::llround(*request.mean_rank * 1e9);
  const std::string name = fmt::format("{} {}", request.rank_policy, options.mean.value_or(-1));
  const std::lock_guard lock(mutex_);
  constexpr size_t kMostSchedulers = 256;  // callers choose the names
  if (schedulers_.size() >= kMostSchedulers) schedulers_.clear();
  auto& scheduler = schedulers_[name];
  if (!scheduler) {
    try {
      scheduler = std::make_shared<model::RankScheduler>(config, options);
    } catch (const InputError& error) {
      schedulers_.erase(name);
      throw RequestError("rank_policy", error.what());
    }
  }
  return scheduler;
}

namespace {

std::vector<int32_t> prompt_tokens(const CompletionRequest& request, Endpoint endpoint,
                                   const Engine& engine) {
  const bool chat = endpoint == Endpoint::chat;
  try {
    return model::encode_prompt(engine.model(), engine.tokenizer(),
                                chat ? chat_prompt(request.messages) : request.prompt, "serve");
  } catch (const InputError& error) {
    throw RequestError(chat ? "messages" : "prompt", error.what());
  }
}

/// A number that must be above 0, as whole units of 1/`unit`; 0: it was not given.
int64_t budget_units(const std::optional<double>& asked, double unit, const char* name) {
  if (!asked) return 0;
  const int64_t units = std::llround(*asked * unit);
  if (units < 1) throw RequestError(name, fmt::format("{} must be above 0, got {}", name, *asked));
  return units;
}

/// A policy that budgets drive: the one asked for, or the model's own.
std::shared_ptr<model::RankScheduler> driven_scheduler(const CompletionRequest& request,
                                                       const model::ModelConfig& config, const char* budget) {
  model::RankOptions options;
  try {
    options.policy = request.rank_policy.empty()
                         ? model::own_policy(config)
                         : adapt::parse_rank_policy(request.rank_policy, model::level_count(config));
    if (options.policy.signal == adapt::RankSignal::fixed)
      throw_input_error(budget,
                        "drives the mean rank of a policy, which fixed levels have not; give another "
                        "rank_policy");
    if (request.mean_rank) options.mean = std::llround(*request.mean_rank * 1e9);
    return std::make_shared<model::RankScheduler>(config, options);
  } catch (const InputError& error) {
    throw RequestError(request.rank_policy.empty() ? budget : "rank_policy", error.what());
  }
}

}  // namespace

Job make_job(const CompletionRequest& request, Endpoint endpoint, const Engine& engine,
             Schedulers& schedulers) {
  const model::ModelConfig& config = engine.model().config();
  Job job;
  job.prompt = prompt_tokens(request, endpoint, engine);
  job.options.sampling = request.sampling;
  job.options.stop = request.stop;
  if (endpoint == Endpoint::chat)
    job.options.stop.insert(job.options.stop.end(), chat_stops().begin(), chat_stops().end());
  constexpr int64_t kUsualTokens = 16;  // OpenAI's
  const int64_t room = config.context - static_cast<int64_t>(job.prompt.size());
  job.options.tokens = request.max_tokens > 0       ? request.max_tokens
                       : endpoint == Endpoint::chat ? std::max<int64_t>(kUsualTokens, room)
                                                    : kUsualTokens;
  const int levels = model::level_count(config);
  if (request.level > levels) {
    throw RequestError("level", fmt::format("level must be 0 (the largest) to {} for this model, got {}",
                                            levels, request.level));
  }
  job.level = request.level == levels ? 0 : static_cast<int>(request.level);  // one name: they share passes
  job.budgets = {budget_units(request.max_latency_ms, 1e6, "max_latency_ms"),
                 budget_units(request.max_energy_per_query, 1e9, "max_energy_per_query")};
  if (job.budgets.energy_nj > 0 && engine.state().energy_tier.empty())
    throw RequestError("max_energy_per_query",
                       "this server has no energy meter; ask for max_latency_ms instead");
  if (job.budgets.any()) {
    job.driven = driven_scheduler(request, config,
                                  job.budgets.token_ns > 0 ? "max_latency_ms" : "max_energy_per_query");
    job.scheduler = job.driven;
  } else {
    job.scheduler = schedulers.find(request, config);
  }
  job.logprobs = request.logprobs;
  job.top = request.top_logprobs;
  job.echo = request.echo && request.logprobs;
  return job;
}

}  // namespace qtf::serve
