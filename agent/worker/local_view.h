#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/worker/container_plan.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/local.pb.h"

namespace muster::agent {

// The local API's view of Worker::tasks(). Pure; the daemon's gRPC adapter takes a copy of the
// tasks on the agent's strand and calls these anywhere.

v1::Container describe_container(const v1::LocalTask& task, const NodeContext& node);

// Newest first. Without `all` only what runs.
std::vector<v1::Container> list_containers(const std::vector<v1::LocalTask>& tasks,
                                           const NodeContext& node, bool all);

// By full container id, task id, container name ("web.1.<task id>"), then task name ("web.1"; the
// one that runs, else the newest), then a unique prefix of the container or task id. NOT_FOUND
// "no such container: x", FAILED_PRECONDITION when a prefix fits several.
Result<v1::LocalTask> resolve_container(const std::vector<v1::LocalTask>& tasks,
                                        std::string_view reference);

// Whether the container's process runs, as far as the agent knows.
bool is_running(const v1::LocalTask& task);

// Tasks whose logs a request asks for: by id, by service, or all.
std::vector<v1::LocalTask> tasks_for_logs(const std::vector<v1::LocalTask>& tasks,
                                          const v1::LogsRequest& request);

}  // namespace muster::agent
