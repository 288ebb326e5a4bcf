#include "qtf/base/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <span>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf {

namespace {

struct Unit {
  std::string_view name;
  double scale;  ///< whole units of the quantity
};

constexpr std::array kCounts{Unit{"", 1}, Unit{"k", 1e3}, Unit{"K", 1e3}, Unit{"M", 1e6}, Unit{"G", 1e9}};
constexpr std::array kBytes{Unit{"", 1},        Unit{"B", 1},          Unit{"kB", 1e3},
                            Unit{"KB", 1e3},    Unit{"MB", 1e6},       Unit{"GB", 1e9},
                            Unit{"KiB", 1024.}, Unit{"MiB", 1048576.}, Unit{"GiB", 1073741824.}};
constexpr std::array kDurations{Unit{"", 1e6}, Unit{"ms", 1e6}, Unit{"us", 1e3}, Unit{"ns", 1},
                                Unit{"s", 1e9}};
constexpr std::array kEnergies{Unit{"", 1e9},   Unit{"J", 1e9},  Unit{"mJ", 1e6},
                               Unit{"uJ", 1e3}, Unit{"nJ", 1.0}, Unit{"kJ", 1e12}};

struct QuantityInfo {
  std::string_view name;      ///< with its article
  std::string_view expected;  ///< what to type
  std::span<const Unit> units;
};

/// In Quantity's order.
const std::array<QuantityInfo, 4>& table() {
  static const std::array<QuantityInfo, 4> rows{
      QuantityInfo{"a count", "a number with k, M or G or none, such as 2M", kCounts},
      QuantityInfo{"a size", "bytes, kB, MB, GB, KiB, MiB or GiB, such as 3MB", kBytes},
      QuantityInfo{"a time", "a number of ms, or one with ns, us, ms or s, such as 50ms", kDurations},
      QuantityInfo{"an energy", "a number of J, or one with nJ, uJ, mJ, J or kJ, such as 0.3J", kEnergies}};
  return rows;
}

const QuantityInfo& info(Quantity quantity) {
  return table()[static_cast<size_t>(quantity)];
}

const Unit* find_unit(const QuantityInfo& quantity, std::string_view name) {
  for (const Unit& unit : quantity.units)
    if (unit.name == name) return &unit;
  return nullptr;
}

/// " ('MB' measures a size)", or nothing.
std::string other_meaning(std::string_view unit) {
  for (const QuantityInfo& quantity : table())
    if (find_unit(quantity, unit)) return fmt::format(" ('{}' measures {})", unit, quantity.name);
  return "";
}

}  // namespace

int64_t parse_quantity(std::string_view text, Quantity quantity, std::string_view place) {
  const QuantityInfo& wanted = info(quantity);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number))
    throw_input_error(place, "expected {}, got '{}'", wanted.expected, text);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  const Unit* found = find_unit(wanted, unit);
  if (!found) throw_input_error(place, "expected {}, got '{}'{}", wanted.expected, text, other_meaning(unit));
  if (!(number > 0)) throw_input_error(place, "must be above 0, got '{}'", text);
  const double whole = std::nearbyint(number * found->scale);
  if (whole < 1 || whole > 9e15)
    throw_input_error(place, "'{}' is too {}; expected {}", text, whole < 1 ? "small" : "large",
                      wanted.expected);
  return static_cast<int64_t>(whole);
}

std::string format_quantity(int64_t value, Quantity quantity) {
  switch (quantity) {
    case Quantity::count:
      return format_count(value);
    case Quantity::bytes:
      return format_bytes(value);
    case Quantity::duration:
      return fmt::format("{:.4g} ms", static_cast<double>(value) / 1e6);
    case Quantity::energy:
      return fmt::format("{:.4g} J", static_cast<double>(value) / 1e9);
  }
  return "";
}

}  // namespace qtf
