#include "qtf/base/error.h"

namespace qtf::internal {

void assertion_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(fmt::format("{}:{}: assertion failed: {}", file, line, condition));
}

}  // namespace qtf::internal
