#pragma once

#include <cstdint>

namespace muster::scheduler {

// As manager/mutant.h, for the scheduler.
enum class SchedulerMutant : uint8_t {
  kNone,
  kReservationsIgnored,  // a task takes no room
  kEnd,
};

#ifdef MUSTER_MUTANTS
extern SchedulerMutant active_scheduler_mutant;
inline bool fault(SchedulerMutant mutant) {
  return mutant == active_scheduler_mutant;
}
#else
constexpr bool fault(SchedulerMutant) {
  return false;
}
#endif

}  // namespace muster::scheduler
