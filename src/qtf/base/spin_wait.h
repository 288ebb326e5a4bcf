// Waiting for a number that another thread changes: polls for a while, then sleeps.
#pragma once

#include <atomic>

namespace qtf {

/// Tells the processor that this is a polling loop.
inline void relax_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Returns once `value` is no longer `old`. Polls `spins` times before it sleeps until value.notify_all().
template <class V>
void wait_while_equal(const std::atomic<V>& value, V old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax_processor();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace qtf
