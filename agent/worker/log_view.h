#pragma once

#include <optional>
#include <string>

#include "agent/logs/log_forwarder.h"
#include "agent/logs/log_publisher.h"
#include "agent/worker/container_plan.h"
#include "agent/worker/task_steps.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"

namespace muster::agent {

// The log side of a task: from the worker's records to what readers and forwarders need.

inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

// The driver its container was made with; before that the one it would get now.
v1::LogDriver log_driver_of(const v1::LocalTask& task, const NodeContext& node);

// Whether this host can serve the driver with these options: a node's own default never passed a
// manager. Touches the file system (is there a journal?).
Status check_log_driver_here(const v1::LogDriver& driver);

// Pure.
LoggedTask describe_logged_task(const v1::LocalTask& task, const NodeContext& node,
                                const TaskPaths& paths);
// Nothing when its lines go nowhere. Pure.
std::optional<ForwardTarget> forward_target(const v1::LocalTask& task, const NodeContext& node,
                                            const TaskPaths& paths);

}  // namespace muster::agent
