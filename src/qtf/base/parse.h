// Numbers as people type and read them, and "did you mean" suggestions. The command line, shape texts and
// configuration readers use them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qtf {

/// Reads a count >= 0: "2000", "1_000", "50k", "2M", "1.5G" (decimal suffixes k or K, M, G; a fraction only
/// if the result is whole). Throws InputError, `place` naming whose value it is, such as "--steps".
int64_t parse_count(std::string_view text, std::string_view place);

/// The candidate nearest to `word` by edit distance (insert, delete, replace or swap neighbours; upper and
/// lower case alike), or one that begins with it; the first of equals. Empty if nothing is near.
std::string closest(std::string_view word, std::span<const std::string_view> candidates);

/// " (did you mean X?)" for closest(word, candidates), or nothing: to be put into an error's text.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

/// Three significant digits: 950 -> "950", 1250000 -> "1.25 M", 51000 -> "51 k".
std::string format_count(int64_t count);

/// Three significant digits, decimal units: 5012345 -> "5.01 MB", 12 -> "12 B".
std::string format_bytes(int64_t bytes);

}  // namespace qtf
