#pragma once

#include <string>

#include "muster/v1/control.pb.h"
#include "muster/v1/objects.pb.h"

// Enum values in the words Docker's API uses.
namespace muster::deploy::cli {

std::string state_name(v1::TaskState state);                   // "running"
std::string update_state_name(v1::UpdateStatus::State state);  // "rollback_started"
std::string node_state_name(v1::NodeStatus::State state);      // "ready"
std::string role_name(v1::NodeSpec::Role role);                // "worker"
std::string availability_name(v1::NodeSpec::Availability availability);
std::string job_state_name(v1::JobStatus::State state);        // "running"
std::string mode_name(const v1::ServiceSpec& spec);            // "replicated", "global-job"
std::string protocol_name(v1::PortConfig::Protocol protocol);  // "tcp"
std::string client_address_name(v1::PortConfig::ClientAddress choice);  // "keep"
std::string mount_type_name(v1::Mount::Type type);                      // "volume"
std::string restart_condition_name(v1::RestartPolicy::Condition condition);
std::string failure_action_name(v1::UpdateConfig::FailureAction action);
std::string health_name(v1::Health::State state);  // "starting"
std::string capitalized(std::string text);         // "Running"

// Whether the task's state can not change any more.
bool is_terminal(v1::TaskState state);
// What is wrong with a task although it runs, for example that its port is taken on its node, or
// why it is not healthy yet; else empty.
std::string running_note(const v1::Task& task);

}  // namespace muster::deploy::cli
