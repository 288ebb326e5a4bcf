// Numbers with units as people type them: "2M", "3MB", "50ms", "0.3J". Whoever reads a budget uses it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qtf {

/// What a number counts, and the whole unit that parse_quantity returns it in.
enum class Quantity {
  count,     ///< ones; plain numbers are ones
  bytes,     ///< bytes; plain numbers are bytes
  duration,  ///< nanoseconds; plain numbers are milliseconds
  energy,    ///< nanojoules; plain numbers are joules
};

/// Reads a positive quantity such as "50ms", "0.05 s" or "50". Throws InputError, `place` naming whose value
/// it is: for what is no number, not above zero, not finite, too large, smaller than one whole unit, or of
/// another quantity's unit.
int64_t parse_quantity(std::string_view text, Quantity quantity, std::string_view place);

/// In the unit that people read, three or more digits: "1.25 M", "3.1 MB", "12.3 ms", "0.31 J".
std::string format_quantity(int64_t value, Quantity quantity);

}  // namespace qtf
