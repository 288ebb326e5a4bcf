// The two exceptions that qtf throws, and the assertion for broken invariants. Every layer uses them;
// programs catch them once, at their edge (cli/main.cc).
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace qtf {

/// Input that the caller can correct. The text names the place, what was expected, what came and what to do:
/// `[tt_round] max_rank must be positive, got 0`.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A failure of the environment: a file that cannot be read, a full disk, a corrupted file.
class IoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws InputError with `[place] message`.
template <class... Args>
[[noreturn]] void throw_input_error(std::string_view place, fmt::format_string<Args...> format,
                                    Args&&... args) {
  throw InputError(fmt::format("[{}] {}", place, fmt::format(format, std::forward<Args>(args)...)));
}

/// Throws IoError with `[place] message`.
template <class... Args>
[[noreturn]] void throw_io_error(std::string_view place, fmt::format_string<Args...> format, Args&&... args) {
  throw IoError(fmt::format("[{}] {}", place, fmt::format(format, std::forward<Args>(args)...)));
}

namespace internal {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}  // namespace internal

}  // namespace qtf

// A broken invariant: on in debug and test builds, never reachable by input.
#if defined(NDEBUG) && !defined(QTF_ENABLE_ASSERTS)
#define QTF_ASSERT(condition) ((void)0)
#else
#define QTF_ASSERT(condition) \
  ((condition) ? (void)0 : ::qtf::internal::assertion_failed(#condition, __FILE__, __LINE__))
#endif
