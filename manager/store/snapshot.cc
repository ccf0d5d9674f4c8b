#include "manager/store/snapshot.h"

#include <type_traits>
#include <utility>

#include "manager/store/network_leavers.h"
#include "manager/store/state.h"

namespace muster::manager::store {
namespace {

const std::shared_ptr<const State>& empty_state() {
  static const auto state = std::make_shared<const State>();
  return state;
}

}  // namespace

std::string revision_id(std::string_view service_id, uint64_t number) {
  return fmt::format("{}.{}", service_id, number);
}

Snapshot::Snapshot() : state_(empty_state()) {}
Snapshot::Snapshot(std::shared_ptr<const State> state) : state_(std::move(state)) {}

uint64_t Snapshot::version() const {
  return state_->version;
}

template <class T>
Ptr<T> Snapshot::get(std::string_view id) const {
  return state_->get<T>(id);
}

template <class T>
Ptr<T> Snapshot::find(std::string_view name) const {
  static_assert(TableTraits<T>::kUniqueName);
  return state_->find_unique<T>(name);
}

template <class T>
Result<Ptr<T>> Snapshot::resolve(std::string_view reference) const {
  const auto missing = [&] {
    return not_found("{} {} not found", TableTraits<T>::kKind, reference);
  };
  const auto ambiguous = [&](size_t matches) {
    return invalid_argument("{} {} is ambiguous ({} matches found)", TableTraits<T>::kKind,
                            reference, matches);
  };
  if (reference.empty()) return fail(missing());
  if (Ptr<T> exact = get<T>(reference)) return exact;

  Ptr<T> match;
  size_t matches = 0;
  if constexpr (TableTraits<T>::kUniqueName) {
    if (Ptr<T> named = find<T>(reference)) return named;
  } else if constexpr (std::is_same_v<T, v1::Node>) {
    const uint64_t group = group_hash(reference);
    state_->nodes_by_hostname.visit_from({group, 0, {}}, [&](const auto& entry) {
      if (entry.a != group) return false;
      if (TableTraits<T>::name(*entry.value) == reference) {
        ++matches;
        match = share(entry.value);
      }
      return true;
    });
    if (matches > 1) return fail(ambiguous(matches));
    if (matches == 1) return match;
  }

  state_->table<T>().by_id.visit_from(
      {order_prefix(reference), order_second(reference), reference}, [&](const auto& entry) {
        if (!std::string_view(entry.value->id()).starts_with(reference)) return false;
        ++matches;
        match = entry.value;
        return true;
      });
  if (matches > 1) return fail(ambiguous(matches));
  if (matches == 0) return fail(missing());
  return match;
}

template <class T>
size_t Snapshot::count() const {
  return state_->table<T>().by_id.size();
}

template <class T>
void Snapshot::each(const Visit<T>& visit) const {
  state_->table<T>().by_id.visit_all([&](const auto& entry) { return visit(entry.value); });
}

void Snapshot::tasks_of_service(std::string_view service_id, const Visit<v1::Task>& visit) const {
  const uint64_t group = group_hash(service_id);
  state_->tasks_by_service.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    return entry.value->service_id() != service_id || visit(share(entry.value));
  });
}

void Snapshot::tasks_of_slot(std::string_view service_id, uint64_t slot,
                             const Visit<v1::Task>& visit) const {
  const uint64_t group = group_hash(service_id);
  state_->tasks_by_service.visit_from({group, slot, {}}, [&](const auto& entry) {
    if (entry.a != group || entry.b != slot) return false;
    return entry.value->service_id() != service_id || visit(share(entry.value));
  });
}

void Snapshot::tasks_of_node(std::string_view node_id, const Visit<v1::Task>& visit) const {
  const uint64_t group = group_hash(node_id);
  state_->tasks_by_node.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    return entry.value->node_id() != node_id || visit(share(entry.value));
  });
}

void Snapshot::tasks_in_state(v1::TaskState task_state, const Visit<v1::Task>& visit) const {
  const auto group = static_cast<uint64_t>(task_state);
  state_->tasks_by_state.visit_from({group, 0, {}}, [&](const auto& entry) {
    return entry.a == group && visit(share(entry.value));
  });
}

void Snapshot::revisions_of_service(std::string_view service_id,
                                    const Visit<v1::Revision>& visit) const {
  const uint64_t group = group_hash(service_id);
  state_->revisions_by_service.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    return entry.value->service_id() != service_id || visit(share(entry.value));
  });
}

void Snapshot::services_of_network(std::string_view network_id,
                                   const Visit<v1::Service>& visit) const {
  const uint64_t group = group_hash(network_id);
  state_->services_by_network.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    for (const auto& network : entry.value->spec().task().networks()) {
      if (network.target() == network_id) return visit(share(entry.value));
    }
    return true;
  });
}

void Snapshot::tasks_of_network(std::string_view network_id, const Visit<v1::Task>& visit) const {
  const uint64_t group = group_hash(network_id);
  state_->tasks_by_network.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    for (const auto& attachment : entry.value->networks()) {
      if (attachment.network_id() == network_id) return visit(share(entry.value));
    }
    return true;
  });
}

void tasks_that_left(const Snapshot& view, std::string_view network_id,
                     const Snapshot::Visit<v1::Task>& visit) {
  const uint64_t group = group_hash(network_id);
  view.state()->tasks_by_network_left.visit_from({group, 0, {}}, [&](const auto& entry) {
    if (entry.a != group) return false;
    for (const auto& attachment : entry.value->left()) {
      if (attachment.network_id() == network_id) return visit(share(entry.value));
    }
    return true;
  });
}

Ptr<v1::Cluster> Snapshot::cluster() const {
  Ptr<v1::Cluster> only;
  state_->table<v1::Cluster>().by_id.visit_all([&](const auto& entry) {
    only = entry.value;
    return false;
  });
  return only;
}

#define MUSTER_INSTANTIATE(T)                                           \
  template Ptr<T> Snapshot::get<T>(std::string_view) const;             \
  template Result<Ptr<T>> Snapshot::resolve<T>(std::string_view) const; \
  template size_t Snapshot::count<T>() const;                           \
  template void Snapshot::each<T>(const Visit<T>&) const;
MUSTER_STORE_KINDS(MUSTER_INSTANTIATE)
#undef MUSTER_INSTANTIATE

template Ptr<v1::Service> Snapshot::find<v1::Service>(std::string_view) const;
template Ptr<v1::Network> Snapshot::find<v1::Network>(std::string_view) const;
template Ptr<v1::Secret> Snapshot::find<v1::Secret>(std::string_view) const;
template Ptr<v1::Config> Snapshot::find<v1::Config>(std::string_view) const;
template Ptr<v1::Cluster> Snapshot::find<v1::Cluster>(std::string_view) const;
template Ptr<v1::Volume> Snapshot::find<v1::Volume>(std::string_view) const;

}  // namespace muster::manager::store
