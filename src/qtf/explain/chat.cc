#include "qtf/explain/chat.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"
#include "qtf/explain/reasoning.h"

namespace qtf::explain {

namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

struct ParsedUrl {
  bool https = false, loopback = false;
};

/// Throws InputError for what is no usable URL.
ParsedUrl parse_url(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> handle(curl_url(), &curl_url_cleanup);
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    if (curl_url_get(handle.get(), which, &text, 0) != CURLUE_OK) return std::string();
    std::string copy(text);
    curl_free(text);
    return copy;
  };
  if (!handle ||
      curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
    throw_input_error("QTF_K2_URL", "'{}' is no URL; give one like https://api.k2think.ai/v1", url);
  if (!part(CURLUPART_USER).empty() || !part(CURLUPART_PASSWORD).empty())
    throw_input_error("QTF_K2_URL", "a URL with a user name is not taken; the key goes into QTF_K2_API_KEY");
  if (!part(CURLUPART_QUERY).empty() || !part(CURLUPART_FRAGMENT).empty())
    throw_input_error("QTF_K2_URL", "the base URL has no query; leave out what follows '?' or '#'");
  const std::string host = part(CURLUPART_HOST), scheme = part(CURLUPART_SCHEME);
  const auto is_address = [](const std::string& text) {
    return text.find_first_not_of("0123456789.") == std::string::npos && std::ranges::count(text, '.') == 3;
  };
  const bool loopback =
      host == "localhost" || host == "[::1]" || (host.starts_with("127.") && is_address(host));
  if (scheme != "https" && !(scheme == "http" && loopback))
    throw_input_error("QTF_K2_URL", "'{}' must begin with https:// (http:// only to this machine itself)",
                      url);
  return {scheme == "https", loopback};
}

std::string without_key(std::string text, const std::string& key) {
  for (size_t at = 0; !key.empty() && (at = text.find(key, at)) != std::string::npos; at += 3)
    text.replace(at, key.size(), "***");
  return text;
}

/// A server's word for an error text: short, printable, and without the key.
std::string safe_text(std::string text, const std::string& key) {
  constexpr size_t kShown = 200;
  text = without_key(std::move(text), key);
  for (char& c : text) c = c >= ' ' && c <= '~' ? c : ' ';
  return text.substr(0, kShown);
}

/// What one request came to.
struct Response {
  CURLcode code = CURLE_OK;
  int64_t status = 0;
  std::optional<int64_t> retry_after_s;
  std::string body;
  bool too_large = false;
};

size_t keep_body(char* data, size_t size, size_t count, void* user) {
  auto& response = *static_cast<Response*>(user);
  if (response.body.size() + size * count > kMostResponse) {
    response.too_large = true;
    return 0;
  }
  response.body.append(data, size * count);
  return size * count;
}

size_t keep_header(char* data, size_t size, size_t count, void* user) {
  std::string line(data, size * count);
  std::ranges::transform(line, line.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::string_view kName = "retry-after:";
  if (line.starts_with(kName)) {
    const size_t first = line.find_first_not_of(' ', kName.size());
    int64_t seconds = -1;
    if (first != std::string::npos) std::from_chars(line.data() + first, line.data() + line.size(), seconds);
    if (seconds >= 0) static_cast<Response*>(user)->retry_after_s = seconds;
  }
  return size * count;
}

/// libcurl calls it about once a second, and while bytes move.
int stop_if_asked(void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::atomic<bool>*>(stop)->load() ? 1 : 0;
}

class Curl {
 public:
  Curl() : handle_(curl_easy_init()) {
    if (!handle_) throw_io_error("explain", "libcurl cannot be started");
  }
  ~Curl() {
    curl_slist_free_all(headers_);
    curl_easy_cleanup(handle_);
  }
  Curl(const Curl&) = delete;
  Curl& operator=(const Curl&) = delete;

  template <class Value>
  void set(CURLoption option, Value value) {
    if (curl_easy_setopt(handle_, option, value) != CURLE_OK)
      throw_io_error("explain", "libcurl does not know option {}; is it too old?", static_cast<int>(option));
  }
  void header(const std::string& line) { headers_ = curl_slist_append(headers_, line.c_str()); }

  void perform(Response& response) {
    set(CURLOPT_HTTPHEADER, headers_);
    set(CURLOPT_WRITEFUNCTION, &keep_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&response));
    set(CURLOPT_HEADERFUNCTION, &keep_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&response));
    response.code = curl_easy_perform(handle_);
    long status = 0;
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
    response.status = status;
  }

 private:
  CURL* handle_;
  curl_slist* headers_ = nullptr;
};

Response post(const ChatEndpoint& endpoint, const std::string& body, const ChatOptions& options,
              Milliseconds left) {
  const ParsedUrl url = parse_url(endpoint.url);
  Curl curl;
  const std::string address = endpoint.url + (endpoint.url.ends_with('/') ? "" : "/") + "chat/completions";
  curl.set(CURLOPT_URL, address.c_str());
  curl.set(CURLOPT_PROTOCOLS_STR, url.https ? "https" : "http");
  curl.set(CURLOPT_FOLLOWLOCATION, 0L);  // it would carry the key elsewhere
  curl.set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  if (url.loopback) curl.set(CURLOPT_NOPROXY, "*");
  curl.set(CURLOPT_NOSIGNAL, 1L);
  curl.set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
  curl.set(CURLOPT_TIMEOUT_MS,
           static_cast<long>(std::max<int64_t>(1, std::min(options.timeout, left).count())));
  curl.set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl.set(CURLOPT_POSTFIELDS, body.c_str());
  if (options.stop) {
    curl.set(CURLOPT_NOPROGRESS, 0L);
    curl.set(CURLOPT_XFERINFOFUNCTION, &stop_if_asked);
    curl.set(CURLOPT_XFERINFODATA, const_cast<void*>(static_cast<const void*>(options.stop)));
  }
  curl.header("Content-Type: application/json");
  curl.header("Expect:");
  if (!endpoint.key.empty()) curl.header("Authorization: Bearer " + endpoint.key);
  Response response;
  curl.perform(response);
  return response;
}

/// A message as it comes: whole, or put together from a stream.
struct Message {
  std::string content;
  bool finished = false;  ///< it said why it ended
  bool cut = false;       ///< because max_tokens were reached
};

void take_choice(const nlohmann::json& reply, const char* part, Message& message) {
  if (!reply.is_object()) return;
  const auto choices = reply.find("choices");
  if (choices == reply.end() || !choices->is_array() || choices->empty() || !choices->front().is_object())
    return;
  const nlohmann::json& choice = choices->front();
  if (const auto delta = choice.find(part); delta != choice.end() && delta->is_object()) {
    const auto content = delta->find("content");
    if (content != delta->end() && content->is_string()) message.content += content->get<std::string>();
  }
  const auto reason = choice.find("finish_reason");
  if (reason != choice.end() && reason->is_string()) {
    message.finished = true;
    message.cut = *reason == "length";
  }
}

/// Server-sent events; nothing if one of them is no JSON.
std::optional<Message> read_stream(std::string_view body) {
  Message message;
  while (!body.empty()) {
    const size_t end = std::min(body.find('\n'), body.size());
    std::string_view line = body.substr(0, end);
    body.remove_prefix(std::min(end + 1, body.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) continue;
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (line == "[DONE]") break;
    const nlohmann::json reply = nlohmann::json::parse(line, nullptr, false);
    if (reply.is_discarded() || reply.contains("error")) return std::nullopt;
    take_choice(reply, "delta", message);
  }
  return message;
}

std::optional<Message> read_message(const std::string& body, bool stream) {
  if (stream && body.find("data:") != std::string::npos) return read_stream(body);
  const nlohmann::json reply = nlohmann::json::parse(body, nullptr, false);
  if (reply.is_discarded()) return std::nullopt;
  Message message;
  take_choice(reply, "message", message);
  return message;
}

bool may_try_again(int64_t status) {
  return status == 408 || status == 429 || status == 499 || (status >= 500 && status <= 599);
}

/// Asks again and again; one conversation.
class Conversation {
 public:
  Conversation(const ChatEndpoint& endpoint, std::string_view system, std::string_view user,
               const ChatOptions& options)
      : endpoint_(endpoint),
        options_(options),
        deadline_(Clock::now() + options.total),
        max_tokens_(options.max_tokens) {
    request_ = {
        {"model", endpoint.model},
        {"messages", {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", user}}}},
        {"stream", options.stream}};
    if (options.json_mode) request_["response_format"] = {{"type", "json_object"}};
  }

  ChatAnswer run() {
    for (int number = 1;; ++number) {
      std::optional<ChatAnswer> answer = try_once();
      if (answer) {
        answer->tries = number;
        return *answer;
      }
      if (number == options_.tries || !again_) fail(number);
      wait(number);
    }
  }

 private:
  [[noreturn]] void fail(int tries) const {
    throw_io_error("explain", "{} gave no answer after {} tr{}: {}", endpoint_.url, tries,
                   tries == 1 ? "y" : "ies", problem_);
  }

  Milliseconds left() const { return std::chrono::duration_cast<Milliseconds>(deadline_ - Clock::now()); }

  /// Nothing, and what went wrong in problem_, if there is no answer.
  std::optional<ChatAnswer> try_once() {
    again_ = false;
    retry_after_.reset();
    request_["max_tokens"] = max_tokens_;
    const Response response = post(
        endpoint_, request_.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace), options_, left());
    if (!is_good(response)) return std::nullopt;
    const std::optional<Message> message = read_message(response.body, options_.stream);
    if (!message) return give_up("the answer is no JSON of a chat", true);
    if (!message->finished) return give_up("the answer was cut off", true);
    std::optional<std::string> answer = answer_of(message->content);
    // A server may say anything, the key too; what it says is shown and recorded.
    if (answer && !message->cut)
      return ChatAnswer{without_key(*answer, endpoint_.key), without_key(message->content, endpoint_.key)};
    const bool first = max_tokens_ == options_.max_tokens;
    max_tokens_ = 2 * options_.max_tokens;
    return give_up(answer ? "the answer was longer than max_tokens" : "the answer was all reasoning", first);
  }

  std::optional<ChatAnswer> give_up(std::string problem, bool again) {
    problem_ = std::move(problem);
    again_ = again;
    return std::nullopt;
  }

  bool is_good(const Response& response) {
    if (response.too_large) {
      give_up(fmt::format("the answer is larger than {} bytes", kMostResponse), false);
    } else if (response.code != CURLE_OK) {
      const bool untrusted =
          response.code == CURLE_PEER_FAILED_VERIFICATION || response.code == CURLE_SSL_CACERT_BADFILE;
      give_up(curl_easy_strerror(response.code), !untrusted && response.code != CURLE_ABORTED_BY_CALLBACK);
    } else if (response.status == 410) {
      give_up(fmt::format("the model {} was retired (410); set QTF_K2_MODEL and QTF_K2_URL", endpoint_.model),
              false);
    } else if (response.status >= 300 && response.status < 400) {
      give_up(fmt::format("it redirects (status {}), which is not followed; set QTF_K2_URL", response.status),
              false);
    } else if (response.status == 401 || response.status == 403) {
      give_up(fmt::format("it refuses the key (status {}); check QTF_K2_API_KEY", response.status), false);
    } else if (response.status != 200) {
      retry_after_ = response.retry_after_s;
      give_up(fmt::format("status {}: {}", response.status, safe_text(response.body, endpoint_.key)),
              may_try_again(response.status));
    } else {
      return true;
    }
    return false;
  }

  void wait(int number) {
    const double jitter = 0.5 + Random{options_.seed, 0x4a17}.uniform(static_cast<uint64_t>(number));
    Milliseconds time{
        static_cast<int64_t>(static_cast<double>(options_.first_wait.count() << (number - 1)) * jitter)};
    if (retry_after_) time = std::max(time, Milliseconds(std::min<int64_t>(*retry_after_, 86'400) * 1000));
    time = std::min(time, options_.longest_wait);
    if (time >= left()) fail(number);
    if (options_.sleep) return options_.sleep(time);
    constexpr Milliseconds kPiece{100};
    for (; time > Milliseconds(0) && !(options_.stop && *options_.stop); time -= kPiece)
      std::this_thread::sleep_for(std::min(time, kPiece));
  }

  const ChatEndpoint& endpoint_;
  const ChatOptions& options_;
  Clock::time_point deadline_;
  int max_tokens_;
  nlohmann::json request_;
  std::string problem_;
  bool again_ = false;
  std::optional<int64_t> retry_after_;
};

void take_variable(const char* name, std::string& value) {
  if (const char* text = std::getenv(name); text && *text) value = text;
}

}  // namespace

void check_endpoint(const ChatEndpoint& endpoint) {
  parse_url(endpoint.url);
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  if (!std::ranges::all_of(endpoint.key, printable))
    throw_input_error("QTF_K2_API_KEY",
                      "the key holds a space, a line end or another character that no key has");
  if (endpoint.model.empty()) throw_input_error("QTF_K2_MODEL", "the model's name is empty");
}

ChatEndpoint endpoint_from_environment() {
  ChatEndpoint endpoint;
  take_variable("QTF_K2_URL", endpoint.url);
  take_variable("QTF_K2_MODEL", endpoint.model);
  take_variable("QTF_K2_API_KEY", endpoint.key);
  check_endpoint(endpoint);
  return endpoint;
}

ChatAnswer ask_chat(const ChatEndpoint& endpoint, std::string_view system, std::string_view user,
                    const ChatOptions& options) {
  check_endpoint(endpoint);
  if (system.size() + user.size() > kMostPrompt)
    throw_input_error("explain", "the prompt has {} bytes, more than {}", system.size() + user.size(),
                      kMostPrompt);
  if (options.max_tokens < 2048)
    throw_input_error("explain", "max_tokens must be at least 2048, got {}", options.max_tokens);
  return Conversation(endpoint, system, user, options).run();
}

}  // namespace qtf::explain
