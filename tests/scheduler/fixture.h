#pragma once

#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/placement.h"

namespace muster::scheduler::testing {

inline void set_label(google::protobuf::RepeatedPtrField<v1::KeyValue>& list, std::string key,
                      std::string value) {
  auto& pair = *list.Add();
  pair.set_key(std::move(key));
  pair.set_value(std::move(value));
}

inline v1::Node ready_node(const std::string& id, int64_t nano_cpus = 0, int64_t memory = 0) {
  v1::Node node;
  node.set_id(id);
  node.mutable_meta()->set_version(1);
  node.mutable_status()->set_state(v1::NodeStatus::READY);
  node.mutable_description()->set_hostname("host-" + id);
  node.mutable_description()->mutable_platform()->set_os("linux");
  node.mutable_description()->mutable_platform()->set_architecture("x86_64");
  node.mutable_description()->mutable_resources()->set_nano_cpus(nano_cpus);
  node.mutable_description()->mutable_resources()->set_memory_bytes(memory);
  return node;
}

inline v1::Revision revision_of(const std::string& service, uint64_t number = 1) {
  v1::Revision revision;
  revision.set_id(service + "." + std::to_string(number));
  revision.set_service_id(service);
  revision.set_number(number);
  return revision;
}

inline v1::Task task_of(const std::string& service, uint64_t slot, uint64_t revision = 1) {
  v1::Task task;
  task.set_id(fmt::format("{}.{:06}", service, slot));
  task.mutable_meta()->set_version(1);
  task.set_service_id(service);
  task.set_slot(slot);
  task.set_revision(revision);
  task.set_desired_state(v1::TASK_RUNNING);
  task.mutable_status()->set_state(v1::TASK_PENDING);
  return task;
}

inline TaskPtr shared(v1::Task task) {
  return std::make_shared<const v1::Task>(std::move(task));
}

// A cluster without a store: puts objects in, runs rounds, reads who went where.
struct Cluster {
  ClusterState state;
  PendingQueue queue{state};
  Placer placer{state, queue};
  WallTime now{1'700'000'000'000'000'000};

  void put(const v1::Task& task) {
    auto one = shared(task);
    state.put_task(one);
    queue.put(one);
  }
  void pending(const std::string& service, uint64_t first, uint64_t last) {
    for (uint64_t slot = first; slot <= last; ++slot) put(task_of(service, slot));
  }
  void running(v1::Task task, const std::string& node) {
    task.set_node_id(node);
    task.mutable_status()->set_state(v1::TASK_RUNNING);
    put(task);
  }
  Plan round(size_t max_tasks = 1'000'000) {
    placer.wake();
    return placer.round(now, max_tasks);
  }
  // Node id to number of decisions.
  std::map<std::string, int> spread(const Plan& plan) const {
    std::map<std::string, int> count;
    for (const auto& d : plan.decisions) ++count[state.nodes()[d.node].facts.id];
    return count;
  }
  // The only reason of a plan that places nothing.
  std::string reason() {
    const Plan plan = round();
    if (!plan.decisions.empty()) return "placed";
    return plan.reasons.empty() ? "nothing to place" : plan.reasons.front();
  }
};

}  // namespace muster::scheduler::testing
