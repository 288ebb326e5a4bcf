#include "qtf/quantum/channels.h"

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::quantum {
namespace {

GateMatrix weighted_gate(Gate gate, double probability) {
  GateMatrix m = gate_matrix(gate, {}, 1);
  for (Complex& value : m) value *= std::sqrt(probability);
  return m;
}

std::vector<GateMatrix> flip(Gate gate, double p) {
  return {weighted_gate(Gate::identity, 1 - p), weighted_gate(gate, p)};
}

const ChannelInfo kChannels[] = {
    {.channel = Channel::depolarizing,
     .name = "depolarizing",
     .formula = "√(1−p)·1, √(p/3)·X, √(p/3)·Y, √(p/3)·Z",
     .kraus =
         [](double p) {
           return std::vector{weighted_gate(Gate::identity, 1 - p), weighted_gate(Gate::pauli_x, p / 3),
                              weighted_gate(Gate::pauli_y, p / 3), weighted_gate(Gate::pauli_z, p / 3)};
         }},
    {.channel = Channel::amplitude_damping,
     .name = "amplitude-damping",
     .formula = "diag(1, √(1−γ)), √γ·|0⟩⟨1|",
     .kraus =
         [](double g) {
           return std::vector{GateMatrix{1, 0, 0, std::sqrt(1 - g)}, GateMatrix{0, std::sqrt(g), 0, 0}};
         }},
    {.channel = Channel::phase_damping,
     .name = "phase-damping",
     .formula = "diag(1, √(1−γ)), diag(0, √γ)",
     .kraus =
         [](double g) {
           return std::vector{GateMatrix{1, 0, 0, std::sqrt(1 - g)}, GateMatrix{0, 0, 0, std::sqrt(g)}};
         }},
    {.channel = Channel::bit_flip,
     .name = "bit-flip",
     .formula = "√(1−p)·1, √p·X",
     .kraus = [](double p) { return flip(Gate::pauli_x, p); }},
    {.channel = Channel::phase_flip,
     .name = "phase-flip",
     .formula = "√(1−p)·1, √p·Z",
     .kraus = [](double p) { return flip(Gate::pauli_z, p); }},
};

}  // namespace

std::span<const ChannelInfo> channel_table() {
  return kChannels;
}

const ChannelInfo& info(Channel channel) {
  return kChannels[static_cast<size_t>(channel)];
}

Channel parse_channel(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ChannelInfo& row : kChannels) {
    if (row.name == name) return row.channel;
    names.push_back(row.name);
  }
  throw_input_error("noise", "unknown channel '{}'{}", name, did_you_mean(name, names));
}

std::vector<GateMatrix> kraus_matrices(Channel channel, double strength) {
  if (!(strength >= 0 && strength <= 1)) {
    throw_input_error("noise", "the strength of {} must be from 0 to 1, got {}", info(channel).name,
                      strength);
  }
  return info(channel).kraus(strength);
}

}  // namespace qtf::quantum
