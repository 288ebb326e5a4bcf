#include "qtf/model/gguf_tokenizer.h"

#include <algorithm>
#include <set>

#include "qtf/base/error.h"

namespace qtf::model {

using text::Piece;
using text::Pieces;
using text::PieceType;

namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581

/// How GGUF calls a kind, and what holds where the file says nothing (llama.cpp's defaults).
struct Kind {
  Pieces::Kind kind;
  std::string_view name;
  int32_t bos, eos, unknown;
  bool add_bos;
};

constexpr Kind kKinds[] = {
    {Pieces::Kind::bpe, "llama", 1, 2, 0, true},
    {Pieces::Kind::unigram, "t5", -1, 1, 2, false},
    {Pieces::Kind::byte_level, "gpt2", -1, -1, -1, false},
};

/// Names that a word rule goes by besides its own. Before there was a name, files were of GPT-2's.
constexpr std::pair<std::string_view, std::string_view> kRuleNames[] = {
    {"", "gpt-2"}, {"default", "gpt-2"}, {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"}};

std::string key(std::string_view name) {
  return fmt::format("tokenizer.ggml.{}", name);
}

const Kind& find_kind(const io::GgufFile& file) {
  const std::string_view model = file.text(key("model")).value_or("");
  if (model.empty() || model == "none" || model == "no_vocab")
    throw_input_error("tokenizer", "{} holds no tokenizer", file.place());
  for (const Kind& kind : kKinds) {
    if (kind.name == model) return kind;
  }
  throw_input_error("tokenizer",
                    "{}: a tokenizer of the kind \"{}\" is not supported; llama, t5 and gpt2 are",
                    file.place(), model);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (size_t at; (at = text.find(from)) != text.npos; text.remove_prefix(at + from.size()))
    result.append(text.substr(0, at)).append(to);
  return result.append(text);
}

std::vector<Piece> read_pieces(const io::GgufFile& file) {
  const io::GgufArray* tokens = file.array(key("tokens"));
  if (!tokens) throw_io_error("tokenizer", "{} has no {}", file.place(), key("tokens"));
  std::vector<Piece> pieces;
  for (const std::string_view text : texts(*tokens, key("tokens"))) pieces.push_back({std::string(text)});
  const auto check_length = [&](const std::string& name, size_t length) {
    if (length == pieces.size()) return;
    throw_io_error("tokenizer", "{}: {} tokens, but {} has {}", file.place(), pieces.size(), name, length);
  };
  if (const io::GgufArray* scores = file.array(key("scores"))) {
    const auto values = io::numbers<float>(*scores, key("scores"));
    check_length(key("scores"), values.size());
    for (size_t i = 0; i < values.size(); ++i) pieces[i].score = values[i];
  }
  if (const io::GgufArray* types = file.array(key("token_type"))) {
    const auto values = io::numbers<int32_t>(*types, key("token_type"));
    check_length(key("token_type"), values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] < 1 || values[i] > 6)
        throw_io_error("tokenizer", "{}: token {} has the unknown type {}", file.place(), i, values[i]);
      pieces[i].type = static_cast<PieceType>(values[i]);
    }
  }
  return pieces;
}

/// Undoes what write_pieces does for llama.cpp: blanks of user-defined pieces, and bytes written as such.
void restore_sentencepiece(std::vector<Piece>& pieces) {
  std::set<std::string> bytes;
  for (const Piece& piece : pieces) {
    if (piece.type == PieceType::byte) bytes.insert(piece.text);
  }
  for (Piece& piece : pieces) {
    if (piece.type != PieceType::user_defined) continue;
    const std::string byte = text::byte_piece(static_cast<uint8_t>(piece.text.empty() ? 0 : piece.text[0]));
    if (piece.text.size() == 1 && !bytes.empty() && !bytes.contains(byte)) {
      piece = {byte, 0, PieceType::byte};
    } else {
      piece.text = replaced(piece.text, " ", kBlank);
    }
  }
}

/// A token id under `name`, or `otherwise` if the file says nothing and the vocabulary is large enough.
int32_t token_id(const io::GgufFile& file, std::string_view name, int32_t otherwise, size_t count) {
  const auto id = file.integer(key(name), 0, static_cast<int64_t>(count) - 1);
  if (id) return static_cast<int32_t>(*id);
  return otherwise < static_cast<int64_t>(count) ? otherwise : -1;
}

std::string word_rule(const io::GgufFile& file) {
  const std::string_view name = file.text(key("pre")).value_or("");
  for (const auto& [alias, rule] : kRuleNames) {
    if (alias == name) return std::string(rule);
  }
  return std::string(name);
}

}  // namespace

GgufTokenizer read_gguf_tokenizer(const io::GgufFile& file) {
  const Kind& kind = find_kind(file);
  GgufTokenizer result;
  Pieces& pieces = result.pieces;
  pieces.kind = kind.kind;
  pieces.pieces = read_pieces(file);
  const size_t count = pieces.pieces.size();
  pieces.bos = token_id(file, "bos_token_id", kind.bos, count);
  pieces.eos = token_id(file, "eos_token_id", kind.eos, count);
  pieces.unknown = token_id(file, "unknown_token_id", kind.unknown, count);
  if (kind.kind == Pieces::Kind::byte_level) {
    const io::GgufArray* merges = file.array(key("merges"));
    if (!merges) throw_io_error("tokenizer", "{} has no {}", file.place(), key("merges"));
    for (const std::string_view merge : texts(*merges, key("merges"))) pieces.merges.emplace_back(merge);
    pieces.rule = word_rule(file);
    pieces.ignore_merges = pieces.rule == "llama-bpe";
  } else {
    restore_sentencepiece(pieces.pieces);
    pieces.add_dummy_prefix = file.boolean(key("add_space_prefix")).value_or(true);
    pieces.remove_extra_whitespaces = file.boolean(key("remove_extra_whitespaces")).value_or(false);
    if (const io::GgufArray* map = file.array(key("precompiled_charsmap")))
      pieces.character_map.assign(reinterpret_cast<const char*>(map->bytes.data()), map->bytes.size());
  }
  const bool add_bos =
      file.boolean(key("add_bos_token")).value_or(kind.add_bos || pieces.rule == "llama-bpe");
  result.bos = add_bos ? pieces.bos : -1;
  result.eos = pieces.eos;
  return result;
}

namespace {

/// llama.cpp has no bytes to fall back to in unigram tokenizers. An ASCII byte that is in no other piece,
/// such as a line end, is written as a piece of its own, which encodes it to the same id.
void write_bytes_as_pieces(std::vector<Piece>& pieces) {
  for (Piece& byte : pieces) {
    if (byte.type != PieceType::byte) continue;
    for (char c = 1; c > 0 && byte.type == PieceType::byte; c = static_cast<char>(c + 1)) {
      if (c == ' ' || byte.text != text::byte_piece(static_cast<uint8_t>(c))) continue;
      const bool elsewhere = std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
        const bool written = piece.type == PieceType::normal || piece.type == PieceType::user_defined;
        return written && piece.text.find(c) != piece.text.npos;
      });
      if (!elsewhere) byte = {std::string(1, c), 0, PieceType::user_defined};
    }
  }
}

void write_pieces(std::vector<Piece> pieces, Pieces::Kind kind, io::GgufWriter& writer) {
  if (kind == Pieces::Kind::unigram) write_bytes_as_pieces(pieces);
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (Piece& piece : pieces) {
    // llama.cpp finds user-defined pieces in the text as it was given, blanks and all.
    if (piece.type == PieceType::user_defined && kind != Pieces::Kind::byte_level)
      piece.text = replaced(piece.text, kBlank, " ");
    tokens.push_back(std::move(piece.text));
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));
  }
  writer.set(key("tokens"), tokens);
  if (kind != Pieces::Kind::byte_level) writer.set(key("scores"), scores);
  writer.set(key("token_type"), types);
}

std::vector<std::string> differences(const Pieces& pieces) {
  std::vector<std::string> notes;
  if (pieces.kind == Pieces::Kind::unigram) {
    notes.push_back(
        "llama.cpp reads characters of prompts that this unigram tokenizer spells in bytes as unknown");
  }
  if (pieces.kind == Pieces::Kind::bpe && pieces.remove_extra_whitespaces)
    notes.push_back("llama.cpp keeps repeated blanks of prompts, which this tokenizer drops");
  if (pieces.kind == Pieces::Kind::bpe && !pieces.character_map.empty())
    notes.push_back("llama.cpp does not replace characters of prompts as this tokenizer does");
  return notes;
}

}  // namespace

std::vector<std::string> write_gguf_tokenizer(const Pieces& pieces, const ModelConfig& config,
                                              io::GgufWriter& writer) {
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const Kind& row) { return row.kind == pieces.kind; });
  writer.set(key("model"), kind->name);
  const bool byte_level = pieces.kind == Pieces::Kind::byte_level;
  writer.set(key("pre"), byte_level ? std::string_view(pieces.rule) : "default");
  write_pieces(pieces.pieces, pieces.kind, writer);
  if (byte_level) {
    writer.set(key("merges"), pieces.merges);
  } else {
    writer.set(key("add_space_prefix"), pieces.add_dummy_prefix);
    writer.set(key("remove_extra_whitespaces"), pieces.remove_extra_whitespaces);
    if (!pieces.character_map.empty())
      writer.set(key("precompiled_charsmap"), std::as_bytes(std::span(pieces.character_map)));
  }
  const auto set_id = [&](const char* name, int32_t id) {
    if (id >= 0) writer.set(key(name), static_cast<uint32_t>(id));
  };
  set_id("bos_token_id", config.bos_token >= 0 ? config.bos_token : pieces.bos);
  set_id("eos_token_id", config.eos_token >= 0 ? config.eos_token : pieces.eos);
  set_id("unknown_token_id", pieces.unknown);
  writer.set(key("add_bos_token"), config.bos_token >= 0);
  writer.set(key("add_eos_token"), false);
  return differences(pieces);
}

}  // namespace qtf::model
