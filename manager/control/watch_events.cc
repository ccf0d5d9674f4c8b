#include "manager/control/watch_events.h"

#include <algorithm>
#include <type_traits>
#include <variant>

#include "manager/control/filter.h"
#include "manager/control/redact.h"

namespace muster::manager::control {
namespace {

bool wants_kind(const v1::WatchRequest& request, std::string_view kind) {
  return request.kinds().empty() || std::any_of(request.kinds().begin(), request.kinds().end(),
                                                [&](const std::string& k) { return k == kind; });
}

void put(v1::ObjectEvent& e, const v1::Node& o) {
  *e.mutable_node() = o;
}
void put(v1::ObjectEvent& e, const v1::Service& o) {
  *e.mutable_service() = o;
  redact(*e.mutable_service());
}
void put(v1::ObjectEvent& e, const v1::Task& o) {
  *e.mutable_task() = o;
  drop_probes(*e.mutable_task());
}
void put(v1::ObjectEvent& e, const v1::Network& o) {
  *e.mutable_network() = o;
}
void put(v1::ObjectEvent& e, const v1::Secret& o) {
  *e.mutable_secret() = o;
  redact(*e.mutable_secret());
}
void put(v1::ObjectEvent& e, const v1::Config& o) {
  *e.mutable_config() = o;
  redact(*e.mutable_config());
}
void put(v1::ObjectEvent& e, const v1::Volume& o) {
  *e.mutable_volume() = o;
}
void put(v1::ObjectEvent& e, const v1::Cluster& o) {
  *e.mutable_cluster() = o;
  redact(*e.mutable_cluster());
}

template <class T>
void put_old(v1::ObjectEvent&, const T&) {}
void put_old(v1::ObjectEvent& e, const v1::Task& o) {
  *e.mutable_old_task() = o;
  drop_probes(*e.mutable_old_task());
}
void put_old(v1::ObjectEvent& e, const v1::Node& o) {
  *e.mutable_old_node() = o;
}
void put_old(v1::ObjectEvent& e, const v1::Service& o) {
  *e.mutable_old_service() = o;
  redact(*e.mutable_old_service());
}

// Objects that no filter applies to always pass.
template <class T>
bool passes_filter(const v1::ListFilter&, const T&) {
  return true;
}
bool passes_filter(const v1::ListFilter& f, const v1::Task& o) {
  return passes(f, o);
}
bool passes_filter(const v1::ListFilter& f, const v1::Node& o) {
  return passes(f, o);
}
bool passes_filter(const v1::ListFilter& f, const v1::Service& o) {
  return passes(f, o);
}
bool passes_filter(const v1::ListFilter& f, const v1::Network& o) {
  return passes(f, o);
}
bool passes_filter(const v1::ListFilter& f, const v1::Secret& o) {
  return passes(f, o);
}
bool passes_filter(const v1::ListFilter& f, const v1::Config& o) {
  return passes(f, o);
}

template <class T>
void add(const v1::WatchRequest& request, const store::Change<T>& change,
         v1::WatchResponse& response) {
  // Revisions, applied requests and blobs are the store's own business.
  if constexpr (!std::is_same_v<T, v1::Revision> && !std::is_same_v<T, v1::AppliedRequest> &&
                !std::is_same_v<T, v1::Blob>) {
    if (!wants_kind(request, store::TableTraits<T>::kKind)) return;
    const T& object = change.after != nullptr ? *change.after : *change.before;
    if (!passes_filter(request.filter(), object)) return;
    v1::ObjectEvent& event = *response.add_events();
    event.set_action(change.before == nullptr  ? v1::ObjectEvent::CREATE
                     : change.after == nullptr ? v1::ObjectEvent::REMOVE
                                               : v1::ObjectEvent::UPDATE);
    put(event, object);
    if (request.include_old() && change.before != nullptr) put_old(event, *change.before);
  }
}

}  // namespace

v1::WatchResponse watch_response(const v1::WatchRequest& request, const store::CommitEvent& event) {
  v1::WatchResponse response;
  response.set_version(event.version);
  response.set_time_ns(event.time.unix_ns);
  for (const store::AnyChange& any : *event.changes) {
    std::visit([&](const auto& change) { add(request, change, response); }, any);
  }
  return response;
}

}  // namespace muster::manager::control
