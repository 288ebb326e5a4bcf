// How a linear map W[out, in] is stored: the table of weight shapes, their sizes and their text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qtf::tt {

enum class ShapeKind { dense, chain, mpo, btt };

/// One linear map's shape. Which fields apply depends on the kind:
/// | kind  | modes                                                        | ranks                          |
/// | dense | none                                                         | none                           |
/// | chain | out_modes (p), in_modes (q), order [out modes | in modes]    | p + q - 1 bonds; the p-th is the
/// centre | | mpo   | out_modes, in_modes (d >= 2 each), interleaved               | d - 1 bonds | | btt   |
/// out_modes {n_outer, n_inner}, in_modes {m_outer, m_inner}    | one                            | btt cuts W
/// into a grid of n_outer × m_outer blocks, each n_inner × m_inner and of the rank given. An index with modes
/// {a, b} is a·|b| + b: the first mode is the slowest.
struct WeightShape {
  ShapeKind kind = ShapeKind::dense;
  int64_t out = 0;
  int64_t in = 0;
  std::vector<int64_t> out_modes;
  std::vector<int64_t> in_modes;
  std::vector<int64_t> ranks;
  /// chain only: centre ranks of the nested levels, increasing, the last equal to the centre rank.
  /// Empty: one level. Level numbers are 1 (smallest) to size().
  std::vector<int64_t> levels;
  /// chain with one mode a side only: the gauge is fixed (tt/gauge.h). Columns of V, counted from 0, that are
  /// columns of the identity and not stored: one for each of the rank's indices, increasing within each
  /// level's addition. Empty: all numbers are stored. The text form counts from 1.
  std::vector<int64_t> pivots = {};

  bool operator==(const WeightShape&) const = default;
};

/// One stored tensor of a shape.
struct CoreSpec {
  std::string suffix;         ///< of the tensor's name in the file: "weight" (dense), "core.0", "core.1", …
  std::vector<int64_t> dims;  ///< row-major
  int64_t fan_in = 0;         ///< (rank × mode) entries summed over when this core is applied
  int64_t fan_out = 0;
};

/// A row of the table: all that the command line, help, docs and tests need to know of a kind.
struct ShapeKindInfo {
  ShapeKind kind;
  std::string_view name;
  std::string_view summary;
  std::string_view options;  ///< of the text form, for help: "rank=R[,out=AxB][,in=AxB][,outer=S]"
};

/// The table of shapes, in ShapeKind's order.
const std::vector<ShapeKindInfo>& shape_kinds();

/// Parses "dense", "chain:rank=48", "chain:rank=48,out=16x32,in=16x16,outer=24,levels=12x24x48",
/// "mpo:rank=16,out=8x16,in=8x16", "btt:rank=2,out=8x16,in=8x16" for a map of the given size; modes left out
/// are balanced factors (btt, mpo: two modes; chain: one each). chain and mpo also take every bond's rank, as
/// in "ranks=16x48x16", in place of rank (and outer). Throws InputError naming what does not fit and the
/// nearest that does (ranks beyond the full rank, modes whose product is not the width, unknown kinds or
/// options with a suggestion).
WeightShape parse_shape(std::string_view text, int64_t out, int64_t in);

/// The text form that parse_shape takes back to the same shape.
std::string to_string(const WeightShape& shape);

/// The text form for people: pivots, which may be hundreds, are told as "fixed gauge".
std::string summary(const WeightShape& shape);

/// Throws InputError if the shape's modes, ranks or levels do not fit its sizes. For shapes read from files.
void validate(const WeightShape& shape);

/// The shape of a kind whose parameter count is nearest to, and not above, `max_parameters`: default modes,
/// the largest rank that fits, at least rank 1. `dense` has one count, whatever is asked.
WeightShape shape_with_parameters(ShapeKind kind, int64_t out, int64_t in, int64_t max_parameters);

/// The stored tensors, in file order.
std::vector<CoreSpec> cores(const WeightShape& shape);

/// Numbers stored: the sum over cores.
int64_t parameters(const WeightShape& shape);

/// Whether W is multiplied out once an update and applied as a dense matrix, because applying the cores would
/// take more multiply-accumulates: a chain of one level and free gauge with rank·(in + out) > in·out, and an
/// mpo whose direct contraction costs in·out or more. A map with levels is never rebuilt.
bool is_rebuilt(const WeightShape& shape);

/// Multiply-accumulates for one token, as forward executes them (see is_rebuilt). level 0: the largest.
int64_t macs(const WeightShape& shape, int level = 0);

/// Number of levels, at least 1.
int level_count(const WeightShape& shape);

/// The centre rank of a level (chain); 0 otherwise. level 0: the largest.
int64_t level_rank(const WeightShape& shape, int level);

/// Adam's step for a core relative to a dense matrix's: (in / the core's fan-in) / number of cores, and 1 for
/// dense (arXiv 2406.06248).
double learning_rate_scale(const WeightShape& shape, const CoreSpec& core);

/// `count` factors of width, as near to each other as its divisors allow, increasing. A prime leaves ones.
std::vector<int64_t> balanced_modes(int64_t width, int count);

}  // namespace qtf::tt
