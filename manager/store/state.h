#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <tuple>

#include "manager/store/snapshot.h"
#include "manager/store/store.h"
#include "manager/store/tables.h"
#include "manager/store/tree.h"

namespace muster::manager::store {

struct TieById {
  template <class T>
  static std::string_view of(const T& object) {
    return object.id();
  }
};
struct TieByName {
  template <class T>
  static std::string_view of(const T& object) {
    return TableTraits<T>::name(object);
  }
};

template <class T>
using IdTree = Tree<T, TieById>;
// A secondary index: the table's by_id owns what it points to. Objects in it come from
// make_stored().
template <class T>
using IndexTree = Tree<T, TieById, const T*>;

// The first and the next eight bytes of a text as numbers that sort as the text does.
uint64_t order_prefix(std::string_view text);
uint64_t order_second(std::string_view text);
// FNV-1a. Groups an index by something whose own order does not matter; two texts with one hash
// share a group, so readers of a group compare the text itself.
uint64_t group_hash(std::string_view text);

template <class T>
struct Table {
  IdTree<T> by_id;
  // Kinds with unique names: keyed by the name. Nodes: grouped by hostname, then id.
  Tree<T, TieByName> by_name;
};

// Everything the store holds at one version. Copying shares all trees.
struct State {
  uint64_t version = 0;

  std::tuple<Table<v1::Node>, Table<v1::Service>, Table<v1::Task>, Table<v1::Network>,
             Table<v1::Secret>, Table<v1::Config>, Table<v1::Cluster>, Table<v1::Volume>,
             Table<v1::Revision>, Table<v1::AppliedRequest>, Table<v1::Blob>>
      tables;

  IndexTree<v1::Task> tasks_by_service;  // service, slot, id
  IndexTree<v1::Task> tasks_by_node;     // node, id
  IndexTree<v1::Task> tasks_by_state;    // observed state, id
  IndexTree<v1::Task> tasks_by_network;  // network, id; one entry per attachment
  // Network, id: those that have left it by hand, until their nodes have said so. Nearly always
  // empty.
  IndexTree<v1::Task> tasks_by_network_left;
  IndexTree<v1::Node> nodes_by_hostname;
  IndexTree<v1::Service> services_by_network;
  IndexTree<v1::Network> ingress_networks;        // id; one at most, unless something went wrong
  IndexTree<v1::Revision> revisions_by_service;   // service, number
  IndexTree<v1::AppliedRequest> requests_by_age;  // created_at, id

  template <class T>
  Table<T>& table() {
    return std::get<Table<T>>(tables);
  }
  template <class T>
  const Table<T>& table() const {
    return std::get<Table<T>>(tables);
  }

  // nullptr when there is none; valid until the table is edited.
  template <class T>
  const Ptr<T>* find(std::string_view id) const {
    return table<T>().by_id.find({order_prefix(id), order_second(id), id});
  }
  template <class T>
  Ptr<T> get(std::string_view id) const {
    const Ptr<T>* found = find<T>(id);
    return found == nullptr ? nullptr : *found;
  }
  template <class T>
  Ptr<T> find_unique(std::string_view name) const {
    const Ptr<T>* found = table<T>().by_name.find({order_prefix(name), order_second(name), name});
    return found == nullptr ? nullptr : *found;
  }

  // Replaces `before` (null: there was none) by `after` (null: removed; else made by
  // make_stored()) in the table and every index. `owner` is the edit token (tree.h). Names are not
  // checked: of two objects with one name the one put last is found by it.
  template <class T>
  void replace(uint64_t owner, const Ptr<T>& before, const Ptr<T>& after);
  void replace(uint64_t owner, const AnyChange& change);
  void undo(uint64_t owner, const AnyChange& change);
};

// A token no edit has used before; process-wide, since trees travel between stores in tests.
uint64_t next_edit_token();

// Calls `f(std::type_identity<T>)` for every kind, in the order of v1::Table.
template <class F>
void for_each_kind(const F& f) {
  f(std::type_identity<v1::Node>());
  f(std::type_identity<v1::Service>());
  f(std::type_identity<v1::Task>());
  f(std::type_identity<v1::Network>());
  f(std::type_identity<v1::Secret>());
  f(std::type_identity<v1::Config>());
  f(std::type_identity<v1::Cluster>());
  f(std::type_identity<v1::Volume>());
  f(std::type_identity<v1::Revision>());
  f(std::type_identity<v1::AppliedRequest>());
  f(std::type_identity<v1::Blob>());
}

// X(T) for every kind of object, to instantiate templates in one place.
#define MUSTER_STORE_KINDS(X) \
  X(v1::Node)                 \
  X(v1::Service)              \
  X(v1::Task)                 \
  X(v1::Network)              \
  X(v1::Secret)               \
  X(v1::Config)               \
  X(v1::Cluster)              \
  X(v1::Volume)               \
  X(v1::Revision)             \
  X(v1::AppliedRequest)       \
  X(v1::Blob)

}  // namespace muster::manager::store
