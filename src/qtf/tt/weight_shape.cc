#include "qtf/tt/weight_shape.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

// Beyond any vocabulary, and small enough that no count of parameters or operations overflows.
constexpr int64_t kMaxWidth = int64_t{1} << 22;

/// The table: one row a kind, in ShapeKind's order.
const std::array<const ShapeRules*, 4>& table() {
  static const std::array<const ShapeRules*, 4> rows{&dense_rules(), &chain_rules(), &mpo_rules(),
                                                     &btt_rules()};
  return rows;
}

const ShapeRules& rules(const WeightShape& shape) {
  return *table()[static_cast<size_t>(shape.kind)];
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

const ShapeRules& find_rules(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ShapeRules* row : table()) {
    if (row->info.name == name) return *row;
    names.push_back(row->info.name);
  }
  throw_input_error("shape", "no weight shape is called '{}'{}; there are {}", name,
                    did_you_mean(name, names), fmt::join(names, ", "));
}

std::vector<int64_t> parse_list(std::string_view key, std::string_view text) {
  std::vector<int64_t> list;
  for (const std::string_view item : split(text, 'x')) {
    const int64_t number = parse_count(item, fmt::format("shape {}", key));
    if (number < 1 || number > kMaxWidth)
      throw_input_error("shape", "{} must be 1 or more and at most {}, got {}", key, kMaxWidth, number);
    list.push_back(number);
  }
  return list;
}

ShapeOptions parse_options(const ShapeRules& kind, std::string_view text) {
  ShapeOptions options;
  if (text.empty()) return options;
  for (const std::string_view item : split(text, ',')) {
    const size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    if (std::find(kind.keys.begin(), kind.keys.end(), key) == kind.keys.end())
      throw_input_error("shape", "{} has no option '{}'{}; its options are: {}", kind.info.name, key,
                        did_you_mean(key, kind.keys), kind.info.options.empty() ? "none" : kind.info.options);
    if (equals == std::string_view::npos)
      throw_input_error("shape", "{} needs a value: {}", key, kind.info.options);
    if (options.has(key)) throw_input_error("shape", "{} is given twice; give it once", key);
    options.values[std::string(key)] = parse_list(key, item.substr(equals + 1));
  }
  return options;
}

void check_sizes(const WeightShape& shape) {
  for (const int64_t width : {shape.out, shape.in})
    if (width < 1 || width > kMaxWidth)
      throw_input_error("shape", "widths must be 1 to {}, got {} x {}", kMaxWidth, shape.out, shape.in);
}

void check_levels(const WeightShape& shape) {
  if (shape.levels.empty()) return;
  if (shape.kind != ShapeKind::chain)
    throw_input_error("shape", "levels are for chain only, got {} for {}", modes_text(shape.levels),
                      rules(shape).info.name);
  const int64_t rank = level_rank(shape, 0);
  const bool increasing = std::adjacent_find(shape.levels.begin(), shape.levels.end(),
                                             std::greater_equal<>()) == shape.levels.end();
  if (!increasing || shape.levels.front() < 1 || shape.levels.back() != rank)
    throw_input_error("shape", "levels must increase from 1 or more to the rank {}, got {}", rank,
                      modes_text(shape.levels));
}

}  // namespace

std::vector<int64_t> ShapeOptions::list(std::string_view key, std::vector<int64_t> fallback) const {
  const auto found = values.find(key);
  return found == values.end() ? std::move(fallback) : found->second;
}

std::optional<int64_t> ShapeOptions::number(std::string_view key) const {
  const auto found = values.find(key);
  if (found == values.end()) return std::nullopt;
  if (found->second.size() != 1)
    throw_input_error("shape", "{} takes one number, got {}", key, modes_text(found->second));
  return found->second[0];
}

int64_t product(std::span<const int64_t> modes) {
  int64_t result = 1;
  for (const int64_t mode : modes) result *= mode;
  return result;
}

std::string modes_text(std::span<const int64_t> modes) {
  return fmt::format("{}", fmt::join(modes, "x"));
}

namespace {

/// Modes that multiply to width: `modes` with one of them changed (the last that can be), else balanced ones.
std::vector<int64_t> nearest_modes(std::vector<int64_t> modes, int64_t width) {
  for (size_t i = modes.size(); i-- > 0;) {
    int64_t rest = width;
    for (size_t j = 0; j < modes.size() && rest > 0; ++j)
      if (j != i) rest = modes[j] > 0 && rest % modes[j] == 0 ? rest / modes[j] : 0;
    if (rest == 0 || (rest == 1 && modes.size() > 1)) continue;
    modes[i] = rest;
    return modes;
  }
  return balanced_modes(width, static_cast<int>(std::max<size_t>(1, modes.size())));
}

bool multiply_to(const std::vector<int64_t>& modes, int64_t width) {
  for (const int64_t mode : modes) {
    if (mode < 1 || width % mode != 0) return false;
    width /= mode;
  }
  return width == 1 && !modes.empty();
}

}  // namespace

void check_modes(std::string_view name, const std::vector<int64_t>& modes, int64_t width) {
  if (multiply_to(modes, width)) return;
  throw_input_error("shape", "the modes {}={} must multiply to the width {}; the nearest that do are {}={}",
                    name, modes_text(modes), width, name, modes_text(nearest_modes(modes, width)));
}

void check_rank(int64_t rank, int64_t full, std::string_view what) {
  if (rank >= 1 && rank <= full) return;
  throw_input_error("shape", "rank {} does not fit the full rank {} of {}; the nearest that fits is {}", rank,
                    full, what, std::clamp<int64_t>(rank, 1, full));
}

int64_t bond_limit(std::span<const int64_t> sizes, size_t left) {
  return std::min(product(sizes.first(left)), product(sizes.subspan(left)));
}

namespace {

/// a·b, or the largest int64 where that is less (ranks from a file may be any number).
int64_t saturating_product(int64_t a, int64_t b) {
  int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<int64_t>::max() : result;
}

}  // namespace

void check_bonds(std::span<const int64_t> sizes, std::span<const int64_t> ranks) {
  if (ranks.size() + 1 != sizes.size())
    throw_input_error("shape", "modes {} need {} ranks, one a bond, got {}", modes_text(sizes),
                      sizes.size() - 1, ranks.size());
  for (size_t k = 0; k < ranks.size(); ++k) {
    const int64_t left = saturating_product(k == 0 ? 1 : ranks[k - 1], sizes[k]);
    const int64_t right = saturating_product(k + 1 == ranks.size() ? 1 : ranks[k + 1], sizes[k + 1]);
    const int64_t most = std::min(left, right);
    if (ranks[k] < 1 || ranks[k] > most)
      throw_input_error("shape",
                        "rank {} of bond {} (ranks {}) is out of reach of its neighbours; use 1 to {}",
                        ranks[k], k + 1, modes_text(ranks), most);
  }
}

const std::vector<ShapeKindInfo>& shape_kinds() {
  static const std::vector<ShapeKindInfo> kinds = [] {
    std::vector<ShapeKindInfo> result;
    for (const ShapeRules* row : table()) result.push_back(row->info);
    return result;
  }();
  return kinds;
}

WeightShape parse_shape(std::string_view text, int64_t out, int64_t in) {
  const size_t colon = text.find(':');
  const ShapeRules& kind = find_rules(text.substr(0, colon));
  WeightShape shape;
  shape.kind = kind.info.kind, shape.out = out, shape.in = in;
  check_sizes(shape);
  const ShapeOptions options =
      parse_options(kind, colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1));
  kind.set_options(shape, options);
  validate(shape);
  return shape;
}

std::string to_string(const WeightShape& shape) {
  const std::string options = rules(shape).options_text(shape);
  return fmt::format("{}{}{}", rules(shape).info.name, options.empty() ? "" : ":", options);
}

std::string summary(const WeightShape& shape) {
  if (shape.pivots.empty()) return to_string(shape);
  WeightShape plain = shape;
  plain.pivots.clear();
  return to_string(plain) + ", fixed gauge";
}

void validate(const WeightShape& shape) {
  check_sizes(shape);
  rules(shape).check(shape);
  check_levels(shape);
}

WeightShape shape_with_parameters(ShapeKind kind, int64_t out, int64_t in, int64_t max_parameters) {
  WeightShape shape;
  shape.kind = kind, shape.out = out, shape.in = in;
  check_sizes(shape);
  return rules(shape).with_parameters(shape, max_parameters);
}

std::vector<CoreSpec> cores(const WeightShape& shape) {
  return rules(shape).cores(shape);
}

int64_t parameters(const WeightShape& shape) {
  int64_t sum = 0;
  for (const CoreSpec& core : cores(shape)) sum += product(core.dims);
  return sum;
}

bool is_rebuilt(const WeightShape& shape) {
  return rules(shape).is_rebuilt(shape);
}

int64_t macs(const WeightShape& shape, int level) {
  return is_rebuilt(shape) ? shape.in * shape.out : rules(shape).direct_macs(shape, level);
}

int level_count(const WeightShape& shape) {
  return std::max(1, static_cast<int>(shape.levels.size()));
}

int64_t level_rank(const WeightShape& shape, int level) {
  QTF_ASSERT(level >= 0 && level <= level_count(shape));
  if (shape.kind != ShapeKind::chain) return 0;
  if (level == 0 || shape.levels.empty()) return shape.ranks[shape.out_modes.size() - 1];
  return shape.levels[static_cast<size_t>(level - 1)];
}

double learning_rate_scale(const WeightShape& shape, const CoreSpec& core) {
  const auto count = static_cast<double>(cores(shape).size());
  return static_cast<double>(shape.in) / static_cast<double>(core.fan_in) / count;
}

std::vector<int64_t> balanced_modes(int64_t width, int count) {
  std::vector<int64_t> modes;
  for (; count > 1; --count) {
    // The largest divisor not above the root: what is left for the others is at least as large.
    auto mode = static_cast<int64_t>(std::floor(std::pow(static_cast<double>(width), 1.0 / count) + 1e-9));
    while (width % mode != 0) --mode;
    modes.push_back(mode);
    width /= mode;
  }
  modes.push_back(width);
  std::sort(modes.begin(), modes.end());
  return modes;
}

}  // namespace qtf::tt
