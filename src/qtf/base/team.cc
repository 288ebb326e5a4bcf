#include "qtf/base/team.h"

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/base/spin_wait.h"

namespace qtf {

void Team::barrier() {
  // The phase cannot move on before this member arrives, unless the team was abandoned; whoever sees the
  // phase that abandon() set sees its flag too.
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (abandoned_.load(std::memory_order_acquire)) throw Abandoned{};
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_acq_rel);
    phase_.notify_all();
  } else {
    const ProfileScope scope(kProfileWaiting);
    wait_while_equal(phase_, phase, pool_.spins());
  }
  if (abandoned_.load(std::memory_order_acquire)) throw Abandoned{};
}

void Team::abandon() {
  abandoned_.store(true, std::memory_order_release);
  phase_.fetch_add(1, std::memory_order_acq_rel);
  phase_.notify_all();
}

void Team::run(const std::function<void(TeamMember&)>& job, int members) {
  QTF_ASSERT(members >= 0 && members <= size());
  members_ = members ? members : size();
  if (members_ == 1) {
    TeamMember alone;
    return job(alone);
  }
  arrived_.store(0, std::memory_order_relaxed);
  abandoned_.store(false, std::memory_order_relaxed);
  pool_.run([&](int worker) {
    if (worker >= members_) return;
    TeamMember member(*this, worker, members_);
    try {
      job(member);
    } catch (const Abandoned&) {
    } catch (...) {
      abandon();
      throw;
    }
  });
}

}  // namespace qtf
