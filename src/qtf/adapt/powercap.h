// The processor's energy counters as Linux' powercap tree shows them (RAPL; AMD's have the same names).
// https://docs.kernel.org/power/powercap/powercap.html
#pragma once

#include "qtf/adapt/energy.h"

namespace qtf::adapt {

/// A counter of microjoules that starts again after its largest value.
struct PowercapDomain {
  std::string name;  ///< "package-0", "package-0 dram"
  std::filesystem::path counter;
  int64_t range_uj = 0;  ///< max_energy_range_uj
};

/// The packages and their memory. Throws InputError where there is no tree, no such domain, or one that
/// cannot be read, saying what to do.
std::vector<PowercapDomain> powercap_domains(const std::filesystem::path& root);

/// Microjoules between two values of a counter that wraps at most once: it counts modulo range + 1.
int64_t counter_difference(int64_t before, int64_t after, int64_t range_uj);

/// The sum of the domains under options.powercap.
std::unique_ptr<EnergyMeter> open_powercap(const MeterOptions& options);

}  // namespace qtf::adapt
