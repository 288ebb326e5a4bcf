// Counter-based random numbers: the n-th draw of a stream is a pure function of (seed, stream, n), so that
// results depend neither on the number of threads nor on the order of the calls, and resume needs no state.
// Philox 4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace qtf {

/// Ten rounds of Philox 4x32.
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// A random stream named by a seed and a stream number; draws are addressed by index.
struct Random {
  uint64_t seed = 0;
  uint64_t stream = 0;

  std::array<uint32_t, 4> block(uint64_t index) const {
    return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                   static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  }

  /// 64 random bits.
  uint64_t bits(uint64_t index) const {
    const auto b = block(index);
    return (uint64_t{b[1]} << 32) | b[0];
  }

  /// Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1.0p-53; }

  /// Uniform integer in [0, n), n > 0, without modulo bias that could be measured (n < 2^32).
  uint64_t below(uint64_t index, uint64_t n) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((static_cast<Wide>(bits(index)) * n) >> 64);
  }

  /// Standard normal (Box-Muller).
  double normal(uint64_t index) const {
    const auto b = block(index);
    const double u1 = (static_cast<double>(b[0]) + 1) * 0x1.0p-32;
    const double u2 = static_cast<double>(b[1]) * 0x1.0p-32;
    return std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::numbers::pi * u2);
  }
};

}  // namespace qtf
