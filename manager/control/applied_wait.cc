#include "manager/control/applied_wait.h"

#include <utility>

namespace muster::manager::control {

AppliedWait::AppliedWait(Executor& strand, store::Store& store) : strand_(strand), store_(store) {}

AppliedWait::~AppliedWait() {
  reached(UINT64_MAX);
}

void AppliedWait::wait(uint64_t version, UniqueFunction<void()> done) {
  if (store_.snapshot().version() >= version) return done();
  if (!std::exchange(watching_, true)) {
    subscription_ =
        store_.watch([this](const store::CommitEvent& event) { reached(event.version); });
  }
  const std::pair key(version, ++next_);
  Waiting& waiting = waiting_[key];
  waiting.done = std::move(done);
  waiting.timer = strand_.after(kLimit, [this, key] {
    auto taken = waiting_.extract(key);
    if (!taken.empty()) taken.mapped().done();
  });
}

void AppliedWait::reached(uint64_t version) {
  while (!waiting_.empty() && waiting_.begin()->first.first <= version) {
    auto taken = waiting_.extract(waiting_.begin());
    strand_.cancel(taken.mapped().timer);
    taken.mapped().done();
  }
}

}  // namespace muster::manager::control
