#include "agent/worker/log_view.h"

#include <unistd.h>

#include <utility>

#include "agent/logs/log_plan.h"

namespace muster::agent {
namespace {

std::vector<v1::KeyValue> attributes_of(const v1::LocalTask& task, const NodeContext& node,
                                        const v1::LogDriver& driver) {
  bool selects = false;
  for (const v1::KeyValue& option : driver.options()) {
    selects = selects || option.key() == "tag" || option.key().starts_with("labels") ||
              option.key().starts_with("env");
  }
  if (!selects) return {};
  std::vector<std::string> env;
  if (const auto spec = expand_spec(task, node)) {
    env.assign(spec->container().env().begin(), spec->container().env().end());
  }
  auto attributes = log_attributes(driver, container_labels(task, node), env);
  for (v1::KeyValue& attribute : attributes) {
    if (attribute.key() != "tag") continue;
    LogTagContext context;
    context.container_id = task.container_id();
    context.name = container_name(task.assignment().task());
    context.image_id = task.image_digest();
    context.image_name = task.revision().spec().container().image();
    if (auto tag = log_tag(driver, context)) attribute.set_value(*std::move(tag));
  }
  return attributes;
}

bool has_ended(const v1::LocalTask& task) {
  return task.status().state() >= v1::TASK_COMPLETE;
}

}  // namespace

v1::LogDriver log_driver_of(const v1::LocalTask& task, const NodeContext& node) {
  if (task.has_log_driver()) return task.log_driver();
  return effective_log_driver(task.revision().spec().log_driver(), node.default_log_driver,
                              node.node_log_driver);
}

Status check_log_driver_here(const v1::LogDriver& driver) {
  MUSTER_TRY(check_log_driver(driver.name(), log_options(driver)));
  if (driver.name() == "journald" && ::access(kJournalSocket, F_OK) != 0) {
    return failed_precondition("logger: journald is not enabled on this host ({} does not exist)",
                               kJournalSocket);
  }
  return {};
}

LoggedTask describe_logged_task(const v1::LocalTask& task, const NodeContext& node,
                                const TaskPaths& paths) {
  LoggedTask out;
  out.task_id = task.assignment().task().id();
  out.service_id = task.assignment().task().service_id();
  out.bundle_dir = paths.container(task.container_id());
  out.started = task.started() && !task.container_id().empty();
  out.ended = has_ended(task);
  const v1::LogDriver driver = log_driver_of(task, node);
  const LogPlan plan = plan_log(driver);
  if (!plan.unreadable.empty()) {
    out.unreadable = fmt::format("{} (log driver {})", plan.unreadable, plan.driver);
  }
  out.attributes = attributes_of(task, node, driver);
  return out;
}

std::optional<ForwardTarget> forward_target(const v1::LocalTask& task, const NodeContext& node,
                                            const TaskPaths& paths) {
  if (!task.started()) return std::nullopt;
  const v1::LogDriver driver = log_driver_of(task, node);
  if (!is_forwarded(driver)) return std::nullopt;
  ForwardTarget out;
  out.task_id = task.assignment().task().id();
  out.bundle_dir = paths.container(task.container_id());
  out.driver = driver;
  out.ended = has_ended(task);
  ForwardIdentity& identity = out.identity;
  identity.container_id = task.container_id();
  identity.name = container_name(task.assignment().task());
  identity.image = task.revision().spec().container().image();
  identity.hostname = node.hostname;
  identity.pid = static_cast<int>(::getpid());
  identity.attributes = attributes_of(task, node, driver);
  LogTagContext context{identity.container_id, identity.name, task.image_digest(), identity.image};
  // A template that does not expand was refused with the service.
  identity.tag = log_tag(driver, context).value_or(identity.container_id.substr(0, 12));
  return out;
}

}  // namespace muster::agent
