#include "tests/sim/sim_probes.h"

#include <variant>

namespace muster::sim {

namespace store = manager::store;

const std::vector<std::string_view>& important_probes() {
  static const std::vector<std::string_view> kProbes = {
      "leader changed",
      "leader lost in the middle of a write",
      "leadership handed over",
      "manager killed",
      "manager stopped in order",
      "manager read its snapshot at start",
      "manager lost its disk",
      "manager demoted",
      "manager promoted",
      "member removed",
      "member with an empty disk joined",
      "snapshot taken",
      "snapshot sent whole",
      "snapshot loaded while running",
      "log cut back",
      "clock stepped",
      "disk full",
      "disk stuck",
      "write refused by a full disk",
      "outcome unknown to the client",
      "request repeated and found done",
      "read confirmed by a quorum",
      "read refused",
      "agent killed in the middle of a step",
      "agent lost a record in a power cut",
      "container adopted",
      "container killed after its grace",
      "container found ill",
      "connections waited for",
      "network forgotten",
      "key of encrypted networks used",
      "network step failed",
      "network grown",
      "task connected",
      "task disconnected",
      "container reconnected",
      "reconnection failed",
      "pull cancelled",
      "node joined with a token",
      "join refused: the token was rotated",
      "certificate renewed",
      "root rotated to the end",
      "node removed",
      "intruder refused for the node's removal",
      "node lost",
      "node back",
      "node drained",
      "task failed",
      "task rejected",
      "task moved off a lost node",
      "task waits for room",
      "update completed",
      "update paused",
      "update rolled back",
      "job completed",
      "job failed",
      "service removed",
      "secret removed",
      "network removed",
  };
  return kProbes;
}

void Probes::add(const Probes& others) {
  for (const auto& [name, count] : others.counts_) counts_[name] += count;
}

std::vector<std::string> Probes::missing() const {
  std::vector<std::string> out;
  for (const std::string_view name : important_probes()) {
    const auto found = counts_.find(std::string(name));
    if (found == counts_.end() || found->second == 0) out.emplace_back(name);
  }
  return out;
}

void Probes::on_task(const store::Change<v1::Task>& change) {
  if (change.after == nullptr) return;
  const auto before = change.before == nullptr ? v1::TASK_NEW : change.before->status().state();
  const v1::TaskStatus& status = change.after->status();
  if (status.state() != before) {
    if (status.state() == v1::TASK_FAILED) hit("task failed");
    if (status.state() == v1::TASK_REJECTED) hit("task rejected");
    if (status.state() == v1::TASK_ORPHANED) hit("task orphaned");
  }
  if (status.state() == v1::TASK_PENDING && !status.error().empty() &&
      (change.before == nullptr || change.before->status().error().empty())) {
    hit("task waits for room");
  }
}

void Probes::on_service(const store::Change<v1::Service>& change) {
  if (change.after == nullptr) return hit("service removed");
  if (change.before == nullptr) return;
  const auto from = change.before->update_status().state();
  const auto to = change.after->update_status().state();
  if (from != to) {
    if (to == v1::UpdateStatus::COMPLETED) hit("update completed");
    if (to == v1::UpdateStatus::PAUSED) hit("update paused");
    if (to == v1::UpdateStatus::ROLLBACK_COMPLETED) hit("update rolled back");
  }
  const auto job = change.after->job_status().state();
  if (job != change.before->job_status().state()) {
    if (job == v1::JobStatus::COMPLETED) hit("job completed");
    if (job == v1::JobStatus::FAILED) hit("job failed");
  }
}

void Probes::on_node(const store::Change<v1::Node>& change) {
  if (change.before == nullptr || change.after == nullptr) return;
  const auto from = change.before->status().state();
  const auto to = change.after->status().state();
  if (from != to && to == v1::NodeStatus::DOWN) hit("node lost");
  if (from == v1::NodeStatus::DOWN && to == v1::NodeStatus::READY) hit("node back");
  if (change.before->spec().availability() != v1::NodeSpec::DRAIN &&
      change.after->spec().availability() == v1::NodeSpec::DRAIN) {
    hit("node drained");
  }
  if (change.before->role() != change.after->role()) {
    hit(change.after->role() == v1::NodeSpec::MANAGER ? "manager promoted" : "manager demoted");
  }
}

void Probes::on_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* task = std::get_if<store::Change<v1::Task>>(&any)) {
      on_task(*task);
      const auto& [before, after] = *task;
      const bool taken = before != nullptr && after != nullptr && !after->node_id().empty() &&
                         before->desired_state() <= v1::TASK_RUNNING &&
                         after->desired_state() > v1::TASK_RUNNING;
      if (taken) {
        const auto node = event.after.get<v1::Node>(after->node_id());
        if (node != nullptr && node->status().state() == v1::NodeStatus::DOWN) {
          hit("task moved off a lost node");
        }
      }
    } else if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      on_service(*service);
    } else if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      on_node(*node);
    } else if (const auto* secret = std::get_if<store::Change<v1::Secret>>(&any)) {
      if (secret->after == nullptr) hit("secret removed");
    } else if (const auto* network = std::get_if<store::Change<v1::Network>>(&any)) {
      if (network->after == nullptr) hit("network removed");
    } else if (const auto* cluster = std::get_if<store::Change<v1::Cluster>>(&any)) {
      const int count = cluster->after == nullptr ? 0 : cluster->after->network_keys_size();
      if (count > 1 && cluster->after->network_keys(count - 1).used_from_ns() != 0) {
        hit("key of encrypted networks used");
      }
    }
  }
}

}  // namespace muster::sim
