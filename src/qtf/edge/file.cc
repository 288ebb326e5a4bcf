#include "qtf/edge/file.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>

#include "qtf/adapt/rank_rule.h"
#include "qtf/edge/message.h"
#include "qtf/kernels/quantized.h"

namespace qtf::edge {

static_assert(std::endian::native == std::endian::little, "edge files are little-endian");

namespace {

// No model comes near; products of two such stay far within 64 bits.
constexpr uint32_t kMost = 1u << 24;
constexpr uint64_t kMostCached = uint64_t{1} << 40;
constexpr int64_t kMostStanding = int64_t{1} << 61;  // sums of two do not overflow

}  // namespace

/// The checks of an edge file, one kind of record after the other.
class FileCheck {
 public:
  FileCheck(File& file, uint64_t bytes, qtf_edge_message* message)
      : file_(file), bytes_(bytes), message_(message) {}

  qtf_edge_status run() {
    const bool fits = header_fits() && tables_fit() && matrices_fit() && maps_fit() && blocks_fit() &&
                      ends_fit() && policies_fit() && tokenizer_fits();
    return fits ? QTF_EDGE_OK : QTF_EDGE_BAD_FILE;
  }

 private:
  const Header& header() const { return *file_.header_; }

  [[gnu::format(printf, 2, 3)]] bool bad(const char* format, ...) {
    char what[160];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    fail(message_, QTF_EDGE_BAD_FILE, "the edge file is damaged: %s; write it again with qtf convert", what);
    return false;
  }

  template <class T>
  bool has(const Span& span, uint64_t count, const char* what) {
    if (span.count != count)
      return bad("%s: %llu numbers, where %llu are needed", what, static_cast<unsigned long long>(span.count),
                 static_cast<unsigned long long>(count));
    if (count == 0) return true;
    if (span.offset % kAlignment != 0 || span.offset > bytes_ || count > (bytes_ - span.offset) / sizeof(T))
      return bad("%s lies outside of the file", what);
    return true;
  }

  template <class T>
  bool has_any(const Span& span, const char* what) {
    return has<T>(span, span.count, what);
  }

  bool header_fits() {
    const Header& h = header();
    for (const uint32_t size :
         {h.vocabulary, h.width, h.layers, h.heads, h.kv_heads, h.feed_forward, h.context})
      if (size == 0 || size > kMost) return bad("a size is %u", size);
    if (h.family > Family::gpt2) return bad("it is of no family that is known");
    if (h.width % h.heads != 0 || h.heads % h.kv_heads != 0)
      return bad("%u heads with %u of keys do not divide a width of %u", h.heads, h.kv_heads, h.width);
    if (h.levels == 0 || h.levels > 255) return bad("%u levels", h.levels);
    if (!std::isfinite(h.norm_epsilon)) return bad("the norms' epsilon is no number");
    for (const int32_t token : {h.bos, h.eos})
      if (token < -1 || token >= static_cast<int64_t>(h.vocabulary))
        return bad("token %d is not in it", token);
    return true;
  }

  bool tables_fit() {
    const Header& h = header();
    return has_any<Matrix>(h.matrices, "the table of matrices") &&
           has_any<Map>(h.maps, "the table of maps") && has<Block>(h.blocks, h.layers, "the table of blocks");
  }

  bool matrices_fit() {
    for (uint32_t i = 0; i < header().matrices.count; ++i) {
      const Matrix& m = file_.matrix(i);
      if (m.rows == 0 || m.columns == 0 || m.rows > kMost || m.columns > kMost || m.type > NumberType::int4)
        return bad("matrix %u is %u x %u of type %u", i, m.rows, m.columns, static_cast<uint32_t>(m.type));
      const bool scaled = m.type >= NumberType::int8;
      if (scaled && (m.block == 0 || m.block % 2 != 0 || m.block > kMost))
        return bad("matrix %u has blocks of %u", i, m.block);
      char what[32];
      std::snprintf(what, sizeof what, "matrix %u", i);
      if (!has<char>(m.bytes, matrix_bytes(m), what)) return false;
    }
    return true;
  }

  bool maps_fit() {
    for (uint32_t i = 0; i < header().maps.count; ++i) {
      const Map& map = file_.map(i);
      if (map.in == 0 || map.out == 0 || map.in > kMost || map.out > kMost)
        return bad("map %u has no size", i);
      if (map.bias.count && !has<float>(map.bias, map.out, "a bias")) return false;
      const bool fits = map.block_ends.count ? chain_fits(map) : is_matrix(map.first, map.in, map.out);
      if (!fits) return bad("the matrices of map %u are not its sizes", i);
    }
    return true;
  }

  bool is_matrix(uint32_t index, uint64_t rows, uint64_t columns) const {
    if (index >= header().matrices.count) return false;
    const Matrix& m = file_.matrix(index);
    return m.rows == rows && m.columns == columns;
  }

  bool chain_fits(const Map& map) {
    if (map.block_ends.count > header().levels || !has_any<uint32_t>(map.block_ends, "the ranks"))
      return false;
    const auto* ends = file_.at<uint32_t>(map.block_ends);
    for (uint64_t b = 0; b < map.block_ends.count; ++b)
      if (ends[b] > kMost || ends[b] <= (b ? ends[b - 1] : 0)) return false;
    const uint32_t rank = ends[map.block_ends.count - 1];
    if (!is_matrix(map.first, rank, map.out)) return false;
    if (map.gathers != kNone && !is_matrix(map.gathers, rank, map.in)) return false;
    if (map.pivots.count == 0) return is_matrix(map.first + 1, map.in, rank);
    return has<uint32_t>(map.pivots, rank, "the pivots") && pivots_fit(map, ends);
  }

  bool pivots_fit(const Map& map, const uint32_t* ends) const {
    const auto* pivots = file_.at<uint32_t>(map.pivots);
    uint32_t begin = 0;
    for (uint32_t b = 0; b < map.block_ends.count; begin = ends[b], ++b) {
      for (uint32_t r = begin; r < ends[b]; ++r)
        if (pivots[r] >= map.in || (r > begin && pivots[r] <= pivots[r - 1])) return false;
      const uint32_t size = ends[b] - begin;
      if (size >= map.in || !is_matrix(map.first + 1 + b, map.in - size, size)) return false;
    }
    return true;
  }

  bool is_map(uint32_t index, uint64_t in, uint64_t out) const {
    if (index >= header().maps.count) return false;
    const Map& map = file_.map(index);
    return map.in == in && map.out == out;
  }

  /// One map with all outputs, or one for each.
  template <size_t N>
  bool fan_fits(const uint32_t (&maps)[N], uint64_t in, const uint64_t (&outs)[N]) const {
    uint64_t all = 0;
    for (const uint64_t out : outs) all += out;
    if (maps[1] == kNone) return is_map(maps[0], in, all);
    for (size_t i = 0; i < N; ++i)
      if (!is_map(maps[i], in, outs[i])) return false;
    return true;
  }

  bool blocks_fit() {
    const Header& h = header();
    const uint64_t kv = file_.head_dim() * static_cast<uint64_t>(h.kv_heads), hidden = h.feed_forward;
    if (uint64_t{h.context} * kv > kMostCached / h.layers) return bad("no memory holds its caches");
    const uint64_t biases = h.family == Family::gpt2 ? h.width : 0;
    for (uint32_t i = 0; i < h.layers; ++i) {
      const Block& b = file_.block(i);
      if (!has<float>(b.attention_norm, h.width, "a norm") ||
          !has<float>(b.attention_norm_bias, biases, "a norm") ||
          !has<float>(b.feed_forward_norm, h.width, "a norm") ||
          !has<float>(b.feed_forward_norm_bias, biases, "a norm"))
        return false;
      const bool gated = h.family == Family::llama;
      const bool fits = fan_fits(b.qkv, h.width, {h.width, kv, kv}) &&
                        is_map(b.attention_out, h.width, h.width) &&
                        (gated ? b.up[1] != kNone && fan_fits(b.up, h.width, {hidden, hidden})
                               : b.up[1] == kNone && is_map(b.up[0], h.width, hidden)) &&
                        is_map(b.down, hidden, h.width);
      if (!fits) return bad("the maps of block %u are not the model's sizes", i);
    }
    return true;
  }

  bool ends_fit() {
    const Header& h = header();
    const bool llama = h.family == Family::llama;
    if (llama && file_.head_dim() % 2 != 0) return bad("heads of %u", h.width / h.heads);
    const uint64_t angles = llama ? h.context * static_cast<uint64_t>(file_.head_dim() / 2) : 0;
    const uint64_t positions = llama ? 0 : static_cast<uint64_t>(h.context) * h.width;
    if (!has<float>(h.cosines, angles, "the rotary table") ||
        !has<float>(h.sines, angles, "the rotary table") ||
        !has<float>(h.positions, positions, "the positions") ||
        !has<float>(h.final_norm, h.width, "a norm") ||
        !has<float>(h.final_norm_bias, llama ? 0 : h.width, "a norm"))
      return false;
    if (!is_map(h.embedding, h.width, h.vocabulary) || !is_map(h.head, h.width, h.vocabulary))
      return bad("the embedding or the head is not the model's size");
    const Map& embedding = file_.map(h.embedding);
    if (embedding.block_ends.count && embedding.gathers == kNone)
      return bad("the embedding has no rows to look up");
    return true;
  }

  bool policies_fit() {
    for (const Policy& policy : header().policies) {
      if (policy.blocks.count == 0) continue;
      if (policy.mean == 0 || policy.mean % kMeanStep != 0 || policy.mean > kMeans * kMeanStep)
        return bad("a policy's mean rank is %u %%", policy.mean);
      if (policy.hysteresis < 0 || policy.hysteresis > kMostStanding)
        return bad("a policy's hysteresis is no share");
      if (!has<BlockRanks>(policy.blocks, header().layers, "a policy")) return false;
      for (uint32_t i = 0; i < header().layers; ++i)
        if (!ranks_fit(file_.at<BlockRanks>(policy.blocks)[i], &policy != header().policies)) return false;
    }
    return true;
  }

  bool ranks_fit(const BlockRanks& ranks, bool gated) {
    if (ranks.thresholds.count == 0) return true;
    const Header& h = header();
    if (!has<int64_t>(ranks.thresholds, uint64_t{kMeans} * (h.levels - 1), "a policy's thresholds") ||
        !has_any<int64_t>(ranks.quantiles, "a policy's quantiles") ||
        !has<int64_t>(ranks.gate, gated ? uint64_t{h.width} + 2 : 0, "a policy's gate"))
      return false;
    const auto* thresholds = file_.at<int64_t>(ranks.thresholds);
    for (uint64_t i = 0; i < ranks.thresholds.count; ++i)
      if (thresholds[i] < -kMostStanding || thresholds[i] > kMostStanding)
        return bad("a policy's threshold is out of reach");
    const auto* quantiles = file_.at<int64_t>(ranks.quantiles);
    if (ranks.quantiles.count < 2 || quantiles[0] < 0) return bad("a policy's quantiles are too few");
    for (uint64_t i = 1; i < ranks.quantiles.count; ++i)
      if (quantiles[i] < quantiles[i - 1] || quantiles[i] > adapt::kUnit)
        return bad("a policy's quantiles fall");
    return true;
  }

  bool tokenizer_fits() {
    const Tokenizer& t = header().tokenizer;
    if (t.kind == TokenizerKind::none) return true;
    if (t.kind > TokenizerKind::bpe) return bad("its tokenizer is of no kind that is known");
    const uint64_t vocabulary = header().vocabulary;
    if (!has<uint32_t>(t.starts, vocabulary + 1, "the tokens") ||
        !has_any<char>(t.bytes, "the tokens' bytes") ||
        !has<uint32_t>(t.byte_tokens, 256, "the bytes' tokens") ||
        !has_any<uint32_t>(t.order, "the tokens' order") ||
        !has<double>(t.scores, t.order.count, "the tokens' scores") ||
        !has<uint8_t>(t.whole, t.order.count, "the tokens' kinds"))
      return false;
    const auto* starts = file_.at<uint32_t>(t.starts);
    for (uint64_t i = 0; i < vocabulary; ++i)
      if (starts[i + 1] < starts[i] || starts[i + 1] > t.bytes.count)
        return bad("token %u lies outside", unsigned(i));
    for (uint64_t i = 0; i < 256; ++i)
      if (file_.at<uint32_t>(t.byte_tokens)[i] >= vocabulary) return bad("a byte's token is not in it");
    const auto* order = file_.at<uint32_t>(t.order);
    for (uint64_t i = 0; i < t.order.count; ++i)
      if (order[i] >= vocabulary || starts[order[i] + 1] == starts[order[i]])
        return bad("a token of text is none");
    return true;
  }

  static uint64_t matrix_bytes(const Matrix& m) {
    switch (m.type) {
      case NumberType::f32:
        return (m.columns + kPanelWidth - 1) / kPanelWidth * kPanelWidth * static_cast<uint64_t>(m.rows) *
               sizeof(float);
      case NumberType::f16:
        return static_cast<uint64_t>(
            kernels::quantized_size<kernels::Float16>(m.rows, m.columns, 0, kPanelWidth));
      case NumberType::int8:
        return static_cast<uint64_t>(
            kernels::quantized_size<kernels::Int8>(m.rows, m.columns, m.block, kPanelWidth));
      case NumberType::int4:
        return static_cast<uint64_t>(
            kernels::quantized_size<kernels::Int4>(m.rows, m.columns, m.block, kPanelWidth));
    }
    return 0;
  }

  File& file_;
  uint64_t bytes_;
  qtf_edge_message* message_;
};

qtf_edge_status File::open(const void* file, size_t bytes, qtf_edge_message* message) {
  if (!file) return fail(message, QTF_EDGE_BAD_ARGUMENT, "there is no file: its address is null");
  if (reinterpret_cast<uintptr_t>(file) % kAlignment != 0)
    return fail(message, QTF_EDGE_BAD_ARGUMENT, "the file must be aligned to %u bytes in memory",
                unsigned(kAlignment));
  if (bytes < sizeof(Header) || std::memcmp(file, kMagic, sizeof kMagic) != 0)
    return fail(message, QTF_EDGE_BAD_FILE,
                "this is no edge file; write one with qtf convert MODEL NAME.edge");
  begin_ = static_cast<const char*>(file);
  header_ = static_cast<const Header*>(file);
  if (header_->version != kVersion || header_->header_bytes != sizeof(Header))
    return fail(message, QTF_EDGE_BAD_FILE,
                "the edge file has version %u, and this library reads %u; write it again with qtf convert",
                header_->version, kVersion);
  if (header_->file_bytes != bytes)
    return fail(message, QTF_EDGE_BAD_FILE,
                "the edge file says it has %llu bytes, and %llu are there; copy it again",
                static_cast<unsigned long long>(header_->file_bytes), static_cast<unsigned long long>(bytes));
  return FileCheck(*this, bytes, message).run();
}

}  // namespace qtf::edge
