#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "muster/v1/log.pb.h"
#include "muster/v1/objects.pb.h"

namespace muster::manager::store {

// A stored object: shared, never changed in place.
template <class T>
using Ptr = std::shared_ptr<const T>;

// How the store makes its objects: an index that holds a plain pointer can give out a shared one.
// Only make_stored() makes these, and only share() looks behind an object.
template <class T>
struct Stored {
  explicit Stored(T&& from) : object(std::move(from)) {}
  T object;  // first: share() finds the whole from it
  std::weak_ptr<const Stored> self;
};
template <class T>
std::shared_ptr<T> make_stored(T object) {
  const auto stored = std::make_shared<Stored<T>>(std::move(object));
  MUSTER_CHECK(static_cast<void*>(&stored->object) == static_cast<void*>(stored.get()));
  stored->self = stored;
  return std::shared_ptr<T>(stored, &stored->object);
}
// `object` must come from make_stored() and be alive.
template <class T>
Ptr<T> share(const T* object) {
  return Ptr<T>(reinterpret_cast<const Stored<T>*>(object)->self.lock(), object);
}

// What the store has to know of each kind of object: its table, its name in messages ("service"),
// and its unique name, empty where objects of the kind have none.
template <class T>
struct TableTraits;

template <>
struct TableTraits<v1::Node> {
  static constexpr v1::Table kTable = v1::TABLE_NODE;
  static constexpr std::string_view kKind = "node";
  // Host names need not be unique; resolve() reports ambiguity.
  static std::string_view name(const v1::Node& o) { return o.description().hostname(); }
  static constexpr bool kUniqueName = false;
};
template <>
struct TableTraits<v1::Service> {
  static constexpr v1::Table kTable = v1::TABLE_SERVICE;
  static constexpr std::string_view kKind = "service";
  static std::string_view name(const v1::Service& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Task> {
  static constexpr v1::Table kTable = v1::TABLE_TASK;
  static constexpr std::string_view kKind = "task";
  static std::string_view name(const v1::Task&) { return {}; }
  static constexpr bool kUniqueName = false;
};
template <>
struct TableTraits<v1::Network> {
  static constexpr v1::Table kTable = v1::TABLE_NETWORK;
  static constexpr std::string_view kKind = "network";
  static std::string_view name(const v1::Network& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Secret> {
  static constexpr v1::Table kTable = v1::TABLE_SECRET;
  static constexpr std::string_view kKind = "secret";
  static std::string_view name(const v1::Secret& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Config> {
  static constexpr v1::Table kTable = v1::TABLE_CONFIG;
  static constexpr std::string_view kKind = "config";
  static std::string_view name(const v1::Config& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Cluster> {
  static constexpr v1::Table kTable = v1::TABLE_CLUSTER;
  static constexpr std::string_view kKind = "cluster";
  static std::string_view name(const v1::Cluster& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Volume> {
  static constexpr v1::Table kTable = v1::TABLE_VOLUME;
  static constexpr std::string_view kKind = "volume";
  static std::string_view name(const v1::Volume& o) { return o.spec().annotations().name(); }
  static constexpr bool kUniqueName = true;
};
template <>
struct TableTraits<v1::Revision> {
  static constexpr v1::Table kTable = v1::TABLE_REVISION;
  static constexpr std::string_view kKind = "revision";
  static std::string_view name(const v1::Revision&) { return {}; }
  static constexpr bool kUniqueName = false;
};
template <>
struct TableTraits<v1::AppliedRequest> {
  static constexpr v1::Table kTable = v1::TABLE_REQUEST;
  static constexpr std::string_view kKind = "request";
  static std::string_view name(const v1::AppliedRequest&) { return {}; }
  static constexpr bool kUniqueName = false;
};
template <>
struct TableTraits<v1::Blob> {
  static constexpr v1::Table kTable = v1::TABLE_BLOB;
  static constexpr std::string_view kKind = "blob";
  static std::string_view name(const v1::Blob&) { return {}; }
  static constexpr bool kUniqueName = false;
};

// "<service id>.<number>", the id of a Revision.
std::string revision_id(std::string_view service_id, uint64_t number);

}  // namespace muster::manager::store
