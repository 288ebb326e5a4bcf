// A client of OpenAI-style /chat/completions, made for slow reasoning models that may fail in every way. The
// k2 explainer uses it. The key goes into one header of the request and nowhere else.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace qtf::explain {

struct ChatEndpoint {
  std::string url = "https://api.k2think.ai/v1";  ///< to which /chat/completions is added
  std::string model = "MBZUAI-IFM/K2-Think-v2";
  std::string key;  ///< empty: none is sent
};

/// QTF_K2_URL, QTF_K2_MODEL and QTF_K2_API_KEY where they are set. Throws InputError, without the key, for a
/// URL that is neither https nor http to this machine (127.…, [::1], localhost), one with a user in it, or a
/// key of characters that no header may have.
ChatEndpoint endpoint_from_environment();
void check_endpoint(const ChatEndpoint& endpoint);

struct ChatOptions {
  int max_tokens = 4096;  ///< at least 2048
  bool stream = true;
  bool json_mode = true;  ///< response_format {"type": "json_object"}
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::milliseconds timeout{240'000};    ///< of one try, at least 240 s in use
  std::chrono::milliseconds total{15 * 60'000};  ///< of all tries and waits
  int tries = 4;
  std::chrono::milliseconds first_wait{1'000};           ///< doubled for each further try, with jitter
  std::chrono::milliseconds longest_wait{120'000};       ///< also of a Retry-After
  uint64_t seed = 1;                                     ///< of the jitter
  std::function<void(std::chrono::milliseconds)> sleep;  ///< null: sleeps
  const std::atomic<bool>* stop = nullptr;               ///< once it is true, asking fails soon
};

/// Longest prompt (system and user text), in bytes, and longest answer of a server.
inline constexpr size_t kMostPrompt = 8192, kMostResponse = size_t{4} << 20;

struct ChatAnswer {
  std::string text;  ///< without reasoning (reasoning.h)
  std::string raw;   ///< the message's content
  int tries = 0;
};

/// Asks until there is an answer. Tries again after 408, 429, 499, 5xx, 529, failed connections and timeouts;
/// once with twice max_tokens after an answer that is all reasoning. Follows no redirect. Throws IoError
/// naming what happened last, never the key; InputError for an endpoint or a prompt that cannot be.
ChatAnswer ask_chat(const ChatEndpoint& endpoint, std::string_view system, std::string_view user,
                    const ChatOptions& options = {});

}  // namespace qtf::explain
