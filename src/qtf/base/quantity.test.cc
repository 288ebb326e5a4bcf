#include "qtf/base/quantity.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"

namespace qtf {
namespace {

TEST(Quantity, ReadsNumbersWithAndWithoutUnits) {
  const std::tuple<const char*, Quantity, int64_t> cases[] = {{"2M", Quantity::count, 2'000'000},
                                                              {"950", Quantity::count, 950},
                                                              {"1.5k", Quantity::count, 1500},
                                                              {"3MB", Quantity::bytes, 3'000'000},
                                                              {"3MiB", Quantity::bytes, 3 << 20},
                                                              {"4096", Quantity::bytes, 4096},
                                                              {"50ms", Quantity::duration, 50'000'000},
                                                              {"50", Quantity::duration, 50'000'000},
                                                              {"0.05 s", Quantity::duration, 50'000'000},
                                                              {"250us", Quantity::duration, 250'000},
                                                              {"0.3J", Quantity::energy, 300'000'000},
                                                              {"0.3", Quantity::energy, 300'000'000},
                                                              {"300mJ", Quantity::energy, 300'000'000},
                                                              {"1e-3J", Quantity::energy, 1'000'000}};
  for (const auto& [text, quantity, value] : cases)
    EXPECT_EQ(parse_quantity(text, quantity, "--x"), value) << text;
}

std::string refusal(const char* text, Quantity quantity) {
  try {
    parse_quantity(text, quantity, "--max");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Quantity, RefusesWhatIsNoneNamingTheValue) {
  for (const Quantity quantity : {Quantity::count, Quantity::bytes, Quantity::duration, Quantity::energy})
    for (const char* text : {"", "abc", "nan", "inf", "-1", "0", "-0.5", "1 parsec", "1e300", "--1", "1,5"}) {
      const std::string said = refusal(text, quantity);
      EXPECT_TRUE(said.starts_with("[--max] ")) << text << ": " << said;
    }
}

TEST(Quantity, RefusesAnotherQuantitysUnitAndSaysWhatItMeasures) {
  EXPECT_NE(refusal("50J", Quantity::duration).find("'J' measures an energy"), std::string::npos);
  EXPECT_NE(refusal("50ms", Quantity::energy).find("'ms' measures a time"), std::string::npos);
  EXPECT_NE(refusal("3MB", Quantity::count).find("'MB' measures a size"), std::string::npos);
  EXPECT_NE(refusal("3M", Quantity::bytes).find("'M' measures a count"), std::string::npos);
  EXPECT_NE(refusal("0.1ns", Quantity::duration).find("too small"), std::string::npos);
}

TEST(Quantity, WritesTheUnitThatPeopleRead) {
  EXPECT_EQ(format_quantity(1'250'000, Quantity::count), "1.25 M");
  EXPECT_EQ(format_quantity(12'340'000, Quantity::duration), "12.34 ms");
  EXPECT_EQ(format_quantity(310'000'000, Quantity::energy), "0.31 J");
  EXPECT_EQ(format_quantity(5'012'345, Quantity::bytes), "5.01 MB");
}

}  // namespace
}  // namespace qtf
