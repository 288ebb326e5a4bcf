#include "qtf/adapt/powercap.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>

#include "qtf/base/error.h"

namespace qtf::adapt {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A package draws less than this, so that within range / kMostWatts a counter wraps at most once.
constexpr double kMostWatts = 1000;

// Counters move on about once a millisecond: either end of a span may miss as much.
constexpr double kUpdateSeconds = 1e-3;

// What the counters themselves may be off by. Comparisons with plug meters find a few percent (Khan et al.,
// "RAPL in action", 2018); we have no meter of our own.
constexpr double kCounterError = 0.05;

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// A whole number above or equal to 0; -1 if the file cannot be read or holds none.
int64_t read_number(const fs::path& file) {
  std::ifstream in(file);
  int64_t value = -1;
  in >> value;
  return in ? value : -1;
}

/// "package-0" of intel-rapl:0; of intel-rapl:0:1, which is "dram", "package-0 dram".
std::string domain_name(const fs::path& root, const fs::path& zone) {
  const std::string own = first_line(zone / "name"), id = zone.filename().string();
  const size_t last = id.rfind(':');
  if (std::count(id.begin(), id.end(), ':') < 2) return own;
  return first_line(root / id.substr(0, last) / "name") + " " + own;
}

/// Zones of the counters by which the processor's driver counts: the memory-mapped ones count the same again,
/// cores and graphics are parts of their package, and psys is the whole board.
bool is_counted(const fs::path& zone) {
  const std::string id = zone.filename().string(), name = first_line(zone / "name");
  return id.starts_with("intel-rapl:") && (name.starts_with("package") || name == "dram");
}

class PowercapMeter final : public EnergyMeter {
 public:
  explicit PowercapMeter(std::vector<PowercapDomain> domains)
      : domains_(std::move(domains)), before_(domains_.size()) {}

  std::string_view name() const override { return "rapl"; }
  EnergyTier tier() const override { return EnergyTier::measured; }
  std::string describe() const override {
    std::string names;
    for (const PowercapDomain& domain : domains_) names += (names.empty() ? "" : ", ") + domain.name;
    return "counters of " + names;
  }

  void start() override {
    for (size_t d = 0; d < domains_.size(); ++d) before_[d] = read(domains_[d]);
    begin_ = Clock::now();
  }

  Energy stop() override {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    int64_t microjoules = 0;
    for (size_t d = 0; d < domains_.size(); ++d) {
      const PowercapDomain& domain = domains_[d];
      const int64_t after = read(domain);
      if (seconds > static_cast<double>(domain.range_uj) * 1e-6 / kMostWatts)
        throw_io_error(domain.counter.string(),
                       "may have wrapped more than once in {:.0f} s; measure shorter", seconds);
      microjoules += counter_difference(before_[d], after, domain.range_uj);
    }
    if (microjoules == 0)
      throw_input_error("energy", "the counters did not move in {:.3f} ms; measure longer", 1e3 * seconds);
    const double joules = 1e-6 * static_cast<double>(microjoules);
    const double missed = std::min(1.0, 2 * kUpdateSeconds / std::max(seconds, kUpdateSeconds));
    const double error = joules * (missed + kCounterError);
    return {joules, std::max(0.0, joules - error), joules + error, EnergyTier::measured};
  }

 private:
  static int64_t read(const PowercapDomain& domain) {
    const int64_t value = read_number(domain.counter);
    if (value < 0 || value > domain.range_uj)
      throw_io_error(domain.counter.string(), "cannot be read any more, or is beyond {}", domain.range_uj);
    return value;
  }

  std::vector<PowercapDomain> domains_;
  std::vector<int64_t> before_;
  Clock::time_point begin_;
};

}  // namespace

std::vector<PowercapDomain> powercap_domains(const fs::path& root) {
  std::error_code error;
  std::vector<fs::path> zones;
  for (const auto& entry : fs::directory_iterator(root, error))
    if (is_counted(entry.path())) zones.push_back(entry.path());
  if (error)
    throw_input_error("rapl", "{} cannot be listed: {} (virtual machines have none)", root.string(),
                      error.message());
  if (zones.empty())
    throw_input_error("rapl", "{} has no counter of a package (virtual machines have none)", root.string());
  std::sort(zones.begin(), zones.end());
  std::vector<PowercapDomain> domains;
  for (const fs::path& zone : zones) {
    PowercapDomain domain{domain_name(root, zone), zone / "energy_uj",
                          read_number(zone / "max_energy_range_uj")};
    const int64_t now = read_number(domain.counter);
    if (now < 0)
      throw_input_error("rapl", "{} cannot be read; let an administrator run: chmod a+r {}",
                        domain.counter.string(), domain.counter.string());
    if (domain.range_uj < 1 || now > domain.range_uj)
      throw_input_error("rapl", "{} does not say where the counter wraps",
                        (zone / "max_energy_range_uj").string());
    domains.push_back(std::move(domain));
  }
  return domains;
}

int64_t counter_difference(int64_t before, int64_t after, int64_t range_uj) {
  return after >= before ? after - before : after + (range_uj - before) + 1;
}

std::unique_ptr<EnergyMeter> open_powercap(const MeterOptions& options) {
  return std::make_unique<PowercapMeter>(powercap_domains(options.powercap));
}

}  // namespace qtf::adapt
