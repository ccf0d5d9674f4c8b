#include "deploy/eval/restart_suite.h"

#include <map>
#include <string>
#include <vector>

#include "manager/orchestrator/restart_policy.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;
namespace orchestrator = manager::orchestrator;

Result<Duration> duration_of(const json::value& value) {
  if (value.is_int64()) return Duration(value.get_int64());
  if (value.is_string()) return parse_duration(std::string_view(value.get_string()));
  return fail(invalid_argument("a duration is nanoseconds or a text such as \"5s\""));
}

Result<v1::TaskState> state_of(const json::value* value) {
  static const std::map<std::string_view, v1::TaskState> kStates = {
      {"complete", v1::TASK_COMPLETE}, {"failed", v1::TASK_FAILED},
      {"rejected", v1::TASK_REJECTED}, {"shutdown", v1::TASK_SHUTDOWN},
      {"orphaned", v1::TASK_ORPHANED}, {"node-down", v1::TASK_RUNNING}};
  if (value != nullptr && value->is_string()) {
    const auto found = kStates.find(std::string_view(value->get_string()));
    if (found != kStates.end()) return found->second;
  }
  return fail(invalid_argument(
      "an event's state must be complete, failed, rejected, shutdown, orphaned or node-down"));
}

}  // namespace

Result<orchestrator::RestartRules> restart_rules_from_json(const json::value* policy) {
  orchestrator::RestartRules rules;
  if (policy == nullptr) return rules;
  if (!policy->is_object()) return fail(invalid_argument("policy must be an object"));
  for (const auto& [key, value] : policy->get_object()) {
    if (key == "condition") {
      const std::string_view text = value.is_string() ? std::string_view(value.get_string()) : "";
      if (text == "any") {
        rules.condition = v1::RestartPolicy::ANY;
      } else if (text == "on-failure") {
        rules.condition = v1::RestartPolicy::ON_FAILURE;
      } else if (text == "none") {
        rules.condition = v1::RestartPolicy::NONE;
      } else {
        return fail(invalid_argument("condition must be any, on-failure or none"));
      }
    } else if (key == "delay") {
      MUSTER_ASSIGN(rules.delay, duration_of(value));
    } else if (key == "window") {
      MUSTER_ASSIGN(rules.window, duration_of(value));
    } else if (key == "max_attempts") {
      if (!value.is_int64() || value.get_int64() < 0) {
        return fail(invalid_argument("max_attempts must be a number from 0"));
      }
      rules.max_attempts = static_cast<uint64_t>(value.get_int64());
    } else {
      return fail(invalid_argument("policy has no field \"{}\"", std::string_view(key)));
    }
  }
  return rules;
}

Result<json::value> eval_restart(const json::value& input) {
  if (!input.is_object()) return fail(invalid_argument("the case must be an object"));
  const json::object& root = input.get_object();
  MUSTER_ASSIGN(const orchestrator::RestartRules rules,
                restart_rules_from_json(root.if_contains("policy")));
  const json::value* events = root.if_contains("events");
  if (events == nullptr || !events->is_array()) {
    return fail(invalid_argument("events must be a list"));
  }
  std::vector<v1::Task> tasks;
  tasks.reserve(events->get_array().size());
  json::array decisions;
  for (const json::value& event : events->get_array()) {
    if (!event.is_object()) return fail(invalid_argument("an event must be an object"));
    const json::object& fields = event.get_object();
    const json::value* at = fields.if_contains("at");
    if (at == nullptr) return fail(invalid_argument("an event needs \"at\""));
    MUSTER_ASSIGN(const Duration end, duration_of(*at));
    MUSTER_ASSIGN(const v1::TaskState state, state_of(fields.if_contains("state")));
    v1::Task& task = tasks.emplace_back();
    task.set_id(fmt::format("{:08}", tasks.size()));
    task.mutable_status()->set_state(state);
    task.mutable_status()->set_timestamp_ns(end.count());
    const json::value* revision = fields.if_contains("revision");
    task.set_revision(revision != nullptr && revision->is_int64() ? revision->get_int64() : 1);
    std::vector<const v1::Task*> slot;
    for (const v1::Task& t : tasks) slot.push_back(&t);
    const bool restart = orchestrator::wants_restart(rules, task, slot);
    // A task that lost its node is replaced at once.
    const bool delayed = orchestrator::ended_by_itself(state);
    json::object decision;
    decision["restart"] = restart;
    decision["restarts_so_far"] = orchestrator::restarts_so_far(rules, task, slot);
    if (restart) {
      decision["start_at"] = format_duration(delayed ? end + rules.delay : end);
    }
    decisions.push_back(std::move(decision));
  }
  return json::value(json::object{{"decisions", std::move(decisions)}});
}

}  // namespace muster::deploy::eval
