// SentencePiece tokenizers: trained from the corpus (sentencepiece_trainer.cc) or imported. A model of ours
// neither normalises nor trims, so that it gives back any UTF-8 byte for byte; an imported one does so modulo
// its normaliser.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

enum class SentencePieceModel { kUnigram, kBpe };

/// How to train a tokenizer.
struct SentencePieceOptions {
  int32_t vocabulary_size = 4096;
  SentencePieceModel model = SentencePieceModel::kUnigram;
  int64_t max_bytes = 10'000'000;  ///< text looked at: blocks spread evenly over a larger corpus
  uint64_t seed = 0;               ///< chooses among such spreads
  int threads = 4;                 ///< the pieces depend on it in rare ties, so it is no number of cores
};

/// Trains a model and returns its file's bytes (tokenizer.model). Vocabulary: "<|unk|>", "<s>", "</s>", 256
/// byte pieces, "<unk>" and " <unk>" where the text has them, then the learned pieces.
/// Throws InputError if the vocabulary is too small for the byte pieces or larger than the text can fill (the
/// largest that works is named), or if the text is empty or not valid UTF-8.
std::string train_sentencepiece(std::span<const std::string_view> texts, const SentencePieceOptions& options);

/// Opens a model from its file's bytes. Throws InputError naming `name` if it is none.
std::shared_ptr<const Tokenizer> open_sentencepiece(std::string model, std::string_view name);

}  // namespace qtf::text
