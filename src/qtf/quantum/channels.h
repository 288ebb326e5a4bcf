// The table of noise channels, each a list of Kraus matrices on one wire. Strengths are PennyLane's: the
// probability of an error, or the share damped.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "qtf/quantum/gates.h"

namespace qtf::quantum {

enum class Channel : uint8_t { depolarizing, amplitude_damping, phase_damping, bit_flip, phase_flip };

struct ChannelInfo {
  Channel channel;
  std::string_view name;     ///< as `qtf circuit run --noise` takes it
  std::string_view formula;  ///< its Kraus matrices
  std::vector<GateMatrix> (*kraus)(double strength);
};

/// Every row, in the enumeration's order.
std::span<const ChannelInfo> channel_table();

const ChannelInfo& info(Channel channel);

/// Throws InputError, with a suggestion, for other names.
Channel parse_channel(std::string_view name);

/// The channel's Kraus matrices, 2 × 2 each, Σ K†K = 1. Throws InputError unless 0 <= strength <= 1.
std::vector<GateMatrix> kraus_matrices(Channel channel, double strength);

}  // namespace qtf::quantum
