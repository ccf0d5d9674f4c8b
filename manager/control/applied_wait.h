#pragma once

#include <map>

#include "base/executor.h"
#include "base/unique_function.h"
#include "manager/store/store.h"

namespace muster::manager::control {

// Requests that the leader has answered and that wait until this manager's own store has what they
// changed, so that who asked finds it here. Lives on the store's strand; the store outlives it.
//
// Bounds: each waits for kLimit at most.
class AppliedWait {
 public:
  static constexpr Duration kLimit = 2s;

  AppliedWait(Executor& strand, store::Store& store);
  ~AppliedWait();

  // `done` runs when the store is at `version`, or after kLimit, or when this goes away; from
  // inside the call when the store is there already.
  void wait(uint64_t version, UniqueFunction<void()> done);

 private:
  struct Waiting {
    UniqueFunction<void()> done;
    Executor::TimerId timer = 0;
  };
  void reached(uint64_t version);

  Executor& strand_;
  store::Store& store_;
  store::Store::Subscription subscription_;  // from the first that waits on
  bool watching_ = false;
  std::map<std::pair<uint64_t, uint64_t>, Waiting> waiting_;  // by version, then number
  uint64_t next_ = 0;
};

}  // namespace muster::manager::control
