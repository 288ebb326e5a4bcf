// Energy where no counter is readable: the watts of a busy core times the time that the program's threads
// were busy.
#pragma once

#include "qtf/adapt/energy.h"

namespace qtf::adapt {

/// Throws InputError for a processor that is not known, if no watts are given.
std::unique_ptr<EnergyMeter> open_power_model(const MeterOptions& options);

}  // namespace qtf::adapt
