#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::manager::control {

struct AskLimits {
  Duration all;
  Duration each;  // one manager's share
  size_t attempts_max = 12;
};

// What another manager might answer differently.
inline bool worth_another(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kUnimplemented || status.reason() == "not-leader" ||
         status.reason() == "other-root";
}

// Asks one manager after the other, for threads that may wait: the first answer, or the first
// failure that is not worth another's answer, else the last failure. Whom an attempt names as the
// leader is asked next, twice at most. `failures` says what each came to: "address: why; ...".
//
// `attempt(address, deadline, leader)` ends by its deadline.
template <class Response, class Attempt>
Result<Response> ask_managers(const std::vector<std::string>& addresses, const AskLimits& limits,
                              const Attempt& attempt, std::string* failures = nullptr) {
  using Clock = std::chrono::steady_clock;  // whatever happens to the host's time meanwhile
  const auto end = Clock::now() + limits.all;
  std::deque<std::string> next(addresses.begin(), addresses.end());
  std::vector<std::string> asked;
  Status last = unavailable("no manager of the swarm is known");
  while (!next.empty() && asked.size() < limits.attempts_max && Clock::now() < end) {
    const std::string address = next.front();
    next.pop_front();
    asked.push_back(address);
    std::string leader;
    const Duration wait = std::min<Duration>(end - Clock::now(), limits.each);
    using CallClock = std::chrono::system_clock;  // gRPC's
    Result<Response> answer = attempt(
        address, CallClock::now() + std::chrono::duration_cast<CallClock::duration>(wait), leader);
    if (answer || !worth_another(answer.error())) return answer;
    last = answer.error();
    if (failures != nullptr) {
      *failures += (failures->empty() ? "" : "; ") + address + ": " + last.message();
    }
    if (!leader.empty() && std::count(asked.begin(), asked.end(), leader) < 2) {
      std::erase(next, leader);
      next.push_front(leader);
    }
  }
  return fail(last);
}

}  // namespace muster::manager::control
