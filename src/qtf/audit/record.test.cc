#include "qtf/audit/record.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"

namespace qtf::audit {
namespace {

RecordFields sample_fields() {
  RecordFields fields;
  fields.data = R"({"a":"1"})";
  fields.index = 3;
  fields.kind = "decision.route";
  fields.previous[0] = 0xab;
  fields.run = "0123456789abcdef0123456789abcdef";
  fields.sequence = 9'000'000'000'000'000'000;
  fields.time_ns = 1'764'000'000'000'000'000;
  return fields;
}

bool parses(std::string_view bytes) {
  try {
    parse_record(bytes);
    return true;
  } catch (const InputError&) {
    return false;
  }
}

TEST(Record, ReadsWhatItWrites) {
  for (bool payload : {false, true}) {
    RecordFields fields = sample_fields();
    fields.has_payload = payload;
    if (payload) fields.payload[31] = 7;
    const std::string bytes = record_bytes(fields);
    const RecordFields back = parse_record(bytes);
    EXPECT_EQ(back.data, fields.data);
    EXPECT_EQ(back.index, fields.index);
    EXPECT_EQ(back.kind, fields.kind);
    EXPECT_EQ(back.has_payload, payload);
    EXPECT_EQ(back.payload, fields.payload);
    EXPECT_EQ(back.previous, fields.previous);
    EXPECT_EQ(back.run, fields.run);
    EXPECT_EQ(back.sequence, fields.sequence);
    EXPECT_EQ(back.time_ns, fields.time_ns);
    EXPECT_EQ(record_bytes(back), bytes);
  }
}

TEST(Record, EveryPrefixAndEveryExtensionIsRefused) {
  const std::string bytes = record_bytes(sample_fields());
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(parses(bytes.substr(0, n))) << n;
  for (const char* more : {" ", "}", "\n", "{}"}) EXPECT_FALSE(parses(bytes + more));
}

TEST(Record, WrongFieldsAreRefused) {
  const std::string good = record_bytes(sample_fields());
  ASSERT_TRUE(parses(good));
  const std::pair<std::string, std::string> changes[] = {
      {R"("index":"3")", R"("index":3)"},
      {R"("index":"3")", R"("index":"03")"},
      {R"("index":"3")", R"("index":"-3")"},
      {R"("index":"3")", R"("index":"")"},
      {R"("index":"3")", R"("index":"99999999999999999999")"},
      {R"({"a":"1"})", R"(["a"])"},
      {R"({"a":"1"})", R"({"a":null})"},
      {"decision.route", "Decision"},
      {"decision.route", ""},
      {"decision.route", std::string(65, 'a')},
      {R"("previous":"ab)", R"("previous":"AB)"},
      {R"("previous":"ab)", R"("previous":"abc)"},
      {R"("run":"01)", R"("run":"0g)"},
      {R"("run":"01)", R"("run":"1)"},
      {R"("kind":)", R"("payload":"12","kind":)"},
      {R"("previous")", R"("payload":"12","previous")"}};
  for (const auto& [from, to] : changes) {
    std::string bytes = good;
    const size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    EXPECT_FALSE(parses(bytes.replace(at, from.size(), to))) << bytes;
  }
}

TEST(Record, RunsHaveNamesOfTheirOwn) {
  EXPECT_EQ(new_run_name().size(), 32U);
  EXPECT_NE(new_run_name(), new_run_name());
}

}  // namespace
}  // namespace qtf::audit
