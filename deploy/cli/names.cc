#include "deploy/cli/names.h"

#include <cctype>

namespace muster::deploy::cli {
namespace {

// "TASK_RUNNING" -> "running". A value this program does not know is shown by its number.
std::string from_enum(const std::string& name, size_t prefix, int value) {
  if (name.size() <= prefix) return std::to_string(value);
  std::string out = name.substr(prefix);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string dashed(std::string text) {
  for (char& c : text)
    if (c == '_') c = '-';
  return text;
}

}  // namespace

std::string state_name(v1::TaskState state) {
  return from_enum(v1::TaskState_Name(state), 5, state);
}
std::string update_state_name(v1::UpdateStatus::State state) {
  return from_enum(v1::UpdateStatus::State_Name(state), 0, state);
}
std::string node_state_name(v1::NodeStatus::State state) {
  return from_enum(v1::NodeStatus::State_Name(state), 0, state);
}
std::string role_name(v1::NodeSpec::Role role) {
  return from_enum(v1::NodeSpec::Role_Name(role), 0, role);
}
std::string availability_name(v1::NodeSpec::Availability availability) {
  return from_enum(v1::NodeSpec::Availability_Name(availability), 0, availability);
}
std::string job_state_name(v1::JobStatus::State state) {
  return from_enum(v1::JobStatus::State_Name(state), 0, state);
}
std::string mode_name(const v1::ServiceSpec& spec) {
  switch (spec.mode_case()) {
    case v1::ServiceSpec::kGlobal: return "global";
    case v1::ServiceSpec::kReplicatedJob: return "replicated-job";
    case v1::ServiceSpec::kGlobalJob: return "global-job";
    case v1::ServiceSpec::kReplicated:
    case v1::ServiceSpec::MODE_NOT_SET: break;
  }
  return "replicated";
}
std::string client_address_name(v1::PortConfig::ClientAddress choice) {
  return from_enum(v1::PortConfig::ClientAddress_Name(choice), 0, choice);
}
std::string protocol_name(v1::PortConfig::Protocol protocol) {
  return from_enum(v1::PortConfig::Protocol_Name(protocol), 0, protocol);
}
std::string mount_type_name(v1::Mount::Type type) {
  return from_enum(v1::Mount::Type_Name(type), 0, type);
}
std::string restart_condition_name(v1::RestartPolicy::Condition condition) {
  return dashed(from_enum(v1::RestartPolicy::Condition_Name(condition), 0, condition));
}
std::string failure_action_name(v1::UpdateConfig::FailureAction action) {
  return from_enum(v1::UpdateConfig::FailureAction_Name(action), 0, action);
}
std::string health_name(v1::Health::State state) {
  return from_enum(v1::Health::State_Name(state), 0, state);
}
std::string capitalized(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

bool is_terminal(v1::TaskState state) {
  return state >= v1::TASK_COMPLETE && state != v1::TASK_REMOVE;
}

std::string running_note(const v1::Task& task) {
  // An agent says "started; port 80/tcp is taken by another program of this host" or "waiting to
  // become healthy; health check failed with exit code 1".
  constexpr std::string_view kStarted = "started; ";
  constexpr std::string_view kWaiting = "waiting to become healthy; ";
  const std::string& message = task.status().message();
  const bool running = task.status().state() == v1::TASK_RUNNING;
  if (running && message.starts_with(kStarted)) return message.substr(kStarted.size());
  const bool starting = task.status().state() == v1::TASK_STARTING;
  if (starting && message.starts_with(kWaiting)) return message.substr(kWaiting.size());
  return "";
}

}  // namespace muster::deploy::cli
