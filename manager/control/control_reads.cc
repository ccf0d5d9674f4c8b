#include <algorithm>
#include <map>
#include <set>
#include <variant>
#include <vector>

#include "manager/ca/root.h"
#include "manager/control/access.h"
#include "manager/control/connections.h"
#include "manager/control/control_api.h"
#include "manager/control/data_paths.h"
#include "manager/control/explain.h"
#include "manager/control/filter.h"
#include "manager/control/redact.h"
#include "manager/control/standing.h"
#include "manager/control/watch_events.h"
#include "manager/members/group_facts.h"
#include "manager/store/job_status.h"

namespace muster::manager::control {
namespace {

v1::ServiceStatus count_job_tasks(const store::Snapshot& state, const v1::Service& service) {
  v1::ServiceStatus status;
  uint64_t running = 0;
  uint64_t meant = 0;
  std::set<std::string> completed;  // by name: a slot or node completes once
  state.tasks_of_service(service.id(), [&](const auto& task) {
    if (task->job_iteration() != service.job_status().iteration()) return true;
    const v1::TaskState is = task->status().state();
    if (is == v1::TASK_COMPLETE) completed.insert(task->name());
    if (task->desired_state() > v1::TASK_COMPLETE || is >= v1::TASK_COMPLETE) return true;
    ++meant;
    if (is == v1::TASK_RUNNING) ++running;
    return true;
  });
  const v1::ReplicatedJob& job = service.spec().replicated_job();
  const uint64_t most = job.max_concurrent() == 0 ? job.total_completions() : job.max_concurrent();
  status.set_running_tasks(running);
  status.set_desired_tasks(service.spec().has_replicated_job() ? most : meant);
  status.set_completed_tasks(completed.size() +
                             store::slots_in(service.job_status().collected_completed()));
  status.set_failed_tasks(service.job_status().failed());
  return status;
}

v1::ServiceStatus count_tasks(const store::Snapshot& state, const v1::Service& service) {
  if (store::is_job(service.spec())) return count_job_tasks(state, service);
  v1::ServiceStatus status;
  uint64_t running = 0;
  uint64_t meant = 0;
  uint64_t completed = 0;
  state.tasks_of_service(service.id(), [&](const auto& task) {
    const bool wanted = task->desired_state() <= v1::TASK_RUNNING;
    if (wanted) ++meant;
    if (wanted && task->status().state() == v1::TASK_RUNNING) ++running;
    if (task->status().state() == v1::TASK_COMPLETE) ++completed;
    return true;
  });
  status.set_running_tasks(running);
  status.set_completed_tasks(completed);
  status.set_desired_tasks(service.spec().has_replicated() ? service.spec().replicated().replicas()
                                                           : meant);
  return status;
}

v1::GetServiceResponse describe(const store::Snapshot& state, const v1::Service& service) {
  v1::GetServiceResponse response;
  *response.mutable_service() = service;
  redact(*response.mutable_service());
  *response.mutable_status() = count_tasks(state, service);
  return response;
}

void describe(v1::Node& node, const std::optional<raft::GroupView>& group,
              const members::IsManager& is_manager, const std::string& self) {
  if (group) return members::describe_manager(node, *group, is_manager);
  // The only manager is the one that answers.
  if (node.has_manager_status()) node.mutable_manager_status()->set_leader(node.id() == self);
}

// What it waits for is worked out by who is asked: nothing follows from it.
void say_what_it_waits_for(const store::Snapshot& state, v1::Task& task) {
  const std::string waits = waits_for(state, task);
  if (waits.empty()) return;
  std::string& error = *task.mutable_status()->mutable_error();
  error += (error.empty() ? "" : "; ") + waits;
}

// Visits as few tasks as the filter's indexes allow.
void each_task(const store::Snapshot& state, const v1::ListFilter& filter,
               const store::Snapshot::Visit<v1::Task>& visit) {
  if (!filter.service_ids().empty()) {
    const std::set<std::string> ids(filter.service_ids().begin(), filter.service_ids().end());
    for (const std::string& id : ids) state.tasks_of_service(id, visit);
  } else if (!filter.node_ids().empty()) {
    const std::set<std::string> ids(filter.node_ids().begin(), filter.node_ids().end());
    for (const std::string& id : ids) state.tasks_of_node(id, visit);
  } else {
    state.each<v1::Task>(visit);
  }
}

bool before(const store::Ptr<v1::Task>& a, const store::Ptr<v1::Task>& b) {
  const auto key = [](const v1::Task& t) {
    return std::tuple(std::string_view(t.service_id()), t.slot(),
                      t.slot() == 0 ? std::string_view(t.name()) : std::string_view(),
                      -t.meta().created_at_ns(), std::string_view(t.id()));
  };
  return key(*a) < key(*b);
}

}  // namespace

Result<v1::GetClusterResponse> ControlApi::get_cluster(const Principal& principal,
                                                       const v1::GetClusterRequest&) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetCluster", principal));
  const auto cluster = state.cluster();
  if (cluster == nullptr) return fail(not_found("there is no cluster"));
  v1::GetClusterResponse response;
  *response.mutable_cluster() = *cluster;
  redact(*response.mutable_cluster());
  for (std::string& name : ca::nodes_to_renew(state)) response.add_nodes_to_renew(std::move(name));
  return response;
}

Result<v1::GetServiceResponse> ControlApi::get_service(const Principal& principal,
                                                       const v1::GetServiceRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetService", principal));
  MUSTER_ASSIGN(const auto service, state.resolve<v1::Service>(r.service()));
  return describe(state, *service);
}

Result<v1::ExplainServiceResponse> ControlApi::explain_service(
    const Principal& principal, const v1::ExplainServiceRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ExplainService", principal));
  MUSTER_ASSIGN(const auto service, state.resolve<v1::Service>(r.service()));
  auto response = control::explain_service(state, *service, strand_.clock().wall_now());
  redact(*response.mutable_service());
  return response;
}

Result<v1::ListServicesResponse> ControlApi::list_services(const Principal& principal,
                                                           const v1::ListServicesRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListServices", principal));
  std::vector<store::Ptr<v1::Service>> found;
  state.each<v1::Service>([&](const auto& service) {
    if (passes(r.filter(), *service)) found.push_back(service);
    return true;
  });
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a->spec().annotations().name() < b->spec().annotations().name();
  });
  v1::ListServicesResponse response;
  response.set_version(state.version());
  for (const auto& service : found) *response.add_services() = describe(state, *service);
  return response;
}

Result<v1::GetTaskResponse> ControlApi::get_task(const Principal& principal,
                                                 const v1::GetTaskRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetTask", principal));
  MUSTER_ASSIGN(const auto task, state.resolve<v1::Task>(r.task()));
  v1::GetTaskResponse response;
  *response.mutable_task() = *task;
  say_what_it_waits_for(state, *response.mutable_task());
  const auto revision =
      state.get<v1::Revision>(store::revision_id(task->service_id(), task->revision()));
  if (revision != nullptr) {
    *response.mutable_revision() = *revision;
    redact(*response.mutable_revision());
  }
  return response;
}

Result<v1::ListTasksResponse> ControlApi::list_tasks(const Principal& principal,
                                                     const v1::ListTasksRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListTasks", principal));
  std::vector<store::Ptr<v1::Task>> found;
  each_task(state, r.filter(), [&](const auto& task) {
    if (passes(r.filter(), *task)) found.push_back(task);
    return true;
  });
  std::sort(found.begin(), found.end(), before);
  v1::ListTasksResponse response;
  response.set_version(state.version());
  std::set<std::string> revisions;
  for (const auto& task : found) {
    v1::Task& told = *response.add_tasks();
    told = *task;
    drop_probes(told);
    say_what_it_waits_for(state, told);
    revisions.insert(store::revision_id(task->service_id(), task->revision()));
  }
  for (const std::string& id : revisions) {
    const auto revision = state.get<v1::Revision>(id);
    if (revision == nullptr) continue;
    *response.add_revisions() = *revision;
    redact(*response.mutable_revisions(response.revisions_size() - 1));
  }
  return response;
}

Result<v1::GetNodeResponse> ControlApi::get_node(const Principal& principal,
                                                 const v1::GetNodeRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetNode", principal));
  const std::string self = node_.node_id();
  MUSTER_ASSIGN(const auto node, state.resolve<v1::Node>(r.node() == "self" ? self : r.node()));
  v1::GetNodeResponse response;
  *response.mutable_node() = *node;
  describe(*response.mutable_node(), group_view(), members::managers_of(state), self);
  Warnings(state).add_to(*response.mutable_node());
  return response;
}

Result<v1::ListNodesResponse> ControlApi::list_nodes(const Principal& principal,
                                                     const v1::ListNodesRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListNodes", principal));
  v1::ListNodesResponse response;
  response.set_self_id(node_.node_id());
  response.set_version(state.version());
  const auto group = group_view();
  const auto is_manager = members::managers_of(state);
  const Warnings warnings(state);
  state.each<v1::Node>([&](const auto& node) {
    if (passes(r.filter(), *node)) {
      v1::Node& out = *response.add_nodes();
      out = *node;
      describe(out, group, is_manager, response.self_id());
      warnings.add_to(out);
    }
    return true;
  });
  return response;
}

Result<v1::GetNetworkResponse> ControlApi::get_network(const Principal& principal,
                                                       const v1::GetNetworkRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetNetwork", principal));
  MUSTER_ASSIGN(const auto network, state.resolve<v1::Network>(r.network()));
  v1::GetNetworkResponse response;
  *response.mutable_network() = *network;
  Warnings(state).add_to(*response.mutable_network());
  return response;
}

Result<v1::ListNetworksResponse> ControlApi::list_networks(const Principal& principal,
                                                           const v1::ListNetworksRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListNetworks", principal));
  v1::ListNetworksResponse response;
  response.set_version(state.version());
  state.each<v1::Network>([&](const auto& network) {
    if (passes(r.filter(), *network)) *response.add_networks() = *network;
    return true;
  });
  return response;
}

Status ControlApi::may_read_logs(const Principal& principal) const {
  const auto state = reading("muster.v1.Control.ServiceLogs", principal);
  return state ? ok_status() : state.error();
}

Status ControlApi::may_examine(const Principal& principal) const {
  const auto state = reading("muster.v1.Control.ExamineNetworks", principal);
  return state ? ok_status() : state.error();
}

Result<store::Store::Subscription> ControlApi::watch(const Principal& principal,
                                                     const v1::WatchRequest& request,
                                                     WatchSink sink) {
  MUSTER_ASSIGN(store::Store * store, writing("muster.v1.Control.Watch", principal));
  const auto shared = std::make_shared<WatchSink>(std::move(sink));
  auto report = [request, shared, principal](const store::CommitEvent& event) {
    // What a node may look at ends when it is removed or demoted.
    if (principal.kind == Principal::Kind::kNode) {
      if (Status status = check_standing(event.after, principal); !status.ok()) {
        return (*shared)(fail(std::move(status)));
      }
    }
    v1::WatchResponse response = watch_response(request, event);
    if (response.events_size() > 0) (*shared)(response);
  };
  if (request.since_ns() != 0) {
    const auto start = store->history_since({request.since_ns()});
    if (!start.complete) {
      strand_.post([shared] {
        v1::WatchResponse response;
        response.set_incomplete(true);
        (*shared)(response);
      });
    }
    return store->watch(start.after_version, std::move(report));
  }
  if (request.resume_from() == 0) return store->watch(std::move(report));
  return store->watch(request.resume_from(), std::move(report));
}

}  // namespace muster::manager::control
