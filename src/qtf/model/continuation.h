// A text while it is continued: which tokens the model reads next, and what its logits make of the text.
// generate() runs one, a server many at a time.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qtf/model/generate.h"
#include "qtf/model/sampler.h"
#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

struct ContinuationOptions {
  int64_t tokens = 128;  ///< most tokens to draw
  SamplingOptions sampling;
  std::vector<std::string> stop;  ///< it ends before the first of these texts
  /// Gets the cache before its tokens are forgotten; may be empty.
  std::function<void(const nn::KvCache<float>&)> before_forgetting = {};
};

/// What the pass decided that read a token.
struct TokenTrace {
  int64_t position = 0;          ///< in the cache's sequence
  std::vector<float> entropies;  ///< of attention, a layer each, in [0, 1]
  std::vector<uint8_t> levels;   ///< nested levels, a layer each; 0: none was chosen
  bool routed = false;           ///< through the quantum layer
};

/// The same tokens as generate() draws, whoever else is in the batch: a function of model, prompt, options
/// and seed.
class Continuation {
 public:
  /// What one draw added.
  struct Drawn {
    int32_t token = -1;  ///< -1: the end-of-text token, which is not part of the text
    std::string text;    ///< what can be shown now: whole UTF-8 characters, no beginning of a stop text
  };

  /// prompt: at least one token, at most the model's context. A `cache` that holds a prefix of the prompt
  /// saves reading it again. model and tokenizer must outlive it.
  Continuation(const Transformer<float>& model, const text::Tokenizer& tokenizer, std::vector<int32_t> prompt,
               ContinuationOptions options, std::optional<nn::KvCache<float>> cache = {});

  /// The tokens that the cache lacks, to be read into it by a forward pass, in pieces if so wished.
  std::span<const int32_t> unread() const {
    return std::span(history_).subspan(begin_ + static_cast<size_t>(cache_.length()));
  }
  nn::KvCache<float>& cache() { return cache_; }
  const nn::KvCache<float>& cache() const { return cache_; }

  /// Draws the next token from the logits[V] of the last unread token, all being read now. Where the context
  /// is full, the cache forgets all, and unread() is the last half of the text.
  Drawn draw(std::span<const float> logits);

  /// Of the last token read, before draw() may make the cache forget it. entropy[layers, rows]: the pass'
  /// attention entropies; row: the token's.
  TokenTrace trace(Matrix<float> entropy, int64_t row) const;

  /// What was held back, once it is finished.
  std::string finish() { return stream_.finish(); }

  bool finished() const { return finished_; }
  bool stopped() const { return stopped_; }  ///< by a stop text or the end-of-text token
  /// Whether the cache begins with the text's first token: nothing was forgotten.
  bool whole() const { return begin_ == 0; }
  int64_t prompt_tokens() const { return prompt_tokens_; }
  std::span<const int32_t> history() const { return history_; }  ///< prompt and drawn tokens
  std::span<const int32_t> drawn() const {
    return std::span(history_).subspan(static_cast<size_t>(prompt_tokens_));
  }

 private:
  std::string text_of(int32_t token) const;
  void forget();

  const Transformer<float>& model_;
  const text::Tokenizer& tokenizer_;
  ContinuationOptions options_;
  std::vector<int32_t> history_;
  int64_t prompt_tokens_;
  size_t begin_ = 0;  // of history_, where the cache begins
  nn::KvCache<float> cache_;
  TextStream stream_;
  bool finished_ = false, stopped_ = false;
};

/// The prompt's ids behind the model's start token, if it has one. Throws as check_prompt.
std::vector<int32_t> encode_prompt(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                                   std::string_view prompt, std::string_view place);

/// Throws InputError, naming `place`, if the tokenizer has more tokens than the model, and for a prompt that
/// is empty or longer than the context.
void check_prompt(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                  std::span<const int32_t> prompt, std::string_view place);

}  // namespace qtf::model
