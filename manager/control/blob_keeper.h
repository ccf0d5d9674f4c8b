#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::control {

// Sees to it that a payload without an owner does not stay: what a crash, a conflict or a lost
// leadership leaves between the two entries of a creation. Looks at the whole state, when asked and
// when a commit brings a blob that nobody here is about to refer to; removes only while this
// manager leads.
//
// The window between the entries: the two steps of a creation belong to one leader, which knows
// what it has begun, so nothing of its own is taken for left over; and what an earlier leader had
// begun, that one cannot complete any more. Besides, the second entry checks that the blob is
// there.
//
// Lives on the store's strand, which outlives it, as does the store.
class BlobKeeper {
 public:
  BlobKeeper(Executor& strand, store::Store& store, Log log);
  ~BlobKeeper();
  BlobKeeper(const BlobKeeper&) = delete;
  BlobKeeper& operator=(const BlobKeeper&) = delete;

  // A creation that uses the blob begins and has ended, in whatever way.
  void begin(const std::string& blob_id);
  void end(const std::string& blob_id, bool owned);
  // Looks soon.
  void look();

 private:
  static constexpr size_t kBlobsMax = 1'000;  // of one write

  void on_commit(const store::CommitEvent& event);
  std::set<std::string> unowned(const store::Snapshot& state) const;
  void collect();
  void collected(const Status& status, bool more);

  Executor& strand_;
  store::Store& store_;
  Log log_;
  std::set<std::string> begun_;
  bool busy_ = false;   // a look is posted, a write under way, or its repetition waits
  bool again_ = false;  // asked to look meanwhile
  Backoff backoff_{100ms, 5s};
  Executor::TimerId retry_ = 0;
  store::Store::Subscription subscription_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::control
