#include "qtf/model/continuation.h"

#include <algorithm>
#include <utility>

#include "qtf/base/error.h"

namespace qtf::model {

void check_prompt(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                  std::span<const int32_t> prompt, std::string_view place) {
  if (tokenizer.vocabulary_size() > model.config().vocabulary) {
    throw_input_error(place, "the tokenizer has {} tokens, the model {}: it is not this model's tokenizer",
                      tokenizer.vocabulary_size(), model.config().vocabulary);
  }
  if (prompt.empty()) {
    throw_input_error(place, "the prompt is empty, and this model has no start token; give it some text");
  }
  if (static_cast<int64_t>(prompt.size()) > model.config().context) {
    throw_input_error(place, "the prompt has {} tokens, the model's context is {}; shorten it", prompt.size(),
                      model.config().context);
  }
}

std::vector<int32_t> encode_prompt(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                                   std::string_view prompt, std::string_view place) {
  std::vector<int32_t> tokens;
  if (model.config().bos_token >= 0) tokens.push_back(model.config().bos_token);
  tokenizer.encode(prompt, tokens);
  check_prompt(model, tokenizer, tokens, place);
  return tokens;
}

Continuation::Continuation(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                           std::vector<int32_t> prompt, ContinuationOptions options,
                           std::optional<nn::KvCache<float>> cache)
    : model_(model),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      history_(std::move(prompt)),
      prompt_tokens_(static_cast<int64_t>(history_.size())),
      cache_(cache ? std::move(*cache) : model.make_cache(model.config().context)),
      stream_(options_.stop) {
  cache_.truncate(prompt_tokens_ - 1);  // the last token's logits are needed
  finished_ = options_.tokens == 0;
}

std::string Continuation::text_of(int32_t token) const {
  // At a text's beginning an imported tokenizer leaves out the space that it put before the first word.
  const bool at_start = prompt_tokens_ == (model_.config().bos_token >= 0 ? 1 : 0) && drawn().size() == 1;
  return at_start ? tokenizer_.decode(drawn()) : tokenizer_.token_bytes(token);
}

void Continuation::forget() {
  if (options_.before_forgetting) options_.before_forgetting(cache_);
  cache_.truncate(0);
  begin_ = history_.size() - static_cast<size_t>(std::max<int64_t>(1, model_.config().context / 2));
}

TokenTrace Continuation::trace(Matrix<float> entropy, int64_t row) const {
  TokenTrace trace{.position = cache_.length() - 1, .entropies = {}, .levels = {}};
  for (int64_t layer = 0; layer < entropy.rows; ++layer) {
    trace.entropies.push_back(entropy.row(layer)[row]);
    trace.levels.push_back(cache_.level(layer, trace.position));
  }
  if (model_.quantum())
    trace.routed = cache_.routed_before(trace.position + 1) > cache_.routed_before(trace.position);
  return trace;
}

Continuation::Drawn Continuation::draw(std::span<const float> logits) {
  // A vocabulary may be padded beyond the tokenizer's ids; those have no text and are never drawn.
  const auto known = static_cast<size_t>(tokenizer_.vocabulary_size());
  const int32_t token = sample(logits.first(known), history_, options_.sampling);
  if (token == model_.config().eos_token) {
    finished_ = stopped_ = true;
    return {};
  }
  history_.push_back(token);
  Drawn drawn_now{token, stream_.push(text_of(token))};
  stopped_ = stream_.stopped();
  finished_ = stopped_ || static_cast<int64_t>(drawn().size()) == options_.tokens;
  if (!finished_ && cache_.length() == cache_.capacity()) forget();
  return drawn_now;
}

}  // namespace qtf::model
