#include "manager/control/filter.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace muster::manager::control {
namespace {

using Labels = google::protobuf::RepeatedPtrField<v1::KeyValue>;

template <class Values, class Match>
bool any_or_none(const Values& values, Match match) {
  return values.empty() || std::any_of(values.begin(), values.end(), match);
}

bool has_labels(const Labels& wanted, const Labels& labels) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const v1::KeyValue& want) {
    return std::any_of(labels.begin(), labels.end(), [&](const v1::KeyValue& label) {
      return label.key() == want.key() && (want.value().empty() || label.value() == want.value());
    });
  });
}

// Exact names and prefixes are one field in two spellings.
bool common(const v1::ListFilter& filter, std::string_view id, std::string_view name) {
  const bool named = (filter.names().empty() && filter.name_prefixes().empty()) ||
                     std::any_of(filter.names().begin(), filter.names().end(),
                                 [&](const std::string& n) { return n == name; }) ||
                     std::any_of(filter.name_prefixes().begin(), filter.name_prefixes().end(),
                                 [&](const std::string& p) { return name.starts_with(p); });
  return named &&
         any_or_none(filter.ids(), [&](const std::string& p) { return id.starts_with(p); });
}

std::string_view mode_of(const v1::ServiceSpec& spec) {
  switch (spec.mode_case()) {
    case v1::ServiceSpec::kGlobal: return "global";
    case v1::ServiceSpec::kReplicatedJob: return "replicated-job";
    case v1::ServiceSpec::kGlobalJob: return "global-job";
    default: return "replicated";
  }
}

}  // namespace

bool passes(const v1::ListFilter& filter, const v1::Service& service) {
  return common(filter, service.id(), service.spec().annotations().name()) &&
         has_labels(filter.labels(), service.spec().annotations().labels()) &&
         any_or_none(filter.modes(),
                     [&](const std::string& mode) { return mode == mode_of(service.spec()); });
}

bool passes(const v1::ListFilter& filter, const v1::Node& node) {
  return common(filter, node.id(), node.description().hostname()) &&
         has_labels(filter.labels(), node.description().engine().labels()) &&
         has_labels(filter.node_labels(), node.spec().annotations().labels()) &&
         any_or_none(filter.roles(), [&](int role) { return role == node.role(); });
}

bool passes(const v1::ListFilter& filter, const v1::Network& network) {
  return common(filter, network.id(), network.spec().annotations().name()) &&
         has_labels(filter.labels(), network.spec().annotations().labels());
}

bool passes(const v1::ListFilter& filter, const v1::Secret& secret) {
  return common(filter, secret.id(), secret.spec().annotations().name()) &&
         has_labels(filter.labels(), secret.spec().annotations().labels());
}

bool passes(const v1::ListFilter& filter, const v1::Config& config) {
  return common(filter, config.id(), config.spec().annotations().name()) &&
         has_labels(filter.labels(), config.spec().annotations().labels());
}

bool passes(const v1::ListFilter& filter, const v1::Task& task) {
  return common(filter, task.id(), task.name()) &&
         any_or_none(filter.service_ids(),
                     [&](const std::string& id) { return id == task.service_id(); }) &&
         any_or_none(filter.node_ids(),
                     [&](const std::string& id) { return id == task.node_id(); }) &&
         any_or_none(filter.desired_states(),
                     [&](int state) { return state == task.desired_state(); });
}

}  // namespace muster::manager::control
