#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

namespace {

constexpr size_t kBlockBytes = size_t{1} << 16;     // of a corpus that is sampled
constexpr size_t kSentenceBytes = size_t{1} << 12;  // longer lines are cut, as the library skips them
constexpr int32_t kFixedPieces = 3 + 256;           // unknown, begin, end; the bytes

// The trainer need not cover characters beyond this share, its own default.
constexpr double kCoverage = 0.9995;

// A bit a code point: the characters that get pieces of their own. All others fall back to bytes.
using CharacterSet = std::vector<bool>;

size_t round_down_to_character(std::string_view text, size_t at) {
  while (at > 0 && at < text.size() && is_continuation(text[at])) --at;
  return std::min(at, text.size());
}

/// At most about max_bytes of the texts: all of them, or blocks spread evenly.
std::vector<std::string_view> sample(std::span<const std::string_view> texts, int64_t max_bytes,
                                     uint64_t seed) {
  size_t total = 0;
  for (const auto text : texts) total += text.size();
  if (total <= static_cast<size_t>(max_bytes)) return {texts.begin(), texts.end()};
  const double stride = static_cast<double>(total) / static_cast<double>(max_bytes) * kBlockBytes;
  double next = Random{.seed = seed}.uniform(0) * (stride - kBlockBytes);
  std::vector<std::string_view> blocks;
  double start = 0;  // of this text among all
  for (const auto text : texts) {
    for (; next < start + static_cast<double>(text.size()); next += stride) {
      const size_t begin = round_down_to_character(text, static_cast<size_t>(std::max(0.0, next - start)));
      const size_t end = round_down_to_character(text, begin + kBlockBytes);
      blocks.push_back(text.substr(begin, end - begin));
    }
    start += static_cast<double>(text.size());
  }
  return blocks;
}

/// The most frequent characters, up to kCoverage of the text and to half of the learned vocabulary. The
/// trainer uses NUL, tab, U+2581 and U+2585 itself, and lines are parted by line ends: not these.
CharacterSet frequent_characters(const std::vector<std::string_view>& texts, int32_t learned_pieces) {
  std::vector<int64_t> counts(0x110000);
  for (const auto text : texts) {
    for (size_t i = 0; i < text.size();) ++counts[read_code_point(text, i)];
  }
  for (const char32_t c : {U'\0', U'\t', U'\n', U'\u2581', U'\u2585'}) counts[c] = 0;
  std::vector<char32_t> sorted;
  int64_t total = 0;
  for (char32_t c = 0; c < counts.size(); ++c) {
    if (counts[c] > 0) sorted.push_back(c);
    total += counts[c];
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](char32_t a, char32_t b) { return counts[a] > counts[b]; });
  const size_t most = std::max<size_t>(1, static_cast<size_t>(learned_pieces) / 2);
  CharacterSet kept(counts.size());
  double covered = 0;
  for (size_t i = 0; i < std::min(most, sorted.size()) && covered < kCoverage * static_cast<double>(total);
       ++i) {
    kept[sorted[i]] = true;
    covered += static_cast<double>(counts[sorted[i]]);
  }
  return kept;
}

/// Hands the trainer its sentences: lines, cut at characters that are not kept and at blanks where too long.
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  Sentences(std::vector<std::string_view> texts, CharacterSet kept)
      : texts_(std::move(texts)), kept_(std::move(kept)) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    value_.clear();
    while (value_.empty()) {
      while (index_ < texts_.size() && texts_[index_].empty()) ++index_;
      if (index_ == texts_.size()) {
        done_ = true;
        return;
      }
      value_ = take(texts_[index_]);
    }
  }

 private:
  /// Takes a sentence from the front of `text`, and what ends it; empty if that was all there was.
  std::string_view take(std::string_view& text) const {
    size_t end = 0;
    size_t blank = 0;
    while (end < text.size() && end < kSentenceBytes) {
      size_t next = end;
      const char32_t c = read_code_point(text, next);
      if (!kept_[c]) return cut(text, end, next);
      if (c == ' ') blank = end;
      end = next;
    }
    if (end < text.size() && blank > 0) end = blank;
    return cut(text, end, end);
  }

  static std::string_view cut(std::string_view& text, size_t end, size_t next) {
    const std::string_view sentence = text.substr(0, end);
    text.remove_prefix(next);
    return sentence;
  }

  std::vector<std::string_view> texts_;
  CharacterSet kept_;
  size_t index_ = 0;
  std::string value_;
  bool done_ = false;
};

/// The words that get a piece of their own whatever their frequency.
std::string user_symbols(const std::vector<std::string_view>& texts) {
  const bool unknown_words = std::any_of(texts.begin(), texts.end(), [](std::string_view text) {
    return text.find("<unk>") != std::string_view::npos;
  });
  return unknown_words ? "<unk>,\xE2\x96\x81<unk>" : "";
}

void check(const std::vector<std::string_view>& texts, const SentencePieceOptions& options) {
  if (options.max_bytes <= 0) {
    throw_input_error("train_sentencepiece", "max_bytes must be positive, got {}", options.max_bytes);
  }
  if (options.threads < 1) {
    throw_input_error("train_sentencepiece", "threads must be positive, got {}", options.threads);
  }
  if (options.vocabulary_size <= kFixedPieces) {
    throw_input_error("train_sentencepiece",
                      "the vocabulary must be larger than {} (bytes and marks), got {}", kFixedPieces,
                      options.vocabulary_size);
  }
  for (const auto text : texts) require_utf8(text, "train_sentencepiece");
}

/// Turns the library's refusal into ours. It names the largest vocabulary at the end of its message.
[[noreturn]] void refuse(const SentencePieceOptions& options, const std::string& message) {
  constexpr std::string_view kLargest = "to a value <= ";
  const size_t at = message.find(kLargest);
  if (at == std::string::npos) throw_input_error("train_sentencepiece", "SentencePiece failed: {}", message);
  throw_input_error("train_sentencepiece",
                    "the text is too short for a vocabulary of {}; the largest that works is {}",
                    options.vocabulary_size, std::atoi(message.c_str() + at + kLargest.size()));
}

}  // namespace

std::string train_sentencepiece(std::span<const std::string_view> texts,
                                const SentencePieceOptions& options) {
  const auto sampled = sample(texts, std::max<int64_t>(1, options.max_bytes), options.seed);
  check(sampled, options);
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", options.model == SentencePieceModel::kBpe ? "bpe" : "unigram"},
      {"vocab_size", std::to_string(options.vocabulary_size)},
      {"num_threads", std::to_string(options.threads)},
      {"character_coverage", "1.0"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"byte_fallback", "true"},
      {"unk_piece", "<|unk|>"},
      {"user_defined_symbols", user_symbols(sampled)},
      {"max_sentence_length", std::to_string(2 * kSentenceBytes)},
      {"minloglevel", "3"},
  };
  Sentences sentences(sampled, frequent_characters(sampled, options.vocabulary_size - kFixedPieces));
  if (sentences.done()) throw_input_error("train_sentencepiece", "there is no text to learn from");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &sentences, &model);
  if (!status.ok()) refuse(options, status.message());
  return model;
}

}  // namespace qtf::text
