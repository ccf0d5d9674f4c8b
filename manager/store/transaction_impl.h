#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "manager/store/state.h"
#include "manager/store/store.h"

namespace muster::manager::store {

// The state an entry is being built on, shared by the transactions of that entry. They edit it in
// place; a transaction that fails is undone from `changes`.
struct Transaction::Impl {
  Impl(const State& base, WallTime wall_now)
      : working(std::make_shared<State>(base)),
        token(next_edit_token()),
        now(wall_now),
        version(base.version + 1) {}

  // The working state, safe to change: when a view() of it is still held somewhere, a copy of it.
  State& edit() {
    if (working.use_count() > 1) {
      working = std::make_shared<State>(*working);
      token = next_edit_token();
    }
    // Pairs with the release of a view dropped by another thread.
    std::atomic_thread_fence(std::memory_order_acquire);
    return *working;
  }

  template <class T>
  void apply(Ptr<T> before, Ptr<T> after) {
    edit().replace(token, before, after);
    changes.emplace_back(Change<T>{std::move(before), std::move(after)});
  }

  // Undoes everything since construction or the last clear of `changes`.
  void undo() {
    State& state = edit();
    while (!changes.empty()) {
      state.undo(token, changes.back());
      changes.pop_back();
    }
  }

  std::shared_ptr<State> working;
  uint64_t token;
  WallTime now;
  // What meta.version of written objects is until the entry's index is known: above every version
  // committed so far, so that a stale object never passes for a fresh one.
  uint64_t version;
  // Of the transaction that runs now, every single one in order.
  std::vector<AnyChange> changes;
};

}  // namespace muster::manager::store
