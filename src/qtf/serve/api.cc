#include "qtf/serve/api.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "qtf/audit/verify.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"
#include "qtf/model/gauge.h"
#include "qtf/quantum/drawing.h"
#include "qtf/serve/answers.h"
#include "qtf/serve/call.h"
#include "qtf/serve/chat_template.h"
#include "qtf/serve/completion_request.h"
#include "qtf/serve/page.h"
#include "qtf/serve/recent_texts.h"
#include "qtf/serve/why.h"

namespace qtf::serve {

using Json = nlohmann::ordered_json;

namespace {

namespace fs = std::filesystem;

constexpr size_t kRecentTexts = 256;  // of all callers, that /v1/why can be asked about

std::string random_id(std::string_view prefix) {
  std::array<unsigned char, 12> bytes{};
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  std::string id(prefix);
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

/// "example.org:8080" without the port; of "[::1]:80" the part in brackets.
std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.find(']'), host.size() - 1) + 1);
  return host.substr(0, host.find(':'));
}

bool same_text(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

/// Requests that each caller may still make: a bucket that fills evenly.
class RateLimit {
 public:
  explicit RateLimit(double per_second) : per_second_(per_second), most_(std::max(1.0, per_second)) {}

  bool allows(const std::string& caller) {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    auto [place, fresh] = buckets_.try_emplace(caller, Bucket{most_, now});
    Bucket& bucket = place->second;
    bucket.left =
        std::min(most_, bucket.left + per_second_ * std::chrono::duration<double>(now - bucket.at).count());
    bucket.at = now;
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    return true;
  }

 private:
  struct Bucket {
    double left;
    std::chrono::steady_clock::time_point at;
  };
  double per_second_, most_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;  // a caller a key: no more than there are keys
};

/// Who listens to /v1/trace, by the scope whose requests they may see.
class Watchers {
 public:
  bool add(const std::string& scope, const std::shared_ptr<Reply>& reply, int64_t most) {
    const std::lock_guard lock(mutex_);
    if (static_cast<int64_t>(watchers_.size()) >= most) return false;
    const int64_t number = next_++;
    watchers_.emplace(number, Watcher{scope, reply});
    any_ = true;
    return true;
  }
  void remove(const std::shared_ptr<Reply>& reply) {
    const std::lock_guard lock(mutex_);
    std::erase_if(watchers_, [&](const auto& entry) { return entry.second.reply == reply; });
    any_ = !watchers_.empty();
  }
  bool any() const { return any_; }
  void tell(const std::string& scope, const Json& json) {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, watcher] : watchers_)
      if (watcher.scope == scope) watcher.reply->write(event_text(json));
  }

 private:
  struct Watcher {
    std::string scope;
    std::shared_ptr<Reply> reply;
  };
  std::mutex mutex_;
  std::atomic<bool> any_ = false;
  int64_t next_ = 0;
  std::map<int64_t, Watcher> watchers_;
};

}  // namespace

class ApiService {
 public:
  ApiService(std::shared_ptr<Engine> engine, ApiOptions&& options, std::shared_ptr<Engine> parent)
      : options_(std::move(options)),
        rate_(options_.requests_per_second),
        engine_(std::move(engine)),
        parent_(std::move(parent)) {}

  std::shared_ptr<Engine> replace(std::shared_ptr<Engine> engine) {
    const std::lock_guard lock(mutex_);
    schedulers_.clear();
    texts_->clear();
    return std::exchange(engine_, std::move(engine));
  }

  void close(double seconds) {
    const auto engines = {replace(nullptr), take_parent()};
    own_sentences_.close();
    service_sentences_.close();
    for (const auto& engine : engines)
      if (engine) engine->drain(seconds);
  }

  void handle(const HttpRequest& request, const std::shared_ptr<Reply>& reply);

  // The routes' handlers. scope: what the caller may see.
  void completions(const HttpRequest& request, const std::string& scope,
                   const std::shared_ptr<Reply>& reply) {
    complete(request, Endpoint::completions, scope, reply);
  }
  void chat(const HttpRequest& request, const std::string& scope, const std::shared_ptr<Reply>& reply) {
    complete(request, Endpoint::chat, scope, reply);
  }
  void page(const HttpRequest& request, const std::string&, const std::shared_ptr<Reply>& reply);
  void models(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);
  void health(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);
  void metrics(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);
  void trace(const HttpRequest&, const std::string& scope, const std::shared_ptr<Reply>& reply);
  void why(const HttpRequest& request, const std::string& scope, const std::shared_ptr<Reply>& reply);
  void circuit(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);
  void report(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);
  void audit(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply);

 private:
  void check(const HttpRequest& request, bool needs_key, std::string& scope);
  void complete(const HttpRequest& request, Endpoint endpoint, const std::string& scope,
                const std::shared_ptr<Reply>& reply);
  /// The model's or, for its name, the parent's. Throws Refusal once there is none.
  std::shared_ptr<Engine> engine(std::string_view model = {});
  bool is_parent(std::string_view model) const { return !model.empty() && model == options_.parent_name; }
  std::shared_ptr<Engine> take_parent() {
    const std::lock_guard lock(mutex_);
    return std::exchange(parent_, nullptr);
  }
  std::shared_ptr<const model::RankScheduler> scheduler_of(const CompletionRequest& request,
                                                           const model::ModelConfig& config);
  Job job_of(const CompletionRequest& request, Endpoint endpoint, const Engine& engine);

  const ApiOptions options_;
  const int64_t started_ = std::time(nullptr);
  RateLimit rate_;
  /// Shared with what is written: a listener that held the service would end the engine on its own thread.
  std::shared_ptr<Watchers> watchers_ = std::make_shared<Watchers>();
  std::shared_ptr<RecentTexts> texts_ = std::make_shared<RecentTexts>(kRecentTexts);
  TokenExplainer own_sentences_, service_sentences_;  // so that who asks a service holds up nobody else
  std::mutex mutex_;                                  // of what follows
  std::shared_ptr<Engine> engine_, parent_;
  std::map<std::string, std::shared_ptr<const model::RankScheduler>> schedulers_;
};

namespace {

/// What is answered instead.
class Refusal : public std::runtime_error {
 public:
  Refusal(int status, const std::string& message, std::string_view code = {}, HttpAnswer with = {})
      : std::runtime_error(message), answer(error_answer(status, message, {}, code)) {
    answer.headers = std::move(with.headers);
  }
  HttpAnswer answer;
};

struct RouteRow {
  Route route;
  void (ApiService::*handle)(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>&);
};

constexpr RouteRow kRoutes[] = {
    {{"POST", "/v1/completions", "Continue a prompt"}, &ApiService::completions},
    {{"POST", "/v1/chat/completions", "Answer a conversation, written out for a base model as one text"},
     &ApiService::chat},
    {{"GET", "/v1/models", "The model that is served, and its parent where `--parent` names one"},
     &ApiService::models},
    {{"GET", "/v1/trace",
      "From now on, what is decided for every token of this caller's requests, as server-sent events: id, "
      "index, "
      "position, entropy and level by layer, routed, ms; never text"},
     &ApiService::trace},
    {{"POST", "/v1/why",
      "Why a token that this caller's request wrote took its ranks and its route, in plain language: `id` of "
      "the "
      "answer, `index` of its choice, number of the `token` in it, `explainer` (`template`, or `k2` where "
      "the "
      "server has `--explainer k2`)"},
     &ApiService::why},
    {{"GET", "/v1/circuit", "The model's quantum circuit, drawn as SVG"}, &ApiService::circuit},
    {{"GET", "/v1/report", "The page that `qtf compress` wrote beside the model"}, &ApiService::report},
    {{"GET", "/v1/audit",
      "Whether the records of how the model was made are consistent: `records`, `root`, `problems`, and the "
      "command "
      "that checks it"},
     &ApiService::audit},
    {{"GET", "/metrics", "Counts for Prometheus"}, &ApiService::metrics},
    {{"GET", "/", "The page, and its files beside it", false}, &ApiService::page},
    {{"GET", "/health", "`{\"status\":\"ok\"}` while requests are taken", false}, &ApiService::health},
};

/// The page's file at a path; null if there is none.
const PageFile* find_page_file(std::string_view path) {
  const std::string_view name = path == "/" ? "index.html" : path.substr(std::min<size_t>(1, path.size()));
  const auto files = page_files();
  const auto found = std::ranges::find(files, name, &PageFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::string_view content_type(std::string_view name) {
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "text/html; charset=utf-8";
}

/// Where a request goes: a row of the table, or of the page's files the row of "/".
const RouteRow* find_route(const HttpRequest& request, bool any_method) {
  const std::string_view path = find_page_file(request.path) ? "/" : std::string_view(request.path);
  const auto* row = std::ranges::find_if(kRoutes, [&](const RouteRow& one) {
    const bool method =
        one.route.method == request.method || (one.route.method == "GET" && request.method == "HEAD");
    return one.route.path == path && (method || any_method);
  });
  return row == std::end(kRoutes) ? nullptr : row;
}

const HttpAnswer kKeyWanted{.headers = {{"WWW-Authenticate", "Bearer"}}};

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

/// Layers are told by number, tokens by place: nothing of the text.
Json watched(const AnswerHead& head, size_t index, const Trace& trace) {
  Json json{{"id", head.id}, {"index", index}};
  json.update(trace_json(trace));
  return json;
}

}  // namespace

/// Who is asking, from where and what: throws Refusal. Sets the scope, which is the key's hash.
void ApiService::check(const HttpRequest& request, bool needs_key, std::string& scope) {
  const std::string_view host = request.header("host");
  if (!options_.hosts.empty() && std::ranges::find(options_.hosts, host_name(host)) == options_.hosts.end()) {
    throw Refusal(421, fmt::format("this server is not called \"{}\"; allow the name with --allow-host",
                                   host_name(host).substr(0, 100)));
  }
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && origin != fmt::format("http://{}", host) &&
      origin != fmt::format("https://{}", host))
    throw Refusal(403, "pages of other origins may not call this server");
  if (!options_.key_hashes.empty() && needs_key) {
    const std::string_view header = request.header("authorization");
    if (!header.starts_with("Bearer "))
      throw Refusal(401, "send a key: Authorization: Bearer KEY", "no_key", kKeyWanted);
    const std::string hash = sha256_hex(header.substr(7));
    bool known = false;
    for (const std::string& mine : options_.key_hashes) known |= same_text(mine, hash);
    if (!known) throw Refusal(401, "this key is not known", "invalid_api_key", kKeyWanted);
    scope = hash;
  }
  if (needs_key && !rate_.allows(scope))
    throw Refusal(429, "too many requests; wait a second", "rate_limit_exceeded",
                  {.headers = {{"Retry-After", "1"}}});
  if (request.method != "POST") return;
  const std::string_view type = request.header("content-type");
  if (type.substr(0, type.find(';')) != "application/json")
    throw Refusal(415, "send JSON: Content-Type: application/json");
}

void ApiService::handle(const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
  const RouteRow* row = find_route(request, false);
  try {
    std::string scope;
    check(request, !row || row->route.needs_key, scope);
    if (row) return (this->*row->handle)(request, scope, reply);
    row = find_route(request, true);
    if (!row) {
      throw Refusal(
          404, fmt::format("there is no {} here (docs/api.md lists the paths)", request.path.substr(0, 100)));
    }
    throw Refusal(405, fmt::format("{} takes {} only", request.path, row->route.method), {},
                  {.headers = {{"Allow", std::string(row->route.method)}}});
  } catch (const Refusal& refusal) {
    reply->send(refusal.answer);
  } catch (const RequestError& error) {
    reply->send(error_answer(400, error.what(), error.parameter()));
  } catch (const InputError& error) {
    reply->send(error_answer(400, error.what()));
  } catch (const std::exception&) {
    reply->send(error_answer(500, "the request could not be answered"));
  }
}

void ApiService::page(const HttpRequest& request, const std::string&, const std::shared_ptr<Reply>& reply) {
  const PageFile& file = *find_page_file(request.path);
  reply->send(
      {.content_type = std::string(content_type(file.name)),
       .body = std::string(file.text),
       .headers = {{"Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri "
                    "'none'; form-action 'none'; frame-ancestors 'none'"},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"}}});
}

namespace {

/// What /v1/models tells of one.
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

}  // namespace

void ApiService::models(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  Json data = Json::array();
  const auto add = [&](const std::string& name, const Json& facts) {
    data.push_back(
        {{"id", name}, {"object", "model"}, {"created", started_}, {"owned_by", "qtf"}, {"qtf", facts}});
  };
  Json facts = model_facts(*engine());
  facts["explainers"] = options_.explains_by_k2 ? Json{"template", "k2"} : Json{"template"};
  facts["report"] = fs::is_regular_file(options_.report);
  facts["records"] = fs::is_regular_file(options_.records);
  if (!options_.parent_name.empty()) facts["parent"] = options_.parent_name;
  add(options_.model_name, facts);
  if (!options_.parent_name.empty()) add(options_.parent_name, model_facts(*engine(options_.parent_name)));
  reply->send({.body = Json{{"object", "list"}, {"data", std::move(data)}}.dump()});
}

std::shared_ptr<Engine> ApiService::engine(std::string_view model) {
  const std::lock_guard lock(mutex_);
  const auto& engine = is_parent(model) ? parent_ : engine_;
  if (!engine) throw Refusal(503, "the server is shutting down");
  return engine;
}

void ApiService::health(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  engine();
  reply->send({.body = R"({"status":"ok"})"});
}

void ApiService::metrics(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  const EngineState state = engine()->state();
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
  reply->send({.content_type = "text/plain; version=0.0.4", .body = std::move(text)});
}

void ApiService::trace(const HttpRequest&, const std::string& scope, const std::shared_ptr<Reply>& reply) {
  if (!watchers_->add(scope, reply, options_.most_watchers))
    throw Refusal(429, fmt::format("{} callers watch already", options_.most_watchers),
                  "rate_limit_exceeded");
  reply->begin({.content_type = "text/event-stream",
                .body = ": watching\n\n",
                .headers = {{"Cache-Control", "no-store"}}});
  reply->on_gone([watchers = std::weak_ptr(watchers_), watcher = std::weak_ptr(reply)] {
    const auto all = watchers.lock();
    const auto gone = watcher.lock();
    if (all && gone) all->remove(gone);
  });
}

void ApiService::why(const HttpRequest& request, const std::string& scope,
                     const std::shared_ptr<Reply>& reply) {
  WhyRequest asked = parse_why(request.body);
  const bool by_service = asked.explainer == "k2";
  if (!by_service && asked.explainer != "template")
    throw RequestError("explainer", fmt::format("explainer must be template or k2, got {}", asked.explainer));
  if (by_service && !options_.explains_by_k2)
    throw RequestError("explainer", "this server asks no service; it was started without --explainer k2");
  auto text = texts_->find(scope, asked.id, static_cast<size_t>(asked.index));
  if (!text)
    throw Refusal(404, fmt::format("there is no text {} {} of yours among the last {}",
                                   asked.id.substr(0, 100), asked.index, kRecentTexts));
  if (asked.token >= text->written()) {
    throw RequestError("token", fmt::format("{} tokens of the text can be asked about, from 0; not token {}",
                                            text->written(), asked.token));
  }
  auto writer = text->engine.lock();
  if (!writer) throw Refusal(404, "the model that wrote the text is no longer served");
  TokenExplainer& explainer = by_service ? service_sentences_ : own_sentences_;
  if (!explainer.explain(std::move(asked), std::move(*text), std::move(writer), reply))
    throw Refusal(503, "too many questions are waiting; try again", "overloaded",
                  {.headers = {{"Retry-After", "1"}}});
}

void ApiService::circuit(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  const auto engine = this->engine();
  const auto& quantum = engine->model().config().quantum;
  const auto drawn = quantum ? nn::inner_circuit(quantum->circuit) : std::nullopt;
  if (!drawn) throw Refusal(404, "this model has no quantum circuit");
  reply->send({.content_type = "image/svg+xml", .body = quantum::draw_svg(*drawn)});
}

void ApiService::report(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  const fs::path& file = options_.report;
  if (!fs::is_regular_file(file)) throw Refusal(404, "this model has no report; qtf compress writes one");
  // A page of its own, which may run its own script and reach nothing.
  reply->send(
      {.content_type = "text/html; charset=utf-8",
       .body = read_file(file),
       .headers = {{"Content-Security-Policy",
                    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src "
                    "'unsafe-inline'; img-src data:"},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"}}});
}

void ApiService::audit(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  const fs::path& file = options_.records;
  if (!fs::is_regular_file(file)) throw Refusal(404, "this model has no records of how it was made");
  const audit::Verification found = audit::verify(file);
  Json problems = Json::array();
  for (const audit::VerifyProblem& problem : found.problems)
    problems.push_back({{"record", problem.sequence}, {"what", problem.what}});
  reply->send({.body = Json{{"consistent", found.problems.empty()},
                            {"records", found.count},
                            {"root", to_hex(found.root)},
                            {"problems", problems},
                            {"verify", audit::verify_command(options_.model_name, found)}}
                           .dump()});
}

/// One scheduler for all requests that ask for the same, so that they share passes and prefixes.
std::shared_ptr<const model::RankScheduler> ApiService::scheduler_of(const CompletionRequest& request,
                                                                     const model::ModelConfig& config) {
  if (request.rank_policy.empty() && !request.mean_rank) return nullptr;
  model::RankOptions options;
  const int levels = model::level_count(config);
  if (!request.rank_policy.empty() && levels > 1)
    options.policy = adapt::parse_rank_policy(request.rank_policy, levels);
  if (request.mean_rank) options.mean = std::llround(*request.mean_rank * 1e9);
  const std::string name =
      fmt::format("{} {} {}", is_parent(request.model), request.rank_policy, options.mean.value_or(-1));
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

Job ApiService::job_of(const CompletionRequest& request, Endpoint endpoint, const Engine& engine) {
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
    job.scheduler = scheduler_of(request, config);
  }
  job.logprobs = request.logprobs;
  job.top = request.top_logprobs;
  job.echo = request.echo && request.logprobs;
  return job;
}

void ApiService::complete(const HttpRequest& request, Endpoint endpoint, const std::string& scope,
                          const std::shared_ptr<Reply>& reply) {
  CompletionRequest asked = parse_completion(request.body, endpoint);
  const std::shared_ptr<Engine> engine = this->engine(asked.model);
  const Job job = job_of(asked, endpoint, *engine);
  const int64_t texts = asked.n;
  const AnswerHead head{endpoint, random_id(endpoint == Endpoint::chat ? "chatcmpl-" : "cmpl-"),
                        is_parent(asked.model) ? options_.parent_name : options_.model_name,
                        std::time(nullptr)};
  const auto call = std::make_shared<Call>(std::move(asked), head, engine->tokenizer(), reply);
  auto tickets = std::make_shared<std::vector<Ticket>>();
  std::vector<Job> jobs;
  for (int64_t i = 0; i < texts; ++i) {
    Job& one = jobs.emplace_back(job);
    one.scope = scope;
    if (job.driven) one.scheduler = one.driven = std::make_shared<model::RankScheduler>(*job.driven);
    one.options.sampling.seed += static_cast<uint64_t>(i);
    const auto index = static_cast<size_t>(i);
    one.listener.on_prompt = [call, index](std::span<const TokenProbability> prompt) {
      call->begin(index, prompt);
    };
    texts_->add(scope, head.id, index,
                {.engine = engine,
                 .tokens = one.prompt,
                 .prompt_tokens = static_cast<int64_t>(one.prompt.size()),
                 .level = one.level,
                 .scheduler = one.scheduler,
                 .driven = one.driven != nullptr,
                 .begins = {}});
    one.listener.on_token = [call, index, scope, head, watchers = watchers_,
                             texts = texts_](Written&& written) {
      if (watchers->any()) watchers->tell(scope, watched(head, index, written.trace));
      texts->append(head.id, index, written.token, written.trace.begin);
      call->add(index, written);
    };
    one.listener.on_end = [call, index](Finished&& finished) { call->end(index, std::move(finished)); };
  }
  *tickets = engine->submit(std::move(jobs));
  if (tickets->empty())
    throw Refusal(503, "too many requests are waiting; try again", "overloaded",
                  {.headers = {{"Retry-After", "1"}}});
  reply->on_gone([tickets] {
    for (const Ticket& ticket : *tickets) *ticket = true;
  });
}

std::span<const Route> routes() {
  static const std::vector<Route> table = [] {
    std::vector<Route> all;
    for (const RouteRow& row : kRoutes) all.push_back(row.route);
    return all;
  }();
  return table;
}

Api::Api(std::shared_ptr<Engine> engine, ApiOptions options, std::shared_ptr<Engine> parent)
    : service_(std::make_unique<ApiService>(std::move(engine), std::move(options), std::move(parent))) {}
Api::~Api() = default;

std::shared_ptr<Engine> Api::replace(std::shared_ptr<Engine> engine) {
  return service_->replace(std::move(engine));
}

void Api::close(double seconds) {
  service_->close(seconds);
}

void Api::handle(const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
  service_->handle(request, reply);
}

}  // namespace qtf::serve
