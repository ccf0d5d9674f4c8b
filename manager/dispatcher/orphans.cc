#include "manager/dispatcher/orphans.h"

#include <algorithm>
#include <utility>

#include "manager/store/orphaned_tasks.h"

namespace muster::manager::dispatcher {

Orphans::Orphans(Executor& strand, store::Store& store, std::string manager_id, Log log)
    : strand_(strand), store_(store), manager_id_(std::move(manager_id)), log_(std::move(log)) {}

Orphans::~Orphans() {
  clear();
}

void Orphans::node_down(const std::string& node_id, WallTime since) {
  arm(node_id, std::max(Duration(0), since + kAfter - strand_.clock().wall_now()));
}

void Orphans::node_back(const std::string& node_id) {
  const auto it = timers_.find(node_id);
  if (it == timers_.end()) return;
  strand_.cancel(it->second);
  timers_.erase(it);
}

void Orphans::clear() {
  for (const auto& [node_id, timer] : timers_) strand_.cancel(timer);
  timers_.clear();
}

void Orphans::arm(const std::string& node_id, Duration delay) {
  node_back(node_id);
  timers_[node_id] = strand_.after(delay, [this, node_id] { give_up(node_id); });
}

void Orphans::give_up(const std::string& node_id) {
  const auto more = std::make_shared<bool>(false);
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [this, alive, node_id, more](store::Transaction& tx) -> Status {
        // Back, or not ours to say any more.
        if (alive.expired() || !timers_.contains(node_id)) return ok_status();
        return write(tx, node_id, more.get());
      },
      [this, alive, node_id, more](const store::Commit& commit) {
        if (alive.expired() || !timers_.contains(node_id)) return;
        if (commit.status.ok() && !*more) {
          timers_.erase(node_id);
        } else {
          arm(node_id, commit.status.ok() ? Duration(0) : kRetryDelay);
        }
      });
}

Status Orphans::write(store::Transaction& tx, const std::string& node_id, bool* more) const {
  *more = false;
  const auto node = tx.view().get<v1::Node>(node_id);
  if (node == nullptr || node->status().state() != v1::NodeStatus::DOWN) return ok_status();
  MUSTER_ASSIGN(const store::GivenUp given_up,
                store::give_up_tasks(tx, node_id, "the node has been down for a day", manager_id_,
                                     kTasksMax));
  *more = given_up.more;
  if (given_up.tasks > 0) {
    log_->warn("{} tasks of node {} are given up: it has been down for a day", given_up.tasks,
               node_id);
  }
  return ok_status();
}

}  // namespace muster::manager::dispatcher
