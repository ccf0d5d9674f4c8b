#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::scheduler {

// Values by task id, where the value itself has the task (`V::task`, a pointer to something with an
// id()): a hash table with open addressing and no allocation per entry, since a round of placement
// is little else than looking up tasks. There is no order: for_each() is only for what does not
// depend on one.
//
// Pointers to values end with the next insertion or removal.
template <class V>
class TaskTable {
 public:
  size_t size() const { return size_; }

  // nullptr when there is none.
  V* find(std::string_view id) {
    const size_t at = locate(id, hash_of(id));
    return at == kNone ? nullptr : &slots_[at].value;
  }
  const V* find(std::string_view id) const { return const_cast<TaskTable*>(this)->find(id); }

  // `value.task` must be set, and its id not be in the table.
  V& insert(V value) {
    if ((size_ + 1) * 10 > slots_.size() * 7) grow();
    ++size_;
    const uint64_t hash = hash_of(value.task->id());
    return place(hash, std::move(value));
  }

  // False when there was none.
  bool erase(std::string_view id) {
    size_t hole = locate(id, hash_of(id));
    if (hole == kNone) return false;
    const size_t mask = slots_.size() - 1;
    // Moves later members of the run back, so that no search stops short at the hole.
    for (size_t at = (hole + 1) & mask; slots_[at].hash != 0; at = (at + 1) & mask) {
      const size_t home = slots_[at].hash & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      slots_[hole] = std::move(slots_[at]);
      hole = at;
    }
    slots_[hole] = Slot{};
    --size_;
    return true;
  }

  template <class F>
  void for_each(const F& f) {
    for (Slot& slot : slots_) {
      if (slot.hash != 0) f(slot.value);
    }
  }

 private:
  struct Slot {
    uint64_t hash = 0;  // 0 = empty
    V value;
  };
  static constexpr size_t kNone = SIZE_MAX;

  static uint64_t hash_of(std::string_view id) {
    const uint64_t hash = std::hash<std::string_view>()(id);
    return hash == 0 ? 1 : hash;
  }

  size_t locate(std::string_view id, uint64_t hash) const {
    if (slots_.empty()) return kNone;
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash & mask; slots_[at].hash != 0; at = (at + 1) & mask) {
      if (slots_[at].hash == hash && slots_[at].value.task->id() == id) return at;
    }
    return kNone;
  }

  V& place(uint64_t hash, V value) {
    const size_t mask = slots_.size() - 1;
    size_t at = hash & mask;
    while (slots_[at].hash != 0) at = (at + 1) & mask;
    slots_[at].hash = hash;
    slots_[at].value = std::move(value);
    return slots_[at].value;
  }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? 16 : slots_.size() * 2);
    std::swap(old, slots_);
    for (Slot& slot : old) {
      if (slot.hash != 0) place(slot.hash, std::move(slot.value));
    }
  }

  std::vector<Slot> slots_;  // a power of two of them, or none
  size_t size_ = 0;
};

}  // namespace muster::scheduler
