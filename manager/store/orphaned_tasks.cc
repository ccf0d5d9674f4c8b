#include "manager/store/orphaned_tasks.h"

#include <utility>
#include <vector>

namespace muster::manager::store {

Result<GivenUp> give_up_tasks(Transaction& tx, const std::string& node_id, const std::string& why,
                              const std::string& manager_id, size_t max) {
  GivenUp out;
  std::vector<v1::Task> changed;
  {
    const Snapshot view = tx.view();
    view.tasks_of_node(node_id, [&](const Ptr<v1::Task>& task) {
      const v1::TaskState state = task->status().state();
      if (state < v1::TASK_ASSIGNED || state > v1::TASK_RUNNING) return true;
      out.more = changed.size() == max;
      if (out.more) return false;
      v1::Task& next = changed.emplace_back(*task);
      v1::TaskStatus& status = *next.mutable_status();
      status.set_state(v1::TASK_ORPHANED);
      status.set_timestamp_ns(tx.now().unix_ns);
      status.set_message("given up");
      status.set_error(why);
      status.set_applied_by(manager_id);
      status.set_applied_at_ns(tx.now().unix_ns);
      next.set_endpoint_state(v1::ENDPOINT_ABSENT);
      return true;
    });
  }
  out.tasks = changed.size();
  for (v1::Task& task : changed) MUSTER_TRY(tx.update(std::move(task)));
  return out;
}

}  // namespace muster::manager::store
