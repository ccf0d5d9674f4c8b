#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/status.h"
#include "manager/store/tables.h"

namespace muster::manager::store {

struct State;  // the persistent tables and indexes; internal to the store

// An immutable view of every table at one version. A value: copying shares, reading takes no lock,
// any thread may hold one for as long as it likes. Writers never wait for readers.
//
// Iteration is in the order of ids (of slot, then id, for tasks of a service): the same state gives
// the same order everywhere.
class Snapshot {
 public:
  Snapshot();  // empty, version 0
  explicit Snapshot(std::shared_ptr<const State> state);

  // Index of the last entry applied.
  uint64_t version() const;

  // nullptr when there is none.
  template <class T>
  Ptr<T> get(std::string_view id) const;
  // By exact name; nullptr when there is none. Only kinds with unique names.
  template <class T>
  Ptr<T> find(std::string_view name) const;
  // What a user typed: a full id, then an exact name, then a unique id prefix. NOT_FOUND
  // "service web not found", or INVALID_ARGUMENT "service web is ambiguous (2 matches found)".
  template <class T>
  Result<Ptr<T>> resolve(std::string_view reference) const;
  template <class T>
  size_t count() const;

  // `visit` returns false to stop.
  template <class T>
  using Visit = std::function<bool(const Ptr<T>&)>;
  template <class T>
  void each(const Visit<T>& visit) const;

  void tasks_of_service(std::string_view service_id, const Visit<v1::Task>& visit) const;
  void tasks_of_slot(std::string_view service_id, uint64_t slot,
                     const Visit<v1::Task>& visit) const;
  void tasks_of_node(std::string_view node_id, const Visit<v1::Task>& visit) const;
  // Tasks whose observed state is exactly `state`: the allocator asks for NEW, the scheduler for
  // PENDING.
  void tasks_in_state(v1::TaskState state, const Visit<v1::Task>& visit) const;
  void revisions_of_service(std::string_view service_id, const Visit<v1::Revision>& visit) const;
  // Services whose spec attaches to the network, and tasks that have an attachment in it.
  void services_of_network(std::string_view network_id, const Visit<v1::Service>& visit) const;
  void tasks_of_network(std::string_view network_id, const Visit<v1::Task>& visit) const;

  // The cluster object; nullptr before `swarm init`.
  Ptr<v1::Cluster> cluster() const;

  const std::shared_ptr<const State>& state() const { return state_; }

 private:
  std::shared_ptr<const State> state_;
};

}  // namespace muster::manager::store
