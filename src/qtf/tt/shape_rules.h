// What the table of weight shapes needs of one kind. Each kind gives its rules in its own file;
// weight_shape.cc lists them. Used inside tt/ only.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/tt/weight_shape.h"

namespace qtf::tt {

/// The options of a shape's text form: "rank=48,out=16x32" is {rank: {48}, out: {16, 32}}.
struct ShapeOptions {
  std::map<std::string, std::vector<int64_t>, std::less<>> values;

  bool has(std::string_view key) const { return values.find(key) != values.end(); }
  /// The list of a key, or `fallback`.
  std::vector<int64_t> list(std::string_view key, std::vector<int64_t> fallback) const;
  /// The one number of a key, if there. Throws InputError if it is a list.
  std::optional<int64_t> number(std::string_view key) const;
};

struct ShapeRules {
  ShapeKindInfo info;
  std::vector<std::string_view> keys;  ///< of the options that parse_shape takes

  /// Fills modes, ranks and levels of a shape whose kind and sizes are set.
  void (*set_options)(WeightShape&, const ShapeOptions&);
  /// "rank=48,…": the inverse of set_options.
  std::string (*options_text)(const WeightShape&);
  /// Throws InputError for modes or ranks that do not fit. Sizes are positive.
  void (*check)(const WeightShape&);
  std::vector<CoreSpec> (*cores)(const WeightShape&);
  bool (*is_rebuilt)(const WeightShape&);
  /// Of the form that is_rebuilt() chooses not to replace by the dense one.
  int64_t (*direct_macs)(const WeightShape&, int level);
  /// Default modes and the largest rank whose parameters are <= max_parameters, at least 1.
  WeightShape (*with_parameters)(WeightShape, int64_t max_parameters);
};

const ShapeRules& dense_rules();
const ShapeRules& chain_rules();
const ShapeRules& mpo_rules();
const ShapeRules& btt_rules();

int64_t product(std::span<const int64_t> modes);

/// "16x32".
std::string modes_text(std::span<const int64_t> modes);

/// Throws InputError unless the modes (at least one, all positive) multiply to width; names the nearest that
/// do. `name` is the option: "out" or "in".
void check_modes(std::string_view name, const std::vector<int64_t>& modes, int64_t width);

/// Throws InputError unless 1 <= rank <= full. `what` completes "the full rank F of …".
void check_rank(int64_t rank, int64_t full, std::string_view what);

/// Throws InputError unless there are sizes.size() - 1 ranks and each is in reach of its neighbours:
/// r_k <= min(r_{k-1}·s_k, s_{k+1}·r_{k+1}), with r_0 = r_d = 1.
void check_bonds(std::span<const int64_t> sizes, std::span<const int64_t> ranks);

/// The largest rank that the bond after the first `left` modes of a train can have: the smaller of the
/// products of the modes on its sides.
int64_t bond_limit(std::span<const int64_t> sizes, size_t left);

}  // namespace qtf::tt
