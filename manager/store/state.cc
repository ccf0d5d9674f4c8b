#include "manager/store/state.h"

#include <array>
#include <atomic>
#include <type_traits>
#include <utility>
#include <vector>

namespace muster::manager::store {
namespace {

// Order of signed numbers as unsigned ones.
uint64_t order_signed(int64_t value) {
  return static_cast<uint64_t>(value) ^ (1ULL << 63);
}

struct IndexKey {
  uint64_t a;
  uint64_t b;
};

// Moves an object from its old places of one index to its new ones. `keys(object, add)` calls
// add(IndexKey) for each place. An object that stays where it was is replaced in place.
template <class T, class Keys>
void reindex(IndexTree<T>& tree, uint64_t owner, const Ptr<T>& before, const Ptr<T>& after,
             const Keys& keys) {
  if (before != nullptr) {
    keys(*before, [&](IndexKey old) {
      bool kept = false;
      if (after != nullptr) {
        keys(*after, [&](IndexKey now) { kept = kept || (now.a == old.a && now.b == old.b); });
      }
      if (!kept) tree.erase(owner, {old.a, old.b, before->id()});
    });
  }
  if (after != nullptr) {
    keys(*after, [&](IndexKey now) { tree.set(owner, {now.a, now.b, after.get()}); });
  }
}

void reindex_task(State& state, uint64_t owner, const Ptr<v1::Task>& before,
                  const Ptr<v1::Task>& after) {
  reindex(state.tasks_by_service, owner, before, after, [](const v1::Task& t, const auto& add) {
    add(IndexKey{group_hash(t.service_id()), t.slot()});
  });
  reindex(state.tasks_by_node, owner, before, after, [](const v1::Task& t, const auto& add) {
    if (!t.node_id().empty()) add(IndexKey{group_hash(t.node_id()), order_prefix(t.id())});
  });
  reindex(state.tasks_by_state, owner, before, after, [](const v1::Task& t, const auto& add) {
    add(IndexKey{static_cast<uint64_t>(t.status().state()), order_prefix(t.id())});
  });
  reindex(state.tasks_by_network_left, owner, before, after,
          [](const v1::Task& t, const auto& add) {
            for (const auto& attachment : t.left()) {
              add(IndexKey{group_hash(attachment.network_id()), order_prefix(t.id())});
            }
          });
  reindex(state.tasks_by_network, owner, before, after, [](const v1::Task& t, const auto& add) {
    for (const auto& attachment : t.networks()) {
      add(IndexKey{group_hash(attachment.network_id()), order_prefix(t.id())});
    }
  });
}

template <class T>
void reindex_name(Table<T>& table, uint64_t owner, const Ptr<T>& before, const Ptr<T>& after) {
  const auto key = [](std::string_view name) {
    return typename Tree<T, TieByName>::Key{order_prefix(name), order_second(name), name};
  };
  if (before != nullptr && !TableTraits<T>::name(*before).empty()) {
    const std::string_view name = TableTraits<T>::name(*before);
    if (after == nullptr || TableTraits<T>::name(*after) != name) {
      // Another object may have taken the name earlier in the same entry.
      const Ptr<T>* holder = table.by_name.find(key(name));
      if (holder != nullptr && (*holder)->id() == before->id()) {
        table.by_name.erase(owner, key(name));
      }
    }
  }
  if (after != nullptr && !TableTraits<T>::name(*after).empty()) {
    const auto k = key(TableTraits<T>::name(*after));
    table.by_name.set(owner, {k.a, k.b, after});
  }
}

}  // namespace

uint64_t next_edit_token() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

uint64_t order_prefix(std::string_view text) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) {
    value = value << 8 | (i < text.size() ? static_cast<unsigned char>(text[i]) : 0);
  }
  return value;
}

uint64_t order_second(std::string_view text) {
  return text.size() <= 8 ? 0 : order_prefix(text.substr(8));
}

uint64_t group_hash(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

template <class T>
void State::replace(uint64_t owner, const Ptr<T>& before, const Ptr<T>& after) {
  Table<T>& t = table<T>();
  if (after == nullptr) {
    const std::string_view id = before->id();
    t.by_id.erase(owner, {order_prefix(id), order_second(id), id});
  } else {
    const std::string_view id = after->id();
    t.by_id.set(owner, {order_prefix(id), order_second(id), after});
  }
  if constexpr (TableTraits<T>::kUniqueName) reindex_name(t, owner, before, after);
  if constexpr (std::is_same_v<T, v1::Task>) reindex_task(*this, owner, before, after);
  if constexpr (std::is_same_v<T, v1::Node>) {
    reindex(nodes_by_hostname, owner, before, after, [](const v1::Node& n, const auto& add) {
      add(IndexKey{group_hash(TableTraits<v1::Node>::name(n)), order_prefix(n.id())});
    });
  }
  if constexpr (std::is_same_v<T, v1::Service>) {
    reindex(services_by_network, owner, before, after, [](const v1::Service& s, const auto& add) {
      for (const auto& network : s.spec().task().networks()) {
        add(IndexKey{group_hash(network.target()), order_prefix(s.id())});
      }
    });
  }
  if constexpr (std::is_same_v<T, v1::Network>) {
    reindex(ingress_networks, owner, before, after, [](const v1::Network& n, const auto& add) {
      if (n.spec().ingress()) add(IndexKey{0, order_prefix(n.id())});
    });
  }
  if constexpr (std::is_same_v<T, v1::Revision>) {
    reindex(revisions_by_service, owner, before, after, [](const v1::Revision& r, const auto& add) {
      add(IndexKey{group_hash(r.service_id()), r.number()});
    });
  }
  if constexpr (std::is_same_v<T, v1::AppliedRequest>) {
    reindex(requests_by_age, owner, before, after,
            [](const v1::AppliedRequest& r, const auto& add) {
              add(IndexKey{order_signed(r.meta().created_at_ns()), order_prefix(r.id())});
            });
  }
}

void State::replace(uint64_t owner, const AnyChange& change) {
  std::visit([&](const auto& c) { replace(owner, c.before, c.after); }, change);
}

void State::undo(uint64_t owner, const AnyChange& change) {
  std::visit([&](const auto& c) { replace(owner, c.after, c.before); }, change);
}

#define MUSTER_INSTANTIATE(T) \
  template void State::replace<T>(uint64_t, const Ptr<T>&, const Ptr<T>&);
MUSTER_STORE_KINDS(MUSTER_INSTANTIATE)
#undef MUSTER_INSTANTIATE

}  // namespace muster::manager::store
