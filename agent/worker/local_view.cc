#include "agent/worker/local_view.h"

#include <algorithm>

namespace muster::agent {
namespace {

const char* health_name(v1::Health::State state) {
  switch (state) {
    case v1::Health::STARTING: return "starting";
    case v1::Health::HEALTHY: return "healthy";
    case v1::Health::UNHEALTHY: return "unhealthy";
    default: return "";
  }
}

}  // namespace

bool is_running(const v1::LocalTask& task) {
  return task.started() && task.status().state() < v1::TASK_COMPLETE &&
         task.status().container().pid() > 0;
}

v1::Container describe_container(const v1::LocalTask& local, const NodeContext& node) {
  const v1::Task& task = local.assignment().task();
  v1::Container out;
  out.set_id(local.container_id());
  out.set_task_id(task.id());
  out.set_task_name(task.name());
  out.set_name(container_name(task));
  out.set_image(local.revision().spec().container().image());
  out.set_command(local.command());
  out.set_created_at_ns(task.meta().created_at_ns());
  out.set_started_at_ns(local.started_at_ns());
  out.set_finished_at_ns(local.finished_at_ns());
  out.set_state(is_running(local) ? "running" : "created");
  if (local.status().state() >= v1::TASK_COMPLETE) out.set_state("exited");
  const v1::ContainerStatus& container = local.status().container();
  if (container.has_exit_code()) out.set_exit_code(container.exit_code());
  out.set_pid(container.pid());
  out.set_health(health_name(local.status().health().state()));
  out.set_service_id(task.service_id());
  for (const v1::PortConfig& port : task.ports()) {
    if (port.mode() == v1::PortConfig::INGRESS) *out.add_ports() = port;
  }
  for (const v1::PortConfig& port : local.status().host_ports()) *out.add_ports() = port;
  for (v1::KeyValue& label : container_labels(local, node)) *out.add_labels() = std::move(label);
  return out;
}

std::vector<v1::Container> list_containers(const std::vector<v1::LocalTask>& tasks,
                                           const NodeContext& node, bool all) {
  std::vector<v1::Container> out;
  for (const v1::LocalTask& task : tasks) {
    // A task that never came to a container is nothing to list.
    if (all ? task.started() : is_running(task)) out.push_back(describe_container(task, node));
  }
  std::sort(out.begin(), out.end(), [](const v1::Container& a, const v1::Container& b) {
    if (a.started_at_ns() != b.started_at_ns()) return a.started_at_ns() > b.started_at_ns();
    return a.id() < b.id();
  });
  return out;
}

Result<v1::LocalTask> resolve_container(const std::vector<v1::LocalTask>& tasks,
                                        std::string_view reference) {
  const v1::LocalTask* by_name = nullptr;
  std::vector<const v1::LocalTask*> by_prefix;
  if (reference.empty()) return fail(invalid_argument("no container named"));
  for (const v1::LocalTask& local : tasks) {
    const v1::Task& task = local.assignment().task();
    if (local.container_id() == reference || task.id() == reference ||
        container_name(task) == reference) {
      return local;
    }
    if (task.name() == reference) {
      const bool better =
          by_name == nullptr || is_running(local) ||
          (!is_running(*by_name) && local.started_at_ns() > by_name->started_at_ns());
      if (better) by_name = &local;
    }
    if (local.container_id().compare(0, reference.size(), reference) == 0 ||
        task.id().compare(0, reference.size(), reference) == 0) {
      by_prefix.push_back(&local);
    }
  }
  if (by_name != nullptr) return *by_name;
  if (by_prefix.size() > 1) {
    return fail(failed_precondition("\"{}\" is the beginning of {} containers' ids", reference,
                                    by_prefix.size()));
  }
  if (by_prefix.empty()) return fail(not_found("no such container: {}", reference));
  return *by_prefix.front();
}

std::vector<v1::LocalTask> tasks_for_logs(const std::vector<v1::LocalTask>& tasks,
                                          const v1::LogsRequest& request) {
  const auto contains = [](const auto& list, const std::string& value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  };
  const bool all = request.task_ids().empty() && request.service_ids().empty();
  std::vector<v1::LocalTask> out;
  for (const v1::LocalTask& local : tasks) {
    const v1::Task& task = local.assignment().task();
    if (!local.started()) continue;
    if (all || contains(request.task_ids(), task.id()) ||
        contains(request.service_ids(), task.service_id())) {
      out.push_back(local);
    }
  }
  return out;
}

}  // namespace muster::agent
