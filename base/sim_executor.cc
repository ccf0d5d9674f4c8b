#include "base/sim_executor.h"

#include "base/check.h"

namespace muster {

bool SimWorld::step() {
  if (pending_.empty()) return false;
  auto first = pending_.begin();
  const TimePoint due = first->first.first;
  Item item = std::move(first->second);
  due_.erase(first->first.second);
  pending_.erase(first);
  if (due > now_) now_ = due;
  current_ = item.strand;
  item.run();
  item.run = nullptr;
  current_ = nullptr;
  return true;
}

void SimWorld::advance(Duration d) {
  const TimePoint end = now_ + d;
  while (!pending_.empty() && pending_.begin()->first.first <= end) step();
  now_ = end;
}

void SimWorld::settle(uint64_t limit) {
  while (!pending_.empty() && pending_.begin()->first.first <= now_) {
    MUSTER_CHECK(limit-- > 0, "the simulation does not settle");
    step();
  }
}

SimExecutor::~SimExecutor() {
  for (auto it = world_.pending_.begin(); it != world_.pending_.end();) {
    if (it->second.strand == this) {
      world_.due_.erase(it->first.second);
      it = world_.pending_.erase(it);
    } else {
      ++it;
    }
  }
}

Executor::TimerId SimExecutor::after(Duration delay, UniqueFunction<void()> f) {
  const uint64_t id = world_.next_++;
  const TimePoint due = delay.count() > 0 ? world_.now_ + delay : world_.now_;
  world_.pending_.emplace(SimWorld::Key{due, id}, SimWorld::Item{this, std::move(f)});
  world_.due_.emplace(id, due);
  return id;
}

void SimExecutor::cancel(TimerId timer) {
  const auto due = world_.due_.find(timer);
  if (due == world_.due_.end()) return;
  world_.pending_.erase({due->second, timer});
  world_.due_.erase(due);
}

}  // namespace muster
