#include "qtf/adapt/power_model.h"

#include <algorithm>
#include <ctime>

#include "qtf/base/error.h"

namespace qtf::adapt {

namespace {

/// Seconds that all threads of this program have run.
double busy_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

class PowerModel final : public EnergyMeter {
 public:
  PowerModel(Watts core, std::string source) : core_(core), source_(std::move(source)) {}

  std::string_view name() const override { return "model"; }
  EnergyTier tier() const override { return EnergyTier::modelled; }
  std::string describe() const override {
    return fmt::format("{:.3g} W a busy core (within {:.3g} to {:.3g}) by {}", core_.value, core_.low,
                       core_.high, source_);
  }

  void start() override { begin_ = busy_seconds(); }
  Energy stop() override {
    const double seconds = busy_seconds() - begin_;
    if (!(seconds > 0)) throw_input_error("energy", "no time passed that could be measured; measure longer");
    return {seconds * core_.value, seconds * core_.low, seconds * core_.high, EnergyTier::modelled};
  }

 private:
  Watts core_;
  std::string source_;
  double begin_ = 0;
};

}  // namespace

const std::vector<KnownPower>& known_powers() {
  // The middle is the vendor's thermal design power of a usual part of the family, divided by its cores: what
  // a core takes of a socket that is fully busy. The bounds are the least and the greatest such quotient of
  // the family's parts, the least quartered (a socket may run below its design power, and a virtual machine's
  // core may be half of one) and the greatest taken one and a half times (few busy cores run faster and carry
  // the socket's common part alone).
  static const std::vector<KnownPower> table{
      {"AMD EPYC 9", {5.0, 0.7, 30}, "AMD's design powers of EPYC 9004 (360 W / 128 to 320 W / 16)"},
      {"AMD EPYC 7", {4.4, 0.9, 34}, "AMD's design powers of EPYC 7003 (225 W / 64 to 180 W / 8)"},
      {"AMD EPYC", {5.0, 0.7, 34}, "AMD's design powers of EPYC 7003 and 9004"},
      {"AMD Ryzen", {8.0, 0.9, 26}, "AMD's design powers of Ryzen 5000 and 7000 (15 W / 4 to 105 W / 6)"},
      {"Intel(R) Xeon(R)", {6.3, 1.4, 31}, "Intel's design powers of Xeon Scalable, 3rd and 4th generation"},
      {"Intel(R) Core(TM)", {8.0, 0.4, 31}, "Intel's base powers of Core, 11th to 13th generation"},
      {"ARM part 0xd08", {1.0, 0.5, 2.0}, "Raspberry Pi 4: about 4 W more with four busy cores than idle"},
      {"ARM part 0xd0b", {1.5, 0.8, 3.0}, "Raspberry Pi 5: about 6 W more with four busy cores than idle"},
  };
  return table;
}

std::unique_ptr<EnergyMeter> open_power_model(const MeterOptions& options) {
  if (options.watts) {
    const double share = 1.0 / std::max(1, std::min(options.threads, options.machine.cores));
    const Watts& all = *options.watts;
    return std::make_unique<PowerModel>(Watts{all.value * share, all.low * share, all.high * share},
                                        fmt::format("--watts {:.4g}", all.value));
  }
  for (const KnownPower& known : known_powers())
    if (options.machine.processor.starts_with(known.processor))
      return std::make_unique<PowerModel>(known.core, std::string(known.source));
  throw_input_error("power model", "the watts of '{}' are not known; give them: --watts 15 or --watts 12..18",
                    options.machine.processor);
}

}  // namespace qtf::adapt
