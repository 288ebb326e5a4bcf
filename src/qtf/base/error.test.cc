#include "qtf/base/error.h"

#include <gtest/gtest.h>

namespace qtf {
namespace {

template <class Error, class Function>
std::string message_of(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(Error, TextNamesThePlace) {
  EXPECT_EQ(
      message_of<InputError>([] { throw_input_error("tt_round", "max_rank must be positive, got {}", 0); }),
      "[tt_round] max_rank must be positive, got 0");
  EXPECT_EQ(message_of<IoError>([] { throw_io_error("read", "{}: cut at byte {}", "x", 12); }),
            "[read] x: cut at byte 12");
}

TEST(Error, FailedAssertionNamesConditionAndLine) {
  const std::string text =
      message_of<std::logic_error>([] { internal::assertion_failed("a == b", "f.cc", 7); });
  EXPECT_EQ(text, "f.cc:7: assertion failed: a == b");
}

}  // namespace
}  // namespace qtf
