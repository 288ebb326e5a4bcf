// An edge file: one model, written so that a program can run it where it lies, memory-mapped or in flash,
// without copying or parsing (docs/edge.md). Everything is little-endian; what records name by a Span is
// aligned to kAlignment bytes. model/edge_export.h writes such files, edge/file.h checks them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qtf::edge {

inline constexpr char kMagic[8] = {'Q', 'T', 'F', 'E', 'D', 'G', 'E', '\n'};
inline constexpr uint32_t kVersion = 1;
inline constexpr uint64_t kAlignment = 64;
/// Columns of a panel of any matrix: whole vectors on every processor.
inline constexpr int64_t kPanelWidth = 16;
/// No map, or no matrix.
inline constexpr uint32_t kNone = 0xFFFFFFFF;

/// `count` things, the first of them `offset` bytes from the file's begin. Count 0: there are none.
struct Span {
  uint64_t offset = 0;
  uint64_t count = 0;
};

enum class Family : uint32_t { llama = 0, gpt2 = 1 };
enum class NumberType : uint32_t { f32 = 0, f16 = 1, int8 = 2, int4 = 3 };

/// B[rows, columns] of a product x·B, in panels as kernels/gemm.h (f32) and kernels/quantized.h lay them out.
struct Matrix {
  uint32_t rows = 0, columns = 0;
  NumberType type = NumberType::f32;
  uint32_t block = 0;  ///< rows a scale, of int8 and int4
  Span bytes;
};

/// y[out] = x[in]·Wᵀ + bias. A dense one is the matrix `first`. A chain is Uᵀ, the matrix `first`, behind z =
/// x·Vᵀ, where V's rows come in bond blocks, one a nested level: without pivots Vᵀ is the matrix first + 1;
/// with pivots every block has a matrix of its own, from first + 1 on, of the inputs that are not among its
/// pivots, and the pivots' inputs are added to z.
struct Map {
  uint32_t in = 0, out = 0;
  uint32_t first = 0;
  uint32_t gathers = kNone;  ///< of a chain that is an embedding: V as the matrix [rank, in]
  Span block_ends;           ///< uint32_t, increasing: the ranks of the levels; none: dense
  Span pivots;               ///< uint32_t, [rank]
  Span bias;                 ///< float, [out]
};

/// One transformer block.
struct Block {
  Span attention_norm, attention_norm_bias;        ///< float, [width]; biases: GPT-2 family
  Span feed_forward_norm, feed_forward_norm_bias;  ///< float, [width]
  uint32_t qkv[3] = {kNone, kNone, kNone};         ///< maps: query, key and value, or one with all three
  uint32_t attention_out = kNone;
  uint32_t up[2] = {kNone, kNone};  ///< gate and up, or one
  uint32_t down = kNone;
  uint32_t reserved = 0;
};

enum class TokenizerKind : uint32_t { none = 0, bytes = 1, unigram = 2, bpe = 3 };

/// How a tokenizer treats text.
enum TokenizerFlags : uint32_t {
  kDummyPrefix = 1,  ///< puts a blank before a text
  kSqueeze = 2,      ///< makes runs of blanks one, and none at the ends
  kWordsApart = 4,   ///< words and line ends are encoded one by one
};

/// Tokens as bytes; those that text is made of (`order`) with what their kind says of them.
struct Tokenizer {
  TokenizerKind kind = TokenizerKind::none;
  uint32_t flags = 0;
  double unknown_score = 0;  ///< unigram: of a character that no token is
  Span starts;               ///< uint32_t, [vocabulary + 1]: of each token in `bytes`
  Span bytes;                ///< what tokens stand for; controls for nothing
  Span order;                ///< uint32_t: the tokens that text can be split into, by their bytes, increasing
  Span scores;               ///< double, one each of `order`: unigram's log-probability, bpe's priority
  Span whole;                ///< uint8_t, one each: 1: bpe never splits or joins it
  Span byte_tokens;          ///< uint32_t, [256]
};

/// Policies by which tokens take levels (docs/adaptive.md), in the order of Header::policies.
inline constexpr uint32_t kPolicies = 2;  // attention entropy, learned gate
/// Mean ranks that thresholds are kept for: 5 %, 10 %, … 95 %.
inline constexpr uint32_t kMeans = 19;
inline constexpr uint32_t kMeanStep = 5;

/// What a policy knows of a block; of one in which a level changes nothing all spans are empty.
struct BlockRanks {
  Span thresholds;  ///< int64_t, [kMeans, levels - 1], in 1e-9 (adapt/rank_rule.h)
  Span quantiles;   ///< int64_t, two or more: of the signal on the calibration text
  Span gate;        ///< int64_t, [width + 2], of a learned gate
};

struct Policy {
  uint32_t mean = 0;  ///< percent, a multiple of kMeanStep: where nothing else is asked for
  uint32_t reserved = 0;
  int64_t hysteresis = 0;
  Span blocks;  ///< BlockRanks, [layers]; none: the model was not calibrated for it
};

struct Header {
  char magic[8] = {};
  uint32_t version = 0;
  uint32_t header_bytes = 0;  ///< sizeof(Header)
  uint64_t file_bytes = 0;
  Family family = Family::llama;
  uint32_t vocabulary = 0, width = 0, layers = 0, heads = 0, kv_heads = 0, feed_forward = 0, context = 0;
  uint32_t levels = 1;  ///< nested ones
  int32_t bos = -1, eos = -1;
  float norm_epsilon = 0;
  uint64_t parameters = 0;  ///< of the model, as stored
  Span matrices, maps, blocks;
  Span positions;       ///< float, [context, width], GPT-2 family
  Span cosines, sines;  ///< float, [context, width / heads / 2], Llama family
  Span final_norm, final_norm_bias;
  uint32_t embedding = kNone, head = kNone;  ///< maps; the same where they are tied
  Policy policies[kPolicies];
  Tokenizer tokenizer;
};

static_assert(sizeof(Span) == 16 && sizeof(Matrix) == 32 && sizeof(Map) == 64 && sizeof(Block) == 96);
static_assert(sizeof(Tokenizer) == 112 && sizeof(Header) == 392 && alignof(Header) == 8);
// What is read where it lies is laid out the same by every compiler: no padding that is not said.
static_assert(offsetof(Header, tokenizer) == 280 && offsetof(Header, matrices) == 80);

}  // namespace qtf::edge
