#include "qtf/serve/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "qtf/base/error.h"
#include "qtf/model/generate.h"
#include "qtf/serve/serve_test.h"

namespace qtf::serve {
namespace {

std::vector<int32_t> tokens_of(std::string_view text) {
  return text::make_byte_tokenizer()->encode(text);
}

/// Prompts of 1 to 24 bytes, some of which begin alike.
std::string prompt_of(int number) {
  const std::string text = "once upon a time there was";
  return (number % 3 == 0 ? std::string(1, static_cast<char>('a' + number)) : std::string()) +
         text.substr(0, static_cast<size_t>(1 + number * 7 % 23));
}

model::GenerateOptions options_of(int number) {
  model::GenerateOptions options;
  options.tokens = 1 + number * 5 % 40;  // some beyond the context of 24
  options.sampling.seed = static_cast<uint64_t>(number);
  options.sampling.temperature = number % 4 == 0 ? 0 : 0.9;
  options.sampling.repeat_penalty = number % 5 == 0 ? 1.3 : 1;
  if (number % 6 == 0) options.stop = {"e", "qu"};
  return options;
}

Job job_of(int number, int level, std::shared_ptr<const model::RankScheduler> scheduler) {
  const model::GenerateOptions options = options_of(number);
  Job job;
  job.prompt = tokens_of(prompt_of(number));
  job.options = {options.tokens, options.sampling, options.stop};
  job.level = level;
  job.scheduler = std::move(scheduler);
  return job;
}

/// What generate() writes for the same request.
model::Generation alone(const model::LoadedModel& loaded, int number, int level,
                        const model::RankScheduler* scheduler) {
  model::GenerateOptions options = options_of(number);
  options.level = level;
  options.scheduler = scheduler;
  return model::generate(*loaded.model, *loaded.tokenizer, prompt_of(number), options);
}

std::vector<int32_t> ids(const Heard& heard) {
  std::vector<int32_t> tokens;
  for (const Written& written : heard.written) tokens.push_back(written.token);
  return tokens;
}

/// Submits one job, with what hears it.
Ticket submit(Engine& engine, Job job, Ear& ear) {
  job.listener = ear.listener();
  std::vector<Job> jobs;
  jobs.push_back(std::move(job));
  const auto tickets = engine.submit(std::move(jobs));
  return tickets.empty() ? nullptr : tickets.front();
}

class EngineOfModel : public testing::TestWithParam<model::SmallModel> {};

TEST_P(EngineOfModel, AnswersAsIfEachWereAlone) {
  const model::LoadedModel reference = loaded_model(GetParam());
  ThreadPool pool(1);
  reference.model->prepare(tt::Use::inference, pool);
  const int levels = model::level_count(reference.model->config());
  std::shared_ptr<const model::RankScheduler> scheduler;
  if (levels > 1) {
    model::RankOptions random;
    random.policy = adapt::parse_rank_policy("random", levels);
    scheduler = std::make_shared<model::RankScheduler>(reference.model->config(), random);
  }
  const auto level = [&](int number) { return levels > 1 ? number % (levels + 1) : 0; };
  const auto scheduled = [&](int number) { return number % 2 == 0 ? scheduler : nullptr; };

  constexpr int kJobs = 24;
  using ThreadsAndCache = std::pair<int, std::optional<CodeType>>;
  for (const auto& [threads, cache] : {ThreadsAndCache{1, {}}, {2, {}}, {2, CodeType::int8}}) {
    reference.model->set_cache_type(cache);
    model::LoadedModel served = loaded_model(GetParam());
    served.model->set_cache_type(cache);
    Engine engine(std::move(served), threads, {.most_active = 9, .prompt_tokens = 7});
    // The second round finds the first one's texts in the prefix cache.
    for (const bool again : {false, true}) {
      std::vector<Ear> ears(kJobs);
      for (int i = 0; i < kJobs; ++i)
        ASSERT_TRUE(submit(engine, job_of(i, level(i), scheduled(i)), ears[static_cast<size_t>(i)]));
      int64_t cached = 0;
      for (int i = 0; i < kJobs; ++i) {
        const Heard& heard = ears[static_cast<size_t>(i)].wait();
        const model::Generation expected = alone(reference, i, level(i), scheduled(i).get());
        EXPECT_EQ(ids(heard), expected.tokens) << "job " << i << ", " << threads << " threads, again "
                                               << again << ", in codes " << cache.has_value();
        EXPECT_EQ(heard.text, expected.text);
        EXPECT_EQ(heard.finished.ending, expected.stopped ? Ending::stop : Ending::length);
        EXPECT_EQ(heard.finished.prompt_tokens, expected.prompt_tokens);
        cached += heard.finished.cached_tokens;
      }
      EXPECT_TRUE(!again || cached > kJobs) << "nothing was found in the prefix cache";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EngineOfModel, testing::ValuesIn(model::small_models()),
                         [](const auto& one) { return one.param.name; });

class SmallEngine : public testing::Test {
 protected:
  Engine engine{loaded_model(model::small_models().front(), true), 1, {.most_active = 2, .most_waiting = 3}};

  Job endless() {
    Job job = job_of(1, 0, nullptr);
    job.options.tokens = 100'000'000;
    job.options.stop.clear();
    return job;
  }
};

TEST_F(SmallEngine, EndsACancelledJobAndNoOther) {
  Ear cancelled, other;
  const Ticket ticket = submit(engine, endless(), cancelled);
  Job job = endless();
  job.options.tokens = 200;
  submit(engine, job, other);
  cancelled.wait_for_tokens(3);
  *ticket = true;
  EXPECT_EQ(cancelled.wait().finished.ending, Ending::cancelled);
  EXPECT_EQ(other.wait().finished.tokens, 200);
  EXPECT_EQ(engine.state().cancelled, 1);
}

TEST_F(SmallEngine, RefusesMoreThanMayWait) {
  std::vector<Ear> ears(6);
  std::vector<Ticket> tickets;
  for (size_t i = 0; i < 2; ++i) {
    tickets.push_back(submit(engine, endless(), ears[i]));
    ears[i].wait_for_tokens(1);  // so that it waits no longer
  }
  for (size_t i = 2; i < 5; ++i) tickets.push_back(submit(engine, endless(), ears[i]));
  for (const Ticket& ticket : tickets) EXPECT_TRUE(ticket);
  EXPECT_FALSE(submit(engine, endless(), ears[5]));
  EXPECT_EQ(engine.state().refused, 1);
  EXPECT_EQ(engine.state().waiting, 3);
  for (const Ticket& ticket : tickets) *ticket = true;
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(ears[i].wait().finished.ending, Ending::cancelled);
}

TEST_F(SmallEngine, DrainsAndThenTakesNothing) {
  Ear ear;
  Job job = endless();
  job.options.tokens = 50;
  submit(engine, job, ear);
  EXPECT_TRUE(engine.drain(60));
  EXPECT_EQ(ear.wait().finished.tokens, 50);
  EXPECT_FALSE(submit(engine, job, ear));
}

TEST(EngineEnd, EndsWhatIsLeft) {
  std::vector<Ear> ears(5);
  {
    Engine engine(loaded_model(model::small_models().front(), true), 1, {.most_active = 2});
    for (Ear& ear : ears) {
      Job job = job_of(1, 0, nullptr);
      job.options.tokens = 100'000'000;
      job.options.stop.clear();
      submit(engine, job, ear);
    }
    ears.front().wait_for_tokens(1);
    EXPECT_FALSE(engine.drain(0.01));
  }
  for (Ear& ear : ears) EXPECT_EQ(ear.wait().finished.ending, Ending::shutdown);
}

TEST_F(SmallEngine, TellsLogProbabilitiesOfWhatItReadsAndWrites) {
  Job job = job_of(2, 0, nullptr);
  job.options.sampling.temperature = 0;
  job.options.tokens = 6;
  job.options.stop.clear();
  job.logprobs = job.echo = true;
  job.top = 300;  // more than there are tokens
  Ear ear;
  submit(engine, job, ear);
  const Heard heard = ear.wait();
  ASSERT_EQ(heard.prompt.size(), job.prompt.size());
  for (size_t i = 0; i < job.prompt.size(); ++i) EXPECT_EQ(heard.prompt[i].token, job.prompt[i]);
  EXPECT_EQ(heard.prompt.front().logprob, 0);
  for (const Written& written : heard.written) {
    ASSERT_EQ(written.top.size(), 257U);
    EXPECT_EQ(written.top.front().token, written.token) << "at temperature 0 the likeliest is drawn";
    EXPECT_EQ(written.top.front().logprob, written.logprob);
    double sum = 0;
    for (const TokenProbability& one : written.top) sum += std::exp(static_cast<double>(one.logprob));
    EXPECT_NEAR(sum, 1, 257 * 1e-6);
  }
  // A text that goes on with what was written has the same probabilities when it is read.
  Job longer = job;
  longer.options.tokens = 1;
  for (size_t i = 0; i + 1 < heard.written.size(); ++i) longer.prompt.push_back(heard.written[i].token);
  Ear other;
  submit(engine, longer, other);
  const Heard read = other.wait();
  for (size_t i = 0; i + 1 < heard.written.size(); ++i)
    EXPECT_EQ(read.prompt[job.prompt.size() + i].logprob, heard.written[i].logprob);
}

TEST(EngineTrace, TellsEntropyLevelAndRoute) {
  const model::SmallModel& small = small_model("gpt2_quantum_levels");
  Engine engine(loaded_model(small), 1);
  Job job = job_of(4, 0, nullptr);
  job.options.tokens = 15;
  job.options.stop.clear();
  model::RankOptions random;
  random.policy = adapt::parse_rank_policy("random", 4);
  job.scheduler = std::make_shared<model::RankScheduler>(engine.model().config(), random);
  Ear ear;
  submit(engine, job, ear);
  const Heard& heard = ear.wait();
  int64_t position = static_cast<int64_t>(job.prompt.size()) - 1, routed = 0;
  for (const Written& written : heard.written) {
    EXPECT_EQ(written.trace.position, position++ % 24);
    ASSERT_EQ(written.trace.entropies.size(), 2U);
    for (size_t layer = 0; layer < 2; ++layer) {
      EXPECT_GE(written.trace.entropies[layer], 0);
      EXPECT_LE(written.trace.entropies[layer], 1);
      if (job.scheduler->governs(static_cast<int64_t>(layer))) {
        EXPECT_GE(written.trace.levels[layer], 1);
        EXPECT_LE(written.trace.levels[layer], 4);
      }
    }
    EXPECT_GE(written.trace.ms, 0);
    routed += written.trace.routed;
    if (position == 24) break;  // the context is full: older tokens are forgotten
  }
  EXPECT_LE(routed, 24 * 3 / 10 + 1);
}

TEST_F(SmallEngine, RefusesPromptsThatDoNotFit) {
  Ear ear;
  Job job = endless();
  job.prompt.clear();
  EXPECT_THROW(submit(engine, job, ear), InputError);
  job.prompt.assign(25, 65);
  EXPECT_THROW(submit(engine, job, ear), InputError);
  job = endless();
  job.options.sampling.top_p = 2;
  EXPECT_THROW(submit(engine, job, ear), InputError);
}

TEST_F(SmallEngine, CountsWhatItDoes) {
  Ear ear;
  Job job = endless();
  job.options.tokens = 10;
  submit(engine, job, ear);
  const Finished& finished = ear.wait().finished;
  ASSERT_TRUE(engine.drain(60));
  const EngineState state = engine.state();
  EXPECT_EQ(state.jobs, 1);
  EXPECT_EQ(state.tokens, 10);
  EXPECT_EQ(state.prompt_tokens, finished.prompt_tokens);
  EXPECT_GT(state.busy_seconds, 0);
  EXPECT_GT(finished.ms, 0);
  EXPECT_GE(finished.ms, finished.first_token_ms);
  if (state.energy_tier == "modelled") {
    ASSERT_TRUE(finished.energy);
    EXPECT_GT(finished.energy->joules, 0);
    EXPECT_LE(finished.energy->low, finished.energy->joules);
  }
}

}  // namespace
}  // namespace qtf::serve
