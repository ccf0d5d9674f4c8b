#pragma once

#include "base/status.h"

namespace muster::deploy::cli {

// Requests that carry an id under which the manager remembers what became of them: they may be sent
// again without being done twice.
template <class Request>
concept Repeatable = requires(Request request) {
  request.mutable_request_id();
};

// Whether a change may have happened although there is no good answer: leadership was lost while
// it was written, or musterd went away before it answered.
inline bool is_uncertain(const Status& status) {
  return status.reason() == "outcome-unknown" || status.reason() == "connection-lost";
}

inline constexpr int kRepeatsMax = 5;

// `once()` sends the request; `back(why)` waits until there is somebody to ask again, false when
// that takes too long or is of no use. Only what had an uncertain answer is repeated, and from then
// on also while there is nobody to ask. What stays uncertain says so.
template <class Once, class Back>
auto repeat_uncertain(Once once, Back back) -> decltype(once()) {
  auto answer = once();
  if (answer || !is_uncertain(answer.error())) return answer;
  for (int repeats = 0; repeats < kRepeatsMax && back(answer.error()); ++repeats) {
    answer = once();
    const bool nobody = !answer && answer.error().code() == StatusCode::kUnavailable;
    if (answer || !(nobody || is_uncertain(answer.error()))) return answer;
  }
  const Status& last = answer.error();
  if (last.reason() == "outcome-unknown") return answer;  // it says so
  return fail(last.code(), last.message() + "; the change may or may not have happened",
              "outcome-unknown");
}

}  // namespace muster::deploy::cli
