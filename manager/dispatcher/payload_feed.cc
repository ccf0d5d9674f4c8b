#include "manager/dispatcher/payload_feed.h"

#include <algorithm>
#include <utility>

#include "manager/dispatcher/task_feed.h"

namespace muster::manager::dispatcher {
namespace {

store::Ptr<v1::Revision> revision_of(const store::Snapshot& view, const v1::Task& task) {
  return view.get<v1::Revision>(store::revision_id(task.service_id(), task.revision()));
}

template <class T>
bool fill(const store::Snapshot& view, const std::string& id, v1::SecretAssignment& out) {
  const auto object = view.get<T>(id);
  const auto blob = object == nullptr ? nullptr : view.get<v1::Blob>(object->blob_id());
  if (blob == nullptr) return false;
  out.set_id(id);
  out.set_name(object->spec().annotations().name());
  out.set_data(blob->data());
  out.set_template_driver(object->spec().template_driver());
  return true;
}

}  // namespace

bool entitles(const v1::Task& task) {
  return is_assigned(task) && task.desired_state() <= v1::TASK_COMPLETE &&
         task.status().state() < v1::TASK_COMPLETE;
}

bool refers_to_payloads(const store::Snapshot& view, const v1::Task& task) {
  const auto revision = revision_of(view, task);
  if (revision == nullptr) return false;
  const v1::ContainerSpec& container = revision->spec().container();
  return container.secrets_size() > 0 || container.configs_size() > 0;
}

void PayloadFeed::refresh(const store::Snapshot& view, std::string_view node_id) {
  wanted_.clear();
  std::set<std::string, std::less<>> seen;  // revisions: many tasks may have one
  view.tasks_of_node(node_id, [&](const store::Ptr<v1::Task>& task) {
    if (!entitles(*task)) return true;
    const auto revision = revision_of(view, *task);
    if (revision == nullptr || !seen.insert(revision->id()).second) return true;
    const v1::ContainerSpec& container = revision->spec().container();
    for (const auto& secret : container.secrets()) {
      wanted_.emplace(secret.secret_id(), Kind::kSecret);
    }
    for (const auto& config : container.configs()) {
      wanted_.emplace(config.config_id(), Kind::kConfig);
    }
    return true;
  });
}

size_t PayloadFeed::add(const store::Snapshot& view, const std::string& id, Kind kind,
                        v1::FeedUpdate& step) {
  v1::SecretAssignment assignment;
  assignment.set_config(kind == Kind::kConfig);
  const bool found = kind == Kind::kConfig ? fill<v1::Config>(view, id, assignment)
                                           : fill<v1::Secret>(view, id, assignment);
  if (!found) return 0;
  const size_t bytes = assignment.data().size();
  *step.add_secrets() = std::move(assignment);
  sent_.insert(id);
  return bytes;
}

std::optional<v1::FeedUpdate> PayloadFeed::next(const store::Snapshot& view) {
  if (acknowledged_ < version_) return std::nullopt;
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::SECRETS);
  step.set_complete(version_ == 0);
  for (auto it = sent_.begin(); it != sent_.end();) {
    if (wanted_.contains(*it)) {
      ++it;
    } else {
      step.add_removed_secret_ids(*it);
      it = sent_.erase(it);
    }
  }
  size_t bytes = 0;
  for (const auto& [id, kind] : wanted_) {
    if (bytes >= kStepBytes) break;
    if (!sent_.contains(id)) bytes += add(view, id, kind, step);
  }
  if (!step.complete() && step.secrets().empty() && step.removed_secret_ids().empty()) {
    return std::nullopt;
  }
  step.set_base_version(version_);
  step.set_version(++version_);
  return step;
}

void PayloadFeed::acknowledged(uint64_t version) {
  acknowledged_ = std::max(acknowledged_, version);
}

}  // namespace muster::manager::dispatcher
