#include "manager/dispatcher/departures.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace muster::manager::dispatcher {
namespace {

bool departs(const v1::Task& task) {
  return !task.left().empty() && !task.node_id().empty() &&
         task.status().state() < v1::TASK_COMPLETE;
}

bool same(const v1::NetworkAttachment& a, const v1::NetworkAttachment& b) {
  return a.network_id() == b.network_id() && std::equal(a.addresses().begin(), a.addresses().end(),
                                                        b.addresses().begin(), b.addresses().end());
}

template <class List>
bool has(const List& list, const v1::NetworkAttachment& wanted) {
  return std::any_of(list.begin(), list.end(),
                     [&](const auto& each) { return same(each, wanted); });
}

// Whether the task has left more than before.
bool has_left_more(const v1::Task* before, const v1::Task& after) {
  return before == nullptr ||
         std::any_of(after.left().begin(), after.left().end(),
                     [&](const auto& each) { return !has(before->left(), each); });
}

}  // namespace

Departures::Departures(Executor& strand, store::Store& store, Log log)
    : strand_(strand), store_(store), log_(std::move(log)) {}

Departures::~Departures() {
  strand_.cancel(retry_);
}

// All sessions begin anew with a leader, and with all that is so by now.
void Departures::start(const store::Snapshot& view) {
  view.tasks_in_state(v1::TASK_RUNNING, [&](const store::Ptr<v1::Task>& task) {
    if (departs(*task)) awaited_[task->node_id()][task->id()] = view.version();
    return true;
  });
}

void Departures::clear() {
  ++term_;
  awaited_.clear();
  due_.clear();
  strand_.cancel(retry_);
  writing_ = false;
  backoff_.reset();
}

void Departures::forget(const v1::Task& task) {
  due_.erase(task.id());
  const auto node = awaited_.find(task.node_id());
  if (node == awaited_.end()) return;
  node->second.erase(task.id());
  if (node->second.empty()) awaited_.erase(node);
}

void Departures::follow(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr) continue;
    const auto& [before, after] = *change;
    if (after != nullptr && departs(*after)) {
      if (!has_left_more(before.get(), *after)) continue;
      due_.erase(after->id());
      awaited_[after->node_id()][after->id()] = event.version;
    } else if (before != nullptr && departs(*before)) {
      forget(*before);
    }
  }
}

void Departures::acknowledged(const std::string& node_id, uint64_t version) {
  const auto node = awaited_.find(node_id);
  if (node == awaited_.end()) return;
  const store::Snapshot view = store_.snapshot();
  for (auto at = node->second.begin(); at != node->second.end();) {
    if (version < at->second) {
      ++at;
      continue;
    }
    // What it leaves from now on is for another acknowledgement.
    if (const auto task = view.get<v1::Task>(at->first)) {
      due_.insert_or_assign(task->id(), Left(task->left().begin(), task->left().end()));
    }
    at = node->second.erase(at);
  }
  if (node->second.empty()) awaited_.erase(node);
  flush();
}

void Departures::flush() {
  if (writing_ || due_.empty()) return;
  writing_ = true;
  auto taken = std::make_shared<Due>();
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [this, alive, taken, term = term_](store::Transaction& tx) -> Status {
        if (alive.expired() || term != term_) return ok_status();
        return write(tx, *taken);
      },
      [this, alive, taken, term = term_](const store::Commit& commit) {
        if (!alive.expired() && term == term_) written(*taken, commit.status);
      });
}

// The store may run the transaction twice, so what was taken stays so.
Status Departures::write(store::Transaction& tx, Due& taken) {
  std::vector<v1::Task> changed;
  {
    const store::Snapshot view = tx.view();
    size_t bytes = 0;
    const auto take = [&](const std::string& task_id, const Left& left) {
      const auto stored = view.get<v1::Task>(task_id);
      if (stored == nullptr || !departs(*stored)) return;
      v1::Task next = *stored;
      auto& all = *next.mutable_left();
      all.erase(
          std::remove_if(all.begin(), all.end(), [&](const auto& each) { return has(left, each); }),
          all.end());
      if (all.size() == stored->left().size()) return;
      bytes += next.ByteSizeLong();
      changed.push_back(std::move(next));
    };
    for (const auto& [task_id, left] : taken) take(task_id, left);
    while (!due_.empty() && taken.size() < kTasksMax && bytes < kBytesMax) {
      const auto added = taken.insert(due_.extract(due_.begin())).position;
      take(added->first, added->second);
    }
  }
  for (v1::Task& task : changed) MUSTER_TRY(tx.update(std::move(task)));
  return ok_status();
}

void Departures::written(Due& taken, const Status& status) {
  if (status.ok()) {
    writing_ = false;
    backoff_.reset();
    return flush();
  }
  due_.merge(taken);  // what waits is newer
  if (backoff_.fresh()) {
    log_->warn("addresses of networks that were left were not freed, trying again: {}",
               status.message());
  }
  const std::weak_ptr<int> alive = alive_;
  retry_ = strand_.after(backoff_.next(), [this, alive] {
    if (alive.expired()) return;
    writing_ = false;
    flush();
  });
}

}  // namespace muster::manager::dispatcher
