#include "qtf/text/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/pieces.h"
#include "qtf/text/utf8.h"
#include "qtf/text/word_pattern.h"

namespace qtf::text {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// The depth of real files is below 10; the parser recurses, and comparing does.
constexpr int kMaxDepth = 32;

// How special tokens are called that begin and end a text.
constexpr std::string_view kBosNames[] = {"<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>"};
constexpr std::string_view kEosNames[] = {"</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<eos>"};

/// Access whose errors name the file.
class File {
 public:
  File(std::string_view text, std::string_view name) : name_(name) {
    const auto shallow = [](int depth, json::parse_event_t, json&) {
      if (depth > kMaxDepth) throw std::length_error("too deep");
      return true;
    };
    try {
      json_ = json::parse(text, shallow, /*allow_exceptions=*/false);
    } catch (const std::length_error&) {
      fail("is nested deeper than any tokenizer is");
    }
    if (!json_.is_object()) fail("is not a JSON object, or is damaged");
  }

  const json& root() const { return json_; }

  /// The member, or null if there is none.
  const json& member(const json& object, const char* key) const {
    static const json kNull;
    if (!object.is_object()) return kNull;
    const auto found = object.find(key);
    return found == object.end() ? kNull : *found;
  }

  std::string text(const json& object, const char* key) const {
    const json& value = member(object, key);
    return value.is_string() ? value.get<std::string>() : std::string();
  }

  bool flag(const json& object, const char* key) const {
    const json& value = member(object, key);
    return value.is_boolean() && value.get<bool>();
  }

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw_input_error("tokenizer", "{} {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  const std::string& name() const { return name_; }

 private:
  json json_;
  std::string name_;
};

/// A value as errors show it.
std::string shown(const json& value) {
  constexpr size_t kMost = 120;
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

struct Token {
  std::string text;
  bool special = false;
  bool added = false;
};

/// The tokens of model.vocab and added_tokens together: ids 0 to n - 1, each once.
std::vector<Token> read_tokens(const File& file) {
  const json& vocabulary = file.member(file.member(file.root(), "model"), "vocab");
  const json& added = file.member(file.root(), "added_tokens");
  if (!vocabulary.is_object() || vocabulary.empty()) file.fail("has no model.vocab");
  const size_t most = vocabulary.size() + (added.is_array() ? added.size() : 0);
  std::map<size_t, Token> tokens;
  const auto checked_id = [&](const json& id) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= most)
      file.fail("has the id {}, but at most {} tokens", shown(id), most);
    return id.get<size_t>();
  };
  for (const auto& [text, id] : vocabulary.items()) {
    if (!tokens.emplace(checked_id(id), Token{text, false, false}).second)
      file.fail("gives the id {} to more than one token", shown(id));
  }
  for (const json& entry : added.is_array() ? added : json::array()) {
    const size_t id = checked_id(file.member(entry, "id"));
    Token& token = tokens[id];
    const std::string text = file.text(entry, "content");
    if (text.empty() || (!token.text.empty() && token.text != text))
      file.fail("gives the id {} to more than one token", id);
    token = {text, file.flag(entry, "special"), true};
  }
  if (tokens.rbegin()->first + 1 != tokens.size())
    file.fail("leaves ids out: {} tokens, the last is {}", tokens.size(), tokens.rbegin()->first);
  std::vector<Token> list;
  std::set<std::string> texts;
  for (auto& [id, token] : tokens) {
    if (!texts.insert(token.text).second) file.fail("has two tokens {}", shown(token.text));
    list.push_back(std::move(token));
  }
  return list;
}

/// The merges, written "left right" or ["left", "right"].
std::vector<ByteLevelParts::Merge> read_merges(const File& file) {
  const json& merges = file.member(file.member(file.root(), "model"), "merges");
  if (!merges.is_array()) file.fail("has no model.merges");
  std::vector<ByteLevelParts::Merge> result;
  for (const json& merge : merges) {
    const auto number = static_cast<int64_t>(result.size()) + 1;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      result.push_back({merge[0].get<std::string>(), merge[1].get<std::string>(), number});
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
    const size_t blank = text.find(' ');
    if (blank == text.npos || text.find(' ', blank + 1) != text.npos)
      file.fail("merge {}: expected two tokens, got {}", number, shown(merge));
    result.push_back({text.substr(0, blank), text.substr(blank + 1), number});
  }
  return result;
}

std::optional<int32_t> find_special(const std::vector<Token>& tokens,
                                    std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (tokens[id].special && tokens[id].text == name) return static_cast<int32_t>(id);
    }
  }
  return std::nullopt;
}

/// A part of the file without what is there by default, so that equal meanings compare equal.
json without_defaults(json part) {
  if (!part.is_object()) return part;
  part.erase("trim_offsets");  // of offsets into the text, which nobody asks for
  const auto drop = [&](const char* key, const json& value) {
    if (part.contains(key) && part.at(key) == value) part.erase(key);
  };
  drop("add_prefix_space", false);
  drop("use_regex", true);
  drop("invert", false);
  for (const char* list : {"pretokenizers", "normalizers"}) {
    if (!part.contains(list) || !part.at(list).is_array()) continue;
    for (json& inner : part.at(list)) inner = without_defaults(std::move(inner));
    if (part.at(list).size() == 1) return json(part.at(list).front());
  }
  return part;
}

const WordRule* find_rule(const json& pre_tokenizer) {
  for (const WordRule& rule : word_rules()) {
    if (without_defaults(json::parse(rule.pre_tokenizer)) == pre_tokenizer) return &rule;
  }
  return nullptr;
}

std::shared_ptr<const Tokenizer> open_byte_level(const File& file, const WordRule& rule,
                                                 std::string_view text) {
  const json& normalizer = file.member(file.root(), "normalizer");
  if (!normalizer.is_null())
    file.fail("has the normalizer {}; byte-level tokenizers without one are supported", shown(normalizer));
  const std::vector<Token> tokens = read_tokens(file);
  ByteLevelParts parts;
  for (const Token& token : tokens) {
    if (token.added && !token.special)
      file.fail("adds the token {}, which is not special; only special ones are supported",
                shown(token.text));
    parts.entries.push_back(token.text);
    parts.special.push_back(token.special);
  }
  parts.merges = read_merges(file);
  parts.rule = rule.name;
  parts.ignore_merges = file.flag(file.member(file.root(), "model"), "ignore_merges");
  parts.bos = find_special(tokens, kBosNames), parts.eos = find_special(tokens, kEosNames);
  parts.files = {{"tokenizer.json", std::string(text)}};
  parts.vocabulary_name = file.name();
  parts.merges_name = file.name() + ", merge";
  return make_byte_level_bpe(std::move(parts));
}

/// How a rewritten SentencePiece model marks blanks: whether it puts one before the text. Null: in another
/// way.
std::optional<bool> dummy_prefix(const File& file) {
  const json normalizer = without_defaults(file.member(file.root(), "normalizer"));
  const json pre_tokenizer = without_defaults(file.member(file.root(), "pre_tokenizer"));
  const json prepend = {{"type", "Prepend"}, {"prepend", kBlankMark}};
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlankMark}};
  if (pre_tokenizer.is_null()) {
    if (normalizer == replace) return false;
    if (normalizer == json{{"type", "Sequence"}, {"normalizers", {prepend, replace}}}) return true;
    return std::nullopt;
  }
  if (!normalizer.is_null() || file.text(pre_tokenizer, "type") != "Metaspace") return std::nullopt;
  if (file.text(pre_tokenizer, "replacement") != kBlankMark || file.flag(pre_tokenizer, "split"))
    return std::nullopt;
  const std::string scheme = file.text(pre_tokenizer, "prepend_scheme");
  if (scheme.empty()) return file.flag(pre_tokenizer, "add_prefix_space");
  return scheme != "never";
}

std::optional<uint8_t> byte_of(const std::string& piece) {
  if (piece.size() != 6) return std::nullopt;
  for (int b = 0; b < 256; ++b) {
    if (piece == byte_piece(static_cast<uint8_t>(b))) return static_cast<uint8_t>(b);
  }
  return std::nullopt;
}

/// Scores by which SentencePiece merges as the list of merges does. It joins any two neighbours whose text is
/// a piece, so each way to cut a piece in two must be in the list, all together.
void set_scores(const File& file, std::vector<Piece>& pieces) {
  std::map<std::string_view, Piece*> by_text;
  for (Piece& piece : pieces) {
    if (piece.type == PieceType::normal) by_text.emplace(piece.text, &piece);
  }
  std::map<std::string, size_t> listed;  // a piece's merges
  const auto merges = read_merges(file);
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string joined = merges[i].left + merges[i].right;
    const auto found = by_text.find(joined);
    if (found == by_text.end() || !by_text.contains(merges[i].left) || !by_text.contains(merges[i].right))
      file.fail("merge {}: a token that the vocabulary lacks", merges[i].line);
    if (++listed[joined] == 1) found->second->score = -static_cast<float>(i + 1);
  }
  for (const auto& [text, piece] : by_text) {
    size_t cuts = 0;
    for (size_t at = 1; at < text.size(); ++at) {
      if (!is_continuation(text[at]) && by_text.contains(text.substr(0, at)) &&
          by_text.contains(text.substr(at)))
        ++cuts;
    }
    if (cuts != listed[std::string(text)])
      file.fail("merges {} in other ways than a SentencePiece model does, which is not supported",
                shown(text));
  }
}

std::shared_ptr<const Tokenizer> open_rewritten_sentencepiece(const File& file, bool add_dummy_prefix) {
  const std::vector<Token> tokens = read_tokens(file);
  const std::string unknown = file.text(file.member(file.root(), "model"), "unk_token");
  Pieces pieces;
  pieces.kind = Pieces::Kind::bpe;
  pieces.add_dummy_prefix = add_dummy_prefix;
  for (const Token& token : tokens) {
    Piece piece{token.text, 0, PieceType::normal};
    if (token.text == unknown) {
      piece.type = PieceType::unknown;
      pieces.unknown = static_cast<int32_t>(pieces.pieces.size());
    } else if (byte_of(token.text)) {
      piece.type = PieceType::byte;
    } else if (token.added) {
      piece.type = token.special ? PieceType::control : PieceType::user_defined;
    }
    pieces.pieces.push_back(std::move(piece));
  }
  if (pieces.unknown < 0) file.fail("has no model.unk_token in its vocabulary");
  pieces.bos = find_special(tokens, kBosNames).value_or(-1);
  pieces.eos = find_special(tokens, kEosNames).value_or(-1);
  set_scores(file, pieces.pieces);
  return make_tokenizer(pieces, file.name());
}

void require_plain_bpe(const File& file) {
  const json& model = file.member(file.root(), "model");
  // Files of the first years do not name the type.
  const std::string type = file.text(model, "type");
  if (type != "BPE" && !(type.empty() && model.contains("merges")))
    file.fail("has a model of the type {}; BPE is supported", shown(file.member(model, "type")));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!file.text(model, key).empty()) file.fail("has a {}, which is not supported", key);
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> open_tokenizer_json(std::string_view text, std::string_view name) {
  const File file(text, name);
  if (!file.member(file.root(), "model").is_object()) file.fail("has no model");
  require_plain_bpe(file);
  const json pre_tokenizer = without_defaults(file.member(file.root(), "pre_tokenizer"));
  if (const WordRule* rule = find_rule(pre_tokenizer)) return open_byte_level(file, *rule, text);
  if (const auto prefix = dummy_prefix(file)) return open_rewritten_sentencepiece(file, *prefix);
  file.fail(
      "splits text in a way that is not supported (pre_tokenizer {}, normalizer {}); GPT-2's, SmolLM's, "
      "Llama "
      "3's and rewritten SentencePiece models are",
      shown(pre_tokenizer), shown(file.member(file.root(), "normalizer")));
}

std::string write_tokenizer_json(const Pieces& pieces) {
  const WordRule& rule = find_word_rule(pieces.rule, "tokenizer.json");
  ordered_json vocabulary = ordered_json::object(), added = ordered_json::array();
  for (size_t id = 0; id < pieces.pieces.size(); ++id) {
    const Piece& piece = pieces.pieces[id];
    require_utf8(piece.text, "tokenizer.json");
    if (!vocabulary.emplace(piece.text, id).second)
      throw_input_error("tokenizer", "two tokens are called {}", shown(piece.text));
    if (piece.type == PieceType::normal) continue;
    added.push_back({{"id", id},
                     {"content", piece.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", piece.type != PieceType::user_defined}});
  }
  for (const std::string& merge : pieces.merges) require_utf8(merge, "tokenizer.json");
  const ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const ordered_json file = {{"version", "1.0"},
                             {"truncation", nullptr},
                             {"padding", nullptr},
                             {"added_tokens", added},
                             {"normalizer", nullptr},
                             {"pre_tokenizer", ordered_json::parse(rule.pre_tokenizer)},
                             {"post_processor", nullptr},
                             {"decoder", byte_level},
                             {"model",
                              {{"type", "BPE"},
                               {"dropout", nullptr},
                               {"unk_token", nullptr},
                               {"continuing_subword_prefix", nullptr},
                               {"end_of_word_suffix", nullptr},
                               {"fuse_unk", false},
                               {"byte_fallback", false},
                               {"ignore_merges", pieces.ignore_merges},
                               {"vocab", vocabulary},
                               {"merges", pieces.merges}}}};
  return file.dump() + "\n";
}

}  // namespace qtf::text
