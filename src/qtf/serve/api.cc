#include "qtf/serve/api.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <mutex>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/quantum/drawing.h"
#include "qtf/serve/answers.h"
#include "qtf/serve/call.h"
#include "qtf/serve/callers.h"
#include "qtf/serve/completion_request.h"
#include "qtf/serve/facts.h"
#include "qtf/serve/job.h"
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

}  // namespace

class ApiService {
 public:
  ApiService(std::shared_ptr<Engine> engine, ApiOptions&& options, std::shared_ptr<Engine> parent)
      : options_(std::move(options)),
        rate_(options_.requests_per_second),
        served_{std::move(engine)},
        parent_{std::move(parent)} {}

  std::shared_ptr<Engine> replace(std::shared_ptr<Engine> engine) {
    const std::lock_guard lock(mutex_);
    texts_->clear();
    return std::exchange(served_, Served{std::move(engine)}).engine;
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
  /// A model, and the schedulers that its requests share.
  struct Served {
    std::shared_ptr<Engine> engine;
    std::shared_ptr<Schedulers> schedulers = std::make_shared<Schedulers>();
  };
  /// The model or, for its name, the parent. Throws Refusal once there is none.
  Served served(std::string_view model);
  std::shared_ptr<Engine> engine(std::string_view model = {}) { return served(model).engine; }
  bool is_parent(std::string_view model) const { return !model.empty() && model == options_.parent_name; }
  std::shared_ptr<Engine> take_parent() {
    const std::lock_guard lock(mutex_);
    return std::exchange(parent_, Served{}).engine;
  }

  const ApiOptions options_;
  const int64_t started_ = std::time(nullptr);
  RateLimit rate_;
  /// Shared with what is written: a listener that held the service would end the engine on its own thread.
  std::shared_ptr<Watchers> watchers_ = std::make_shared<Watchers>();
  std::shared_ptr<RecentTexts> texts_ = std::make_shared<RecentTexts>(kRecentTexts);
  TokenExplainer own_sentences_, service_sentences_;  // so that who asks a service holds up nobody else
  std::mutex mutex_;                                  // of what follows
  Served served_, parent_;
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
      "index, position, entropy and level by layer, routed, ms; never text"},
     &ApiService::trace},
    {{"POST", "/v1/why",
      "Why a token that this caller's request wrote took its ranks and its route, in plain language: `id` of "
      "the answer, `index` of its choice, number of the `token` in it, `explainer` (`template`, or `k2` "
      "where the server has `--explainer k2`)"},
     &ApiService::why},
    {{"GET", "/v1/circuit", "The model's quantum circuit, drawn as SVG"}, &ApiService::circuit},
    {{"GET", "/v1/report", "The page that `qtf compress` wrote beside the model"}, &ApiService::report},
    {{"GET", "/v1/audit",
      "Whether the records of how the model was made are consistent: `records`, `root`, `problems`, and the "
      "command that checks it"},
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

/// A file for a browser, and what it may do there.
HttpAnswer file_answer(std::string_view type, std::string body, const char* policy) {
  return {.content_type = std::string(type),
          .body = std::move(body),
          .headers = {{"Content-Security-Policy", policy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"}}};
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
  reply->send(file_answer(content_type(file.name), std::string(file.text),
                          "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
}

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

ApiService::Served ApiService::served(std::string_view model) {
  const std::lock_guard lock(mutex_);
  const Served& served = is_parent(model) ? parent_ : served_;
  if (!served.engine) throw Refusal(503, "the server is shutting down");
  return served;
}

void ApiService::health(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  engine();
  reply->send({.body = R"({"status":"ok"})"});
}

void ApiService::metrics(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  reply->send({.content_type = "text/plain; version=0.0.4", .body = prometheus_text(engine()->state())});
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
  reply->send(file_answer("text/html; charset=utf-8", read_file(file),
                          "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src "
                          "'unsafe-inline'; img-src data:"));
}

void ApiService::audit(const HttpRequest&, const std::string&, const std::shared_ptr<Reply>& reply) {
  const fs::path& file = options_.records;
  if (!fs::is_regular_file(file)) throw Refusal(404, "this model has no records of how it was made");
  reply->send({.body = records_facts(file, options_.model_name).dump()});
}

void ApiService::complete(const HttpRequest& request, Endpoint endpoint, const std::string& scope,
                          const std::shared_ptr<Reply>& reply) {
  CompletionRequest asked = parse_completion(request.body, endpoint);
  const auto [engine, schedulers] = served(asked.model);
  const Job job = make_job(asked, endpoint, *engine, *schedulers);
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
