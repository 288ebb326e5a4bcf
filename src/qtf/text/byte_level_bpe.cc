#include "qtf/text/byte_level_bpe.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/text/pieces.h"
#include "qtf/text/utf8.h"
#include "qtf/text/word_cache.h"
#include "qtf/text/word_pattern.h"

namespace qtf::text {

namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

/// GPT-2 writes each byte as a printable character: itself where it is one in Latin-1, else from U+0100 on.
std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> characters;
  char32_t next = 256;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
    characters[b] = printable ? b : next++;
  }
  return characters;
}

/// The bytes that a vocabulary entry stands for; entries with other characters stand for their own UTF-8.
std::string entry_bytes(const std::string& entry) {
  static const auto kBytes = [] {
    std::unordered_map<char32_t, char> bytes;
    const auto characters = byte_characters();
    for (int b = 0; b < 256; ++b) bytes[characters[static_cast<size_t>(b)]] = static_cast<char>(b);
    return bytes;
  }();
  std::string bytes;
  for (size_t i = 0; i < entry.size();) {
    const auto found = kBytes.find(read_code_point(entry, i));
    if (found == kBytes.end()) return entry;
    bytes += found->second;
  }
  return bytes;
}

struct Merge {
  int32_t rank;
  int32_t id;  ///< of the joined token
};

uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

using Ids = std::unordered_map<std::string, int32_t>;
using Merges = std::unordered_map<uint64_t, Merge>;

int32_t read_id(const nlohmann::json& value, const std::string& entry, size_t count, std::string_view name) {
  const bool whole = value.is_number_integer();
  const int64_t id = whole ? value.get<int64_t>() : -1;
  if (id >= 0 && id < static_cast<int64_t>(count)) return static_cast<int32_t>(id);
  throw_input_error("tokenizer", "{}: \"{}\" must have an id between 0 and {}, got {}", name, entry,
                    count - 1, value.dump(-1, ' ', true));
}

/// Reads {"token": id, …}; ids must be 0 … n-1, each once.
std::vector<std::string> parse_vocabulary(std::string_view json, std::string_view name) {
  const auto entries = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!entries.is_object() || entries.empty()) {
    throw_input_error("tokenizer", "{} is not a JSON object of token ids, or is damaged", name);
  }
  std::vector<std::string> tokens(entries.size());
  std::vector<bool> seen(entries.size());
  for (const auto& [entry, value] : entries.items()) {
    const auto id = static_cast<size_t>(read_id(value, entry, entries.size(), name));
    if (seen[id]) throw_input_error("tokenizer", "{}: id {} is given to more than one token", name, id);
    seen[id] = true;
    tokens[id] = entry;
  }
  return tokens;
}

/// Reads the merges file, one "left right" a line.
std::vector<ByteLevelParts::Merge> parse_merge_lines(std::string_view text, std::string_view name) {
  std::vector<ByteLevelParts::Merge> merges;
  for (int64_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    // The first line may name the version; "# x" further down is a merge.
    if (number == 1 && line.starts_with("#version")) continue;
    if (line.empty()) continue;
    const size_t blank = line.find(' ');
    const bool two =
        blank != line.npos && blank > 0 && blank + 1 < line.size() && line.find(' ', blank + 1) == line.npos;
    if (!two) throw_input_error("tokenizer", "{}, line {}: expected two tokens", name, number);
    merges.push_back({std::string(line.substr(0, blank)), std::string(line.substr(blank + 1)), number});
  }
  return merges;
}

Merges rank_merges(const ByteLevelParts& parts, const Ids& ids) {
  const auto find = [&](const std::string& token, const ByteLevelParts::Merge& merge) {
    const auto found = ids.find(token);
    if (found != ids.end()) return found->second;
    throw_input_error("tokenizer",
                      "{} {}: a token that the vocabulary lacks; the files don't belong together",
                      parts.merges_name, merge.line);
  };
  Merges merges;
  int32_t rank = 0;
  for (const ByteLevelParts::Merge& merge : parts.merges) {
    const int32_t left = find(merge.left, merge), right = find(merge.right, merge);
    const int32_t joined = find(merge.left + merge.right, merge);
    if (!merges.emplace(pair_key(left, right), Merge{rank++, joined}).second) {
      throw_input_error("tokenizer", "{} {}: the same merge for the second time", parts.merges_name,
                        merge.line);
    }
  }
  return merges;
}

/// Merges the tokens of one word: the pair of the lowest rank first, all its places from left to right, until
/// no pair has a rank. Places wait in a heap, so that n bytes take O(n log n).
class WordMerger {
 public:
  WordMerger(const Merges& merges, std::vector<int32_t> tokens)
      : merges_(merges), tokens_(std::move(tokens)) {
    const auto n = static_cast<int32_t>(tokens_.size());
    for (int32_t i = 0; i < n; ++i) {
      next_.push_back(i + 1 < n ? i + 1 : -1);
      previous_.push_back(i - 1);
    }
    for (int32_t i = 0; i + 1 < n; ++i) look_at(i);
  }

  void run(std::vector<int32_t>& ids) {
    while (!places_.empty()) merge_lowest();
    for (int32_t i = 0; i >= 0; i = next_[static_cast<size_t>(i)]) ids.push_back(token(i));
  }

 private:
  struct Place {
    int32_t rank;
    int32_t left;  ///< position of the pair's first token
    uint64_t key;  ///< the pair when this was noted: stale if it has changed since
    bool operator>(const Place& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  int32_t token(int32_t position) const { return tokens_[static_cast<size_t>(position)]; }

  /// Notes the pair that begins at `left`, if it has a rank.
  void look_at(int32_t left) {
    const int32_t right = left < 0 ? -1 : next_[static_cast<size_t>(left)];
    if (right < 0) return;
    const uint64_t key = pair_key(token(left), token(right));
    const auto merge = merges_.find(key);
    if (merge != merges_.end()) places_.push({merge->second.rank, left, key});
  }

  /// Joins every place of the lowest rank before it looks at the pairs that arise, as the reference does.
  void merge_lowest() {
    const int32_t rank = places_.top().rank;
    joined_.clear();
    for (; !places_.empty() && places_.top().rank == rank; places_.pop()) {
      if (join(places_.top())) joined_.push_back(places_.top().left);
    }
    for (const int32_t left : joined_) {
      look_at(previous_[static_cast<size_t>(left)]);
      look_at(left);
    }
  }

  bool join(const Place& place) {
    const auto left = static_cast<size_t>(place.left);
    if (tokens_[left] < 0 || next_[left] < 0) return false;
    const auto right = static_cast<size_t>(next_[left]);
    if (pair_key(tokens_[left], tokens_[right]) != place.key) return false;
    tokens_[left] = merges_.at(place.key).id;
    tokens_[right] = -1;
    next_[left] = next_[right];
    if (next_[left] >= 0) previous_[static_cast<size_t>(next_[left])] = place.left;
    return true;
  }

  const Merges& merges_;
  std::vector<int32_t> tokens_;  ///< -1: joined to the token before
  std::vector<int32_t> next_;
  std::vector<int32_t> previous_;
  std::vector<int32_t> joined_;
  std::priority_queue<Place, std::vector<Place>, std::greater<>> places_;
};

class ByteLevelBpe final : public Tokenizer {
 public:
  using Tokenizer::encode;

  explicit ByteLevelBpe(ByteLevelParts parts)
      : parts_(std::move(parts)),
        rule_(find_word_rule(parts_.rule, parts_.vocabulary_name)),
        pattern_(rule_) {
    for (size_t i = 0; i < parts_.entries.size(); ++i) {
      ids_.emplace(parts_.entries[i], static_cast<int32_t>(i));
      bytes_.push_back(parts_.special[i] ? std::string() : entry_bytes(parts_.entries[i]));
    }
    find_byte_tokens();
    merges_ = rank_merges(parts_, ids_);
  }

  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    require_utf8(text, "encode");
    WordCache cache;
    WordPattern::Words words(pattern_, text);
    for (std::string_view word; !(word = words.next()).empty();) {
      if (cache.find(word, ids)) continue;
      const size_t before = ids.size();
      encode_word(word, ids);
      cache.insert(word, std::span(ids).subspan(before));
    }
  }

  // No rule joins a blank to what is before it.
  size_t split_point(std::string_view text) const override {
    size_t end = last_word_end(text);
    while (rule_.joins_line_ends && end > 0 && text[end] != ' ') end = last_word_end(text.substr(0, end));
    return end;
  }

  std::string token_bytes(int32_t id) const override {
    require_id(id);
    return bytes_[static_cast<size_t>(id)];
  }

  std::optional<int32_t> bos() const override { return parts_.bos; }
  std::optional<int32_t> eos() const override { return parts_.eos; }

  Pieces pieces() const override {
    Pieces pieces;
    pieces.kind = Pieces::Kind::byte_level;
    for (size_t i = 0; i < parts_.entries.size(); ++i) {
      pieces.pieces.push_back(
          {parts_.entries[i], 0, parts_.special[i] ? PieceType::control : PieceType::normal});
    }
    for (const auto& merge : parts_.merges) pieces.merges.push_back(merge.left + " " + merge.right);
    pieces.bos = parts_.bos.value_or(-1), pieces.eos = parts_.eos.value_or(-1);
    pieces.rule = rule_.name;
    pieces.ignore_merges = parts_.ignore_merges;
    return pieces;
  }

  std::vector<std::pair<std::string, std::string>> files() const override { return parts_.files; }

 private:
  void find_byte_tokens() {
    for (size_t b = 0; b < 256; ++b) {
      const auto found = ids_.find(byte_level_entry(std::string(1, static_cast<char>(b))));
      if (found == ids_.end()) {
        throw_input_error("tokenizer", "{} has no token for byte {}; it is not a byte-level vocabulary",
                          parts_.vocabulary_name, b);
      }
      byte_ids_[b] = found->second;
    }
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    if (parts_.ignore_merges) {
      const auto whole = ids_.find(byte_level_entry(word));
      if (whole != ids_.end() && !parts_.special[static_cast<size_t>(whole->second)])
        return ids.push_back(whole->second);
    }
    std::vector<int32_t> tokens;
    for (const char c : word) tokens.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    WordMerger(merges_, std::move(tokens)).run(ids);
  }

  ByteLevelParts parts_;
  const WordRule& rule_;
  WordPattern pattern_;
  Ids ids_;
  std::vector<std::string> bytes_;
  std::array<int32_t, 256> byte_ids_{};
  Merges merges_;
};

}  // namespace

std::string byte_level_entry(std::string_view bytes) {
  static const auto kCharacters = byte_characters();
  std::string entry;
  for (const char c : bytes) append_code_point(kCharacters[static_cast<unsigned char>(c)], entry);
  return entry;
}

std::shared_ptr<const Tokenizer> make_byte_level_bpe(ByteLevelParts parts) {
  QTF_ASSERT(parts.special.size() == parts.entries.size());
  return std::make_shared<ByteLevelBpe>(std::move(parts));
}

std::shared_ptr<const Tokenizer> open_byte_level_bpe(std::string_view vocabulary, std::string_view merges,
                                                     std::string_view vocabulary_name,
                                                     std::string_view merges_name) {
  ByteLevelParts parts;
  parts.entries = parse_vocabulary(vocabulary, vocabulary_name);
  parts.merges = parse_merge_lines(merges, merges_name);
  parts.special.resize(parts.entries.size());
  const auto end = std::find(parts.entries.begin(), parts.entries.end(), kEndOfText);
  if (end != parts.entries.end()) {
    parts.eos = static_cast<int32_t>(end - parts.entries.begin());
    parts.special[static_cast<size_t>(*parts.eos)] = true;
  }
  parts.files = {{"vocab.json", std::string(vocabulary)}, {"merges.txt", std::string(merges)}};
  parts.vocabulary_name = vocabulary_name;
  parts.merges_name = fmt::format("{}, line", merges_name);
  return make_byte_level_bpe(std::move(parts));
}

}  // namespace qtf::text
