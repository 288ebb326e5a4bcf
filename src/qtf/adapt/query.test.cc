#include "qtf/adapt/query.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"

namespace qtf::adapt {
namespace {

TEST(Query, ReadsAndWritesItself) {
  EXPECT_EQ(parse_query("prompt=128,tokens=64"), (Query{128, 64}));
  EXPECT_EQ(parse_query("tokens=1k,prompt=1"), (Query{1, 1000}));
  EXPECT_EQ(parse_query(to_string({12, 34})), (Query{12, 34}));
}

TEST(Query, RefusesWhatIsNone) {
  for (const char* bad : {"", "128", "prompt=128", "tokens=64", "prompt=0,tokens=64", "prompt=128,tokens=0",
                          "prompt=-1,tokens=2", "prompt=1,prompt=2,tokens=1", "prompt=1,tokens=2,level=3",
                          "prompt=nan,tokens=1", "prompt=1;tokens=2", "prompt,tokens"})
    EXPECT_THROW(parse_query(bad), InputError) << bad;
}

}  // namespace
}  // namespace qtf::adapt
