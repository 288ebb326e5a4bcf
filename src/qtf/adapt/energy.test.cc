#include "qtf/adapt/energy.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <thread>

#include "qtf/adapt/powercap.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::adapt {
namespace {

namespace fs = std::filesystem;

/// A powercap tree as a machine with two packages has it.
class FakePowercap {
 public:
  FakePowercap() {
    add("intel-rapl:0", "package-0", 1'000'000, 262'143'328'850);
    add("intel-rapl:0:0", "core", 500'000, 262'143'328'850);
    add("intel-rapl:0:1", "dram", 200'000, 65'712'999'613);
    add("intel-rapl:1", "package-1", 3'000'000, 262'143'328'850);
    add("intel-rapl:2", "psys", 9'000'000, 262'143'328'850);
    add("intel-rapl-mmio:0", "package-0", 1'000'000, 262'143'328'850);
  }
  fs::path root() const { return folder_.path(); }
  void add(const std::string& zone, const std::string& name, int64_t value, int64_t range) const {
    fs::create_directories(folder_ / zone);
    write(zone, "name", name);
    write(zone, "max_energy_range_uj", std::to_string(range));
    set(zone, value);
  }
  void set(const std::string& zone, int64_t value) const { write(zone, "energy_uj", std::to_string(value)); }
  void write(const std::string& zone, const std::string& file, const std::string& text) const {
    write_file_atomically(folder_ / zone / file, text + "\n");
  }
  MeterOptions options() const {
    MeterOptions options;
    options.powercap = root();
    return options;
  }

 private:
  TemporaryFolder folder_;
};

template <class Call>
std::string message(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(Powercap, CountsPackagesAndMemoryOnce) {
  const FakePowercap tree;
  std::vector<std::string> names;
  for (const PowercapDomain& domain : powercap_domains(tree.root())) names.push_back(domain.name);
  EXPECT_EQ(names, (std::vector<std::string>{"package-0", "package-0 dram", "package-1"}));
  const auto meter = open_meter("auto", tree.options());
  EXPECT_EQ(meter->name(), "rapl");
  EXPECT_EQ(meter->describe(), "counters of package-0, package-0 dram, package-1");
  meter->start();
  tree.set("intel-rapl:0", 3'000'000), tree.set("intel-rapl:0:1", 700'000);
  tree.set("intel-rapl:0:0", 1'500'000), tree.set("intel-rapl-mmio:0", 3'000'000);
  const Energy energy = meter->stop();
  EXPECT_DOUBLE_EQ(energy.joules, 2.5);
  EXPECT_EQ(energy.tier, EnergyTier::measured);
  EXPECT_GE(energy.low, 0);
  EXPECT_LT(energy.low, 2.5);
  EXPECT_GT(energy.high, 2.5);
}

TEST(Powercap, FollowsACounterThatWraps) {
  const FakePowercap tree;
  tree.set("intel-rapl:0", 262'143'328'849);
  const auto meter = open_meter("rapl", tree.options());
  meter->start();
  tree.set("intel-rapl:0", 1'499'998);
  EXPECT_DOUBLE_EQ(meter->stop().joules, 1.5);
  EXPECT_EQ(counter_difference(10, 10, 99), 0);
  EXPECT_EQ(counter_difference(99, 0, 99), 1);
}

TEST(Powercap, RefusesSpansInWhichACounterMayWrapTwice) {
  const FakePowercap tree;
  tree.add("intel-rapl:0", "package-0", 100, 1000);  // a millijoule: wraps in a microsecond
  const auto meter = open_meter("rapl", tree.options());
  meter->start();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_NE(message([&] { meter->stop(); }).find("wrapped more than once"), std::string::npos);
}

TEST(Powercap, SaysWhyAndWhatToDoWhereItCannotMeasure) {
  const FakePowercap tree;
  const auto opening = [&] { return message([&] { open_meter("rapl", tree.options()); }); };
  tree.write("intel-rapl:1", "max_energy_range_uj", "none");
  EXPECT_NE(opening().find("does not say where the counter wraps"), std::string::npos);
  tree.add("intel-rapl:1", "package-1", 3, 1000);
  tree.write("intel-rapl:1", "energy_uj", "");  // as an unreadable file gives no number
  EXPECT_NE(opening().find("chmod a+r"), std::string::npos);
  MeterOptions missing;
  missing.powercap = tree.root() / "none";
  EXPECT_NE(message([&] { open_meter("rapl", missing); }).find("cannot be listed"), std::string::npos);
  fs::create_directories(tree.root() / "empty");
  missing.powercap = tree.root() / "empty";
  EXPECT_NE(message([&] { open_meter("rapl", missing); }).find("has no counter"), std::string::npos);
}

TEST(Powercap, AMissingMeasurementIsAnErrorNotZero) {
  const FakePowercap tree;
  const auto meter = open_meter("rapl", tree.options());
  meter->start();
  EXPECT_NE(message([&] { meter->stop(); }).find("did not move"), std::string::npos);
  meter->start();
  tree.write("intel-rapl:0", "energy_uj", "");
  EXPECT_NE(message([&] { meter->stop(); }).find("cannot be read any more"), std::string::npos);
}

/// Keeps one core busy for so much of its time, however much of it others leave.
void spin(double processor_seconds) {
  const auto begin = std::clock();
  while (static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC < processor_seconds) continue;
}

TEST(PowerModel, CountsTheTimeThatCoresWereBusy) {
  MeterOptions options;
  options.machine.cores = 4, options.threads = 2;
  options.watts = parse_watts("20", "--watts");
  const auto meter = open_meter("auto", options);
  EXPECT_EQ(meter->tier(), EnergyTier::modelled);
  meter->start();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));  // idle: costs nothing
  spin(0.02);
  const Energy energy = meter->stop();
  EXPECT_GE(energy.joules, 10 * 0.005);
  EXPECT_LE(energy.joules, 10 * 0.05);
  EXPECT_NEAR(energy.low, 0.8 * energy.joules, 1e-12);
  EXPECT_NEAR(energy.high, 1.2 * energy.joules, 1e-12);
}

TEST(PowerModel, KnowsProcessorsAndAsksForTheWattsOfOthers) {
  MeterOptions options;
  options.powercap = "/nonexistent";
  options.machine.processor = "AMD EPYC 9654 96-Core Processor";
  EXPECT_NE(open_meter("auto", options)->describe().find("EPYC 9004"), std::string::npos);
  options.machine.processor = "abacus";
  const std::string said = message([&] { open_meter("auto", options); });
  EXPECT_NE(said.find("rapl: "), std::string::npos) << said;
  EXPECT_NE(said.find("--watts"), std::string::npos) << said;
  for (const KnownPower& known : known_powers()) {
    EXPECT_LT(0, known.core.low) << known.processor;
    EXPECT_LT(known.core.low, known.core.value) << known.processor;
    EXPECT_LT(known.core.value, known.core.high) << known.processor;
    EXPECT_FALSE(known.source.empty());
  }
}

TEST(Energy, ReadsWatts) {
  EXPECT_EQ(parse_watts("12..18", "--watts"), (Watts{15, 12, 18}));
  EXPECT_EQ(parse_watts("10W", "--watts").value, 10);
  for (const char* bad : {"", "0", "-3", "nan", "18..12", "12..", "..", "15J", "inf"})
    EXPECT_TRUE(message([&] { parse_watts(bad, "--watts"); }).starts_with("[--watts] ")) << bad;
}

TEST(Energy, NamesItsMeters) {
  const std::string said = message([] { open_meter("raple", {}); });
  EXPECT_NE(said.find("did you mean rapl?"), std::string::npos) << said;
  for (const MeterInfo& meter : meters()) EXPECT_NE(said.find(meter.name), std::string::npos);
}

TEST(Energy, CarbonIsEnergyTimesTheGridsIntensity) {
  EXPECT_DOUBLE_EQ(carbon_grams(3.6e6, 400), 400);
  for (const double bad : {0.0, -1.0, std::nan(""), double{INFINITY}})
    EXPECT_THROW(carbon_grams(1, bad), InputError);
}

/// The model against the counters, where there are any.
TEST(Energy, TheModelsIntervalHoldsTheCounters) {
  std::unique_ptr<EnergyMeter> counters, model;
  try {
    counters = open_meter("rapl", {}), model = open_meter("model", {});
  } catch (const InputError& error) {
    GTEST_SKIP() << error.what();
  }
  const auto watts_of = [&](EnergyMeter& meter) {
    meter.start();
    spin(0.5);
    return meter.stop().scaled(2);
  };
  counters->start();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double idle = counters->stop().joules * 2;
  const double added = watts_of(*counters).joules - idle;
  EXPECT_LE(added, watts_of(*model).high);
}

}  // namespace
}  // namespace qtf::adapt
