#include "base/sim_executor.h"

#include "base/check.h"

namespace muster {

bool SimWorld::step() {
  if (pending_.empty()) return false;
  auto first = pending_.begin();
  const TimePoint due = first->first.first;
  const uint64_t id = first->first.second;
  Item item = std::move(first->second);
  due_.erase(id);
  pending_.erase(first);
  if (due > now_) now_ = due;
  if (item.strand->paused_) {
    item.strand->held_.emplace_back(id, std::move(item.run));
    return true;
  }
  current_ = item.strand;
  item.run();
  item.run = nullptr;
  current_ = nullptr;
  return true;
}

void SimWorld::advance(Duration d, uint64_t limit) {
  const TimePoint end = now_ + d;
  while (!pending_.empty() && pending_.begin()->first.first <= end) {
    MUSTER_CHECK(limit-- > 0, "the simulation goes round in circles");
    step();
  }
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
  if (due == world_.due_.end()) {
    std::erase_if(held_, [timer](const auto& held) { return held.first == timer; });
    return;
  }
  world_.pending_.erase({due->second, timer});
  world_.due_.erase(due);
}

void SimExecutor::resume() {
  paused_ = false;
  for (auto& [id, run] : std::exchange(held_, {})) {
    world_.pending_.emplace(SimWorld::Key{world_.now_, id}, SimWorld::Item{this, std::move(run)});
    world_.due_.emplace(id, world_.now_);
  }
}

}  // namespace muster
