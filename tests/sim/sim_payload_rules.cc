// What must hold of secrets and configs.
#include <fmt/format.h>

#include <map>
#include <set>
#include <string>

#include "manager/dispatcher/payload_feed.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;
using TaskPtr = store::Ptr<v1::Task>;

namespace {

// What the task's revision refers to, by id; with what the store holds of it.
std::map<std::string, std::string> referred(const store::Snapshot& state, const v1::Task& task) {
  std::map<std::string, std::string> out;
  const auto revision =
      state.get<v1::Revision>(store::revision_id(task.service_id(), task.revision()));
  if (revision == nullptr) return out;
  const auto data_of = [&](const auto& owner) {
    const auto blob = owner == nullptr ? nullptr : state.get<v1::Blob>(owner->blob_id());
    return blob == nullptr ? std::string() : blob->data();
  };
  for (const auto& secret : revision->spec().container().secrets()) {
    out[secret.secret_id()] = data_of(state.get<v1::Secret>(secret.secret_id()));
  }
  for (const auto& config : revision->spec().container().configs()) {
    out[config.config_id()] = data_of(state.get<v1::Config>(config.config_id()));
  }
  return out;
}

}  // namespace

// A container starts with everything it refers to, whole. What was removed meanwhile cannot be
// compared: a container of an outdated task may well start with it.
void SimRules::check_files(const SimHost& host, const SimHost::Container& container,
                           const store::Snapshot& state) {
  for (const auto& [id, data] : referred(state, container.task)) {
    const auto file = container.files.find(id);
    if (file == container.files.end()) {
      broken_(
          fmt::format("{} starts on {} without payload {}", container.task.name(), host.id(), id));
    } else if (!data.empty() && file->second != data) {
      broken_(fmt::format("{} starts on {} with another payload than {}", container.task.name(),
                          host.id(), id));
    }
  }
}

// A host holds what its tasks need, and nothing besides.
Status SimRules::check_host_payloads(const store::Snapshot& state, const SimHost& host) const {
  std::map<std::string, TaskPtr> wanted;  // with a task that refers to it
  state.tasks_of_node(host.id(), [&](const TaskPtr& task) {
    if (!manager::dispatcher::entitles(*task)) return true;
    for (const auto& [id, data] : referred(state, *task)) wanted.emplace(id, task);
    return true;
  });
  size_t held = 0;
  for (const auto& [id, task] : wanted) {
    if (host.payloads().find(id) != nullptr) {
      ++held;
    } else if (state.get<v1::Secret>(id) != nullptr || state.get<v1::Config>(id) != nullptr) {
      return internal_error("{} does not have payload {} of {}, revision {}, {} wanted {}",
                            host.id(), id, task->name(), task->revision(),
                            v1::TaskState_Name(task->status().state()),
                            v1::TaskState_Name(task->desired_state()));
    }
    // Else it was removed under an outdated task, as on a paused node: it may have what it began
    // with, but nobody can give it again.
  }
  if (host.payloads().size() != held) {
    return internal_error("{} holds {} payloads, {} are used", host.id(), host.payloads().size(),
                          held);
  }
  return ok_status();
}

// What was acknowledged is there with its payload, and no payload without an owner.
Status SimRules::check_payloads(const store::Snapshot& state) const {
  const auto check = [&](const auto& owner, const std::string& name,
                         const std::string& data) -> Status {
    const auto blob = owner == nullptr ? nullptr : state.get<v1::Blob>(owner->blob_id());
    if (blob == nullptr) return internal_error("{} was acknowledged and is lost", name);
    if (blob->data() != data) return internal_error("{} has another payload", name);
    return ok_status();
  };
  for (const auto& [name, data] : client_.secrets()) {
    MUSTER_TRY(check(state.find<v1::Secret>(name), name, data));
  }
  for (const auto& [name, data] : client_.configs()) {
    MUSTER_TRY(check(state.find<v1::Config>(name), name, data));
  }
  const size_t owners = client_.secrets().size() + client_.configs().size();
  if (state.count<v1::Secret>() + state.count<v1::Config>() != owners) {
    return internal_error("there are secrets or configs nobody made");
  }
  if (state.count<v1::Blob>() != owners) {
    return internal_error("{} payloads for {} owners", state.count<v1::Blob>(), owners);
  }
  return ok_status();
}

}  // namespace muster::sim
