#include "qtf/base/parse.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <vector>

#include "qtf/base/error.h"

namespace qtf {

namespace {

/// Powers of ten that a suffix stands for; -1 if it is none.
int suffix_digits(char suffix) {
  switch (suffix) {
    case 'k':
    case 'K':
      return 3;
    case 'M':
      return 6;
    case 'G':
      return 9;
    default:
      return -1;
  }
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// `digits` followed by `zeros` zeros; false if it does not fit.
bool to_integer(std::string_view digits, int zeros, int64_t& value) {
  value = 0;
  for (size_t i = 0; i < digits.size() + static_cast<size_t>(zeros); ++i) {
    const int digit = i < digits.size() ? digits[i] - '0' : 0;
    if (value > (std::numeric_limits<int64_t>::max() - digit) / 10) return false;
    value = 10 * value + digit;
  }
  return true;
}

char lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = lower(c);
  return result;
}

/// Optimal string alignment distance: edits and swaps of neighbours.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

/// Three significant digits, trailing zeros dropped, with the decimal prefix that leaves 1 to 999 before the
/// point.
std::string format_scaled(int64_t value, std::string_view unit) {
  static constexpr std::array<std::string_view, 7> kPrefixes = {"", "k", "M", "G", "T", "P", "E"};
  if (std::abs(static_cast<double>(value)) < 1000) {
    return unit.empty() ? fmt::format("{}", value) : fmt::format("{} {}", value, unit);
  }
  double scaled = static_cast<double>(value);
  size_t prefix = 0;
  while (std::abs(scaled) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    scaled /= 1000;
    ++prefix;
  }
  return fmt::format("{:.3g} {}{}", scaled, kPrefixes[prefix], unit);
}

}  // namespace

int64_t parse_count(std::string_view text, std::string_view place) {
  std::string digits;
  int fraction = -1;  // digits after the point; -1: no point yet
  int zeros = 0;
  bool valid = !text.empty() && is_digit(text[0]);
  for (size_t i = 0; i < text.size() && valid; ++i) {
    const char c = text[i];
    if (is_digit(c)) {
      digits += c;
      if (fraction >= 0) ++fraction;
    } else if (c == '.' && fraction < 0) {
      fraction = 0;
    } else if (c == '_') {
      valid = is_digit(text[i - 1]) && i + 1 < text.size() && is_digit(text[i + 1]);
    } else {
      zeros = suffix_digits(c);
      valid = zeros >= 0 && i + 1 == text.size();
    }
  }
  if (fraction == 0) valid = false;
  for (; fraction > 0 && digits.back() == '0'; --fraction) digits.pop_back();
  zeros -= std::max(fraction, 0);
  if (!valid || zeros < 0) {
    throw_input_error(place, "expected a whole number such as 2000, 50k or 2M, got '{}'", text);
  }
  int64_t value = 0;
  if (!to_integer(digits, zeros, value)) {
    throw_input_error(place, "{} is too large; the most is {}", text, std::numeric_limits<int64_t>::max());
  }
  return value;
}

std::string closest(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string wanted = lower(word);
  size_t best = (wanted.size() + 2) / 3 + 1;  // a third of the letters may be wrong
  std::string_view result;
  for (std::string_view candidate : candidates) {
    const bool begins = wanted.size() >= 3 && lower(candidate).starts_with(wanted);
    const size_t distance = begins ? 1 : edit_distance(wanted, lower(candidate));
    if (distance < best && distance < std::max(wanted.size(), candidate.size())) {
      best = distance;
      result = candidate;
    }
  }
  return std::string(result);
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string nearest = closest(word, candidates);
  return nearest.empty() ? nearest : fmt::format(" (did you mean {}?)", nearest);
}

std::string format_count(int64_t count) {
  return format_scaled(count, "");
}

std::string format_bytes(int64_t bytes) {
  return format_scaled(bytes, "B");
}

}  // namespace qtf
