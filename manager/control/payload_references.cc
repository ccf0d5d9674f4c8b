#include "manager/control/payload_references.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "manager/store/update_status.h"

namespace muster::manager::control {
namespace {

// The fields of a reference and the list of references, for both kinds.
struct SecretKind {
  using Object = v1::Secret;
  static auto& list(v1::ContainerSpec& spec) { return *spec.mutable_secrets(); }
  static const auto& list(const v1::ContainerSpec& spec) { return spec.secrets(); }
  static const std::string& id(const v1::SecretReference& r) { return r.secret_id(); }
  static const std::string& name(const v1::SecretReference& r) { return r.secret_name(); }
  static void set(v1::SecretReference& r, const std::string& id, const std::string& name) {
    r.set_secret_id(id);
    r.set_secret_name(name);
  }
};
struct ConfigKind {
  using Object = v1::Config;
  static auto& list(v1::ContainerSpec& spec) { return *spec.mutable_configs(); }
  static const auto& list(const v1::ContainerSpec& spec) { return spec.configs(); }
  static const std::string& id(const v1::ConfigReference& r) { return r.config_id(); }
  static const std::string& name(const v1::ConfigReference& r) { return r.config_name(); }
  static void set(v1::ConfigReference& r, const std::string& id, const std::string& name) {
    r.set_config_id(id);
    r.set_config_name(name);
  }
};

template <class Kind>
Status resolve(const store::Snapshot& state, v1::ContainerSpec& container) {
  using Object = typename Kind::Object;
  std::vector<std::string> missing;
  for (auto& reference : Kind::list(container)) {
    const std::string& id = Kind::id(reference);
    const std::string& name = Kind::name(reference);
    const auto object = id.empty() ? state.find<Object>(name) : state.get<Object>(id);
    if (object == nullptr || (!name.empty() && object->spec().annotations().name() != name)) {
      missing.push_back(name.empty() ? id : name);
      continue;
    }
    Kind::set(reference, object->id(), std::string(object->spec().annotations().name()));
  }
  if (missing.empty()) return ok_status();
  return invalid_argument("{}{} not found: {}", store::TableTraits<Object>::kKind,
                          missing.size() > 1 ? "s" : "", fmt::join(missing, ", "));
}

template <class Kind>
bool refers(const v1::ServiceSpec& spec, const std::string& id) {
  for (const auto& reference : Kind::list(spec.task().container())) {
    if (Kind::id(reference) == id) return true;
  }
  return false;
}

template <class Kind>
Status unused(const store::Snapshot& state, const typename Kind::Object& object) {
  constexpr std::string_view kind = store::TableTraits<typename Kind::Object>::kKind;
  const std::string& name = object.spec().annotations().name();
  std::vector<std::string> users;
  std::vector<std::string> may_go_back;
  state.each<v1::Service>([&](const auto& service) {
    if (refers<Kind>(service->spec(), object.id())) {
      users.push_back(service->spec().annotations().name());
    } else if (store::is_unfinished(service->update_status()) &&
               refers<Kind>(service->previous_spec(), object.id())) {
      may_go_back.push_back(service->spec().annotations().name());
    }
    return true;
  });
  std::sort(users.begin(), users.end());
  if (!users.empty()) {
    return invalid_argument("{} '{}' is in use by the following service{}: {}", kind, name,
                            users.size() > 1 ? "s" : "", fmt::join(users, ", "));
  }
  if (may_go_back.empty()) return ok_status();
  std::sort(may_go_back.begin(), may_go_back.end());
  return invalid_argument(
      "{} '{}' is in use by the spec that the update of the following service{} would be rolled "
      "back to: {}",
      kind, name, may_go_back.size() > 1 ? "s" : "", fmt::join(may_go_back, ", "));
}

}  // namespace

Status resolve_payloads(const store::Snapshot& state, v1::ContainerSpec& container) {
  MUSTER_TRY(resolve<SecretKind>(state, container));
  return resolve<ConfigKind>(state, container);
}

Status check_unused(const store::Snapshot& state, const v1::Secret& secret) {
  return unused<SecretKind>(state, secret);
}

Status check_unused(const store::Snapshot& state, const v1::Config& config) {
  return unused<ConfigKind>(state, config);
}

}  // namespace muster::manager::control
