#include "manager/store/flight.h"

#include <type_traits>
#include <utility>
#include <variant>

namespace muster::manager::store {
namespace {

template <class C>
std::string key_of(const C& change) {
  const auto& object = change.after != nullptr ? *change.after : *change.before;
  std::string key(1, static_cast<char>(TableTraits<std::remove_cvref_t<decltype(object)>>::kTable));
  return key + object.id();
}

}  // namespace

// What this entry wrote carries its provisional version, which is above all committed ones. A
// creation can only be the second touch of an object that was removed before.
template <class C>
bool Flight::is_first_touch(const C& change) const {
  if (change.before == nullptr) return !removed_any_;
  return change.before->meta().version() != tx.version;
}

void Flight::index_changes() {
  if (std::exchange(indexed_, true)) return;
  for (size_t at = 0; at < changes.size(); ++at) {
    std::visit([&](const auto& c) { change_of_.emplace(key_of(c), at); }, changes[at]);
  }
}

template <class C>
void Flight::absorb_one(C& change) {
  const bool removal = change.after == nullptr;
  if (is_first_touch(change)) {
    if (indexed_) change_of_.emplace(key_of(change), changes.size());
    changes.emplace_back(std::move(change));
  } else {
    index_changes();
    const auto [at, fresh] = change_of_.try_emplace(key_of(change), changes.size());
    if (fresh) {
      changes.emplace_back(std::move(change));
    } else {
      std::get<C>(changes[at->second]).after = std::move(change.after);
    }
  }
  removed_any_ = removed_any_ || removal;
}

void Flight::absorb() {
  for (AnyChange& change : tx.changes) {
    std::visit([&](auto& c) { absorb_one(c); }, change);
  }
  tx.changes.clear();
}

void Flight::finish() {
  std::erase_if(changes, [](const AnyChange& change) {
    return std::visit([](const auto& c) { return c.before == nullptr && c.after == nullptr; },
                      change);
  });
}

}  // namespace muster::manager::store
