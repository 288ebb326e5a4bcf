#include "qtf/edge/encoder.h"

#include <algorithm>
#include <cstring>

namespace qtf::edge {

namespace {

/// Bytes of the UTF-8 character that begins at `at`; 0 for what is none.
int64_t character(const char* text, size_t at, size_t end) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const int64_t size = lead >= 0xC2 && lead <= 0xDF   ? 2
                       : lead >= 0xE0 && lead <= 0xEF ? 3
                       : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                      : 0;
  if (size == 0 || static_cast<size_t>(size) > end - at) return 0;
  for (int64_t i = 1; i < size; ++i)
    if ((byte(at + static_cast<size_t>(i)) & 0xC0) != 0x80) return 0;
  const unsigned char second = byte(at + 1);
  // Longer than need be, halves of pairs, and beyond U+10FFFF.
  const bool bad = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                   (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return bad ? 0 : size;
}

/// Bytes of a character of valid UTF-8 by its first.
int64_t character_size(char first) {
  const auto lead = static_cast<unsigned char>(first);
  return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// What SentencePiece takes for a blank and an end: they are encoded as bytes.
constexpr char kBlankMark[] = "\xE2\x96\x81";
constexpr int64_t kBlankMarkSize = 3;

int64_t special(const char* text, size_t at, size_t end) {
  if (text[at] == '\0') return 1;
  const bool mark = end - at >= static_cast<size_t>(kBlankMarkSize) &&
                    std::memcmp(text + at, kBlankMark, kBlankMarkSize) == 0;
  return mark ? kBlankMarkSize : 0;
}

}  // namespace

Encoder::Encoder(const File& file, uint32_t text_bytes, Arena& arena)
    : file_(&file), tokenizer_(&file.header().tokenizer), most_(text_bytes) {
  switch (tokenizer_->kind) {
    case TokenizerKind::none:
    case TokenizerKind::bytes:
      return;
    case TokenizerKind::unigram:
      best_ = arena.take<Best>(most_ + 1);
      break;
    case TokenizerKind::bpe:
      parts_ = arena.take<Part>(most_);
      break;
  }
  unit_ = arena.take<char>(most_);
}

const char* Encoder::token(uint32_t id, size_t* bytes) const {
  const auto* starts = file_->at<uint32_t>(tokenizer_->starts);
  *bytes = starts[id + 1] - starts[id];
  return file_->at<char>(tokenizer_->bytes) + starts[id];
}

qtf_edge_status Encoder::encode(const char* text, size_t bytes, bool behind, int32_t* tokens, size_t room,
                                size_t* count, qtf_edge_message* message) {
  Output out{tokens, room};
  const uint32_t flags = tokenizer_->flags;
  const bool squeezes = flags & kSqueeze, apart = flags & kWordsApart;
  bool begun = behind, has_letters = false;
  length_ = 0;
  const auto end_unit = [&] {
    encode_unit(out);
    length_ = 0, has_letters = false;
  };
  for (size_t at = 0; at < bytes;) {
    const int64_t size = character(text, at, bytes);
    if (size == 0) return fail(message, QTF_EDGE_BAD_ARGUMENT, "the text is not valid UTF-8 at byte %zu", at);
    if (tokenizer_->kind == TokenizerKind::bytes) {
      for (int64_t i = 0; i < size; ++i)
        out.add(file_->at<uint32_t>(tokenizer_->byte_tokens)[static_cast<unsigned char>(text[at++])]);
      continue;
    }
    if (squeezes && text[at] == ' ') {
      size_t after = at;
      while (after < bytes && text[after] == ' ') ++after;
      if (after == bytes) break;
      if (!begun) {
        at = after;
        continue;
      }
      at = after - 1;
    }
    if (!begun && (flags & kDummyPrefix)) unit_[length_++] = ' ';
    begun = true;
    if (const int64_t skip = special(text, at, bytes)) {
      end_unit();
      for (int64_t i = 0; i < skip; ++i)
        out.add(file_->at<uint32_t>(tokenizer_->byte_tokens)[static_cast<unsigned char>(text[at++])]);
      continue;
    }
    const bool line_end = text[at] == '\n';
    if (apart && length_ > 0 && (line_end || (text[at] == ' ' && has_letters))) end_unit();
    if (size > most_ - length_) {
      return fail(
          message, QTF_EDGE_NO_ROOM,
          "%s longer than the %lld bytes that the session was opened for; open it with larger text_bytes",
          apart ? "a word is" : "the text is", static_cast<long long>(most_));
    }
    std::memcpy(unit_ + length_, text + at, static_cast<size_t>(size));
    length_ += size, at += static_cast<size_t>(size);
    has_letters = has_letters || unit_[length_ - 1] != ' ';
    if (apart && line_end) end_unit();
  }
  end_unit();
  *count = out.count;
  if (room == 0 || out.count <= room) return QTF_EDGE_OK;
  return fail(message, QTF_EDGE_NO_ROOM, "the text has %zu tokens, and there is room for %zu", out.count,
              room);
}

void Encoder::encode_unit(Output& out) {
  if (length_ == 0) return;
  tokenizer_->kind == TokenizerKind::unigram ? encode_unigram(out) : encode_bpe(out);
}

void Encoder::add_bytes(int64_t begin, int64_t end, Output& out) const {
  const auto* of_bytes = file_->at<uint32_t>(tokenizer_->byte_tokens);
  for (int64_t i = begin; i < end; ++i) out.add(of_bytes[static_cast<unsigned char>(unit_[i])]);
}

unsigned char Encoder::byte_of(uint32_t entry, uint32_t at) const {
  const uint32_t id = file_->at<uint32_t>(tokenizer_->order)[entry];
  return static_cast<unsigned char>(
      file_->at<char>(tokenizer_->bytes)[file_->at<uint32_t>(tokenizer_->starts)[id] + at]);
}

uint32_t Encoder::length_of(uint32_t entry) const {
  const uint32_t id = file_->at<uint32_t>(tokenizer_->order)[entry];
  const auto* starts = file_->at<uint32_t>(tokenizer_->starts);
  return starts[id + 1] - starts[id];
}

/// Of the matches those that have `byte` behind the `at` bytes that they share. The one that ends there is
/// their first.
Encoder::Matches Encoder::narrow(Matches matches, uint32_t at, unsigned char byte) const {
  if (matches.begin < matches.end && length_of(matches.begin) == at) ++matches.begin;
  const auto bound = [&](uint32_t begin, int above) {
    uint32_t end = matches.end;
    while (begin < end) {
      const uint32_t middle = begin + (end - begin) / 2;
      byte_of(middle, at) < byte + above ? begin = middle + 1 : end = middle;
    }
    return begin;
  };
  const uint32_t begin = bound(matches.begin, 0);
  return {begin, bound(begin, 1)};
}

/// Every way to split the unit is a path from its begin to its end; the best path to each place, from left to
/// right (Kudo 2018). Sums as the library rounds them.
void Encoder::encode_unigram(Output& out) {
  const auto* scores = file_->at<double>(tokenizer_->scores);
  const auto* order = file_->at<uint32_t>(tokenizer_->order);
  const auto count = static_cast<uint32_t>(tokenizer_->order.count);
  std::fill_n(best_, length_ + 1, Best{0, -1, -1});
  const auto offer = [&](int64_t begin, int64_t end, double score, int32_t token) {
    const double sum = score + static_cast<double>(best_[begin].score);
    Best& best = best_[end];
    if (best.begin >= 0 && sum <= static_cast<double>(best.score)) return;
    best = {static_cast<float>(sum), static_cast<int32_t>(begin), token};
  };
  for (int64_t begin = 0; begin < length_;) {
    const int64_t size = character_size(unit_[begin]);
    bool single = false;
    Matches matches{0, count};
    for (int64_t at = begin; at < length_; ++at) {
      const auto seen = static_cast<uint32_t>(at - begin);
      matches = narrow(matches, seen, static_cast<unsigned char>(unit_[at]));
      if (matches.begin == matches.end) break;
      if (length_of(matches.begin) != seen + 1) continue;
      offer(begin, at + 1, scores[matches.begin], static_cast<int32_t>(order[matches.begin]));
      single = single || at + 1 - begin == size;
    }
    if (!single) offer(begin, begin + size, tokenizer_->unknown_score, -1);
    begin += size;
  }
  // The path, turned round in place: begin becomes the place where the next token ends.
  int32_t next = -1;
  for (auto end = static_cast<int32_t>(length_); end > 0;) {
    const int32_t begin = best_[end].begin;
    best_[end].begin = next;
    next = end, end = begin;
  }
  for (int32_t begin = 0, end = next; end >= 0; begin = end, end = best_[end].begin) {
    if (best_[end].token >= 0)
      out.add(static_cast<uint32_t>(best_[end].token));
    else
      add_bytes(begin, end, out);
  }
}

/// The entry that is the unit's bytes [begin, end); -1: none.
int64_t Encoder::find(int64_t begin, int64_t end) const {
  Matches matches{0, static_cast<uint32_t>(tokenizer_->order.count)};
  for (int64_t at = begin; at < end; ++at) {
    matches = narrow(matches, static_cast<uint32_t>(at - begin), static_cast<unsigned char>(unit_[at]));
    if (matches.begin == matches.end) return -1;
  }
  return static_cast<int64_t>(length_of(matches.begin)) == end - begin ? static_cast<int64_t>(matches.begin)
                                                                       : -1;
}

/// The part that begins at `at`: the longest token that stays whole, else a character. Returns where it ends.
int32_t Encoder::split(int64_t at, Part& part) const {
  const auto* whole = file_->at<uint8_t>(tokenizer_->whole);
  int64_t end = at + character_size(unit_[at]);
  int64_t entry = find(at, end);
  bool is_whole = false;
  Matches matches{0, static_cast<uint32_t>(tokenizer_->order.count)};
  for (int64_t i = at; i < length_; ++i) {
    matches = narrow(matches, static_cast<uint32_t>(i - at), static_cast<unsigned char>(unit_[i]));
    if (matches.begin == matches.end) break;
    if (length_of(matches.begin) == static_cast<uint32_t>(i + 1 - at) && whole[matches.begin])
      end = i + 1, entry = matches.begin, is_whole = true;
  }
  const auto* order = file_->at<uint32_t>(tokenizer_->order);
  part = {static_cast<int32_t>(at),
          static_cast<int32_t>(end),
          -1,
          entry < 0 ? -1 : static_cast<int32_t>(order[entry]),
          0,
          false,
          is_whole};
  return part.end;
}

/// Whether the part and the one behind it make a token, and its score.
void Encoder::look_at(Part& part) const {
  part.joins = false;
  if (part.next < 0 || part.whole || parts_[part.next].whole) return;
  const int64_t entry = find(part.begin, parts_[part.next].end);
  if (entry < 0) return;
  part.joins = true, part.score = file_->at<double>(tokenizer_->scores)[entry];
}

/// The pair of the highest score is joined, the leftmost of equals, until none makes a token (Sennrich et al.
/// 2016).
void Encoder::encode_bpe(Output& out) {
  int32_t count = 0;
  for (int32_t at = 0; at < length_; ++count) {
    at = split(at, parts_[count]);
    if (count > 0) parts_[count - 1].next = count;
  }
  for (int32_t i = 0; i < count; ++i) look_at(parts_[i]);
  const auto* order = file_->at<uint32_t>(tokenizer_->order);
  for (;;) {
    int32_t best = -1, before = -1;
    for (int32_t i = 0, previous = -1; i >= 0; previous = i, i = parts_[i].next)
      if (parts_[i].joins && (best < 0 || parts_[i].score > parts_[best].score)) best = i, before = previous;
    if (best < 0) break;
    Part& left = parts_[best];
    const Part& right = parts_[left.next];
    left.end = right.end, left.next = right.next;
    left.token = static_cast<int32_t>(order[find(left.begin, left.end)]);
    look_at(left);
    if (before >= 0) look_at(parts_[before]);
  }
  for (int32_t i = 0; i >= 0; i = parts_[i].next) {
    if (parts_[i].token >= 0)
      out.add(static_cast<uint32_t>(parts_[i].token));
    else
      add_bytes(parts_[i].begin, parts_[i].end, out);
  }
}

}  // namespace qtf::edge
