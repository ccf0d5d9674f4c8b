#include "manager/dispatcher/task_feed.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "manager/mutant.h"

namespace muster::manager::dispatcher {
namespace {

using google::protobuf::util::MessageDifferencer;

template <class Repeated>
bool same(const Repeated& a, const Repeated& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return MessageDifferencer::Equals(x, y); });
}

}  // namespace

bool is_assigned(const v1::Task& task) {
  return !task.node_id().empty() && task.status().state() >= v1::TASK_ASSIGNED;
}

namespace {

bool released(const v1::Task& task) {
  return task.has_drain() && task.endpoint_state() == v1::ENDPOINT_RELEASED;
}

}  // namespace

bool concerns_agent(const v1::Task& before, const v1::Task& after) {
  return before.desired_state() != after.desired_state() || before.revision() != after.revision() ||
         before.start_after_ns() != after.start_after_ns() || before.node_id() != after.node_id() ||
         before.has_drain() != after.has_drain() || released(before) != released(after) ||
         !is_assigned(before) || !same(before.networks(), after.networks()) ||
         !same(before.ports(), after.ports());
}

void add_task(const store::Snapshot& view, const v1::Task& task, SentTasks& sent,
              v1::FeedUpdate& step) {
  const std::string revision_id = store::revision_id(task.service_id(), task.revision());
  if (!sent.revisions.contains(revision_id)) {
    if (const auto revision = view.get<v1::Revision>(revision_id)) {
      *step.add_revisions() = *revision;
      sent.revisions.insert(revision_id);
    }
  }
  v1::TaskAssignment& assignment = *step.add_tasks();
  *assignment.mutable_task() = task;
  // The agent knows better; and a state with outputs of probes is large.
  assignment.mutable_task()->mutable_status()->clear_health();
  assignment.mutable_task()->clear_left();  // between the managers
  for (const auto& attachment : task.networks()) {
    if (const auto network = view.get<v1::Network>(attachment.network_id())) {
      *assignment.add_networks() = *network;
    }
  }
  sent.tasks.insert(task.id());
}

void add_removal(std::string_view task_id, SentTasks& sent, v1::FeedUpdate& step) {
  const auto it = sent.tasks.find(task_id);
  if (it == sent.tasks.end()) return;
  sent.tasks.erase(it);
  if (fault(ManagerMutant::kRemovalsUnsaid)) return;
  step.add_removed_task_ids(std::string(task_id));
}

v1::FeedUpdate complete_task_feed(const store::Snapshot& view, std::string_view node_id,
                                  SentTasks& sent) {
  sent = {};
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::TASKS);
  step.set_version(view.version());
  step.set_complete(true);
  view.tasks_of_node(node_id, [&](const store::Ptr<v1::Task>& task) {
    if (is_assigned(*task)) add_task(view, *task, sent, step);
    return true;
  });
  return step;
}

}  // namespace muster::manager::dispatcher
