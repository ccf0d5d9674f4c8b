#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "manager/store/transaction_impl.h"

namespace muster::manager::store {

// A transaction that waits for the entry it is part of, or has seen.
struct Waiter {
  Store::Done done;
  Commit commit;         // as it is when the entry is committed
  bool changed = false;  // has a part in the entry
};

// The entry being built, then in flight.
struct Flight {
  Flight(const State& base, WallTime now) : tx(base, now) {}

  Transaction::Impl tx;
  std::vector<AnyChange> changes;  // one per object, in the order of first touch
  size_t bytes = 0;
  std::vector<Waiter> waiters;

  // Takes over the changes of the transaction that just ran.
  void absorb();
  // Drops what cancelled itself out (created and removed in one entry).
  void finish();

 private:
  template <class C>
  void absorb_one(C& change);
  template <class C>
  bool is_first_touch(const C& change) const;
  void index_changes();

  // Where the change of an object is, made when an object is touched a second time: most entries
  // never need it, and its upkeep would cost as much as the rest of absorb().
  bool indexed_ = false;
  std::unordered_map<std::string, size_t> change_of_;
  bool removed_any_ = false;
};

}  // namespace muster::manager::store
