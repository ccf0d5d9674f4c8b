#include "manager/dispatcher/network_changes.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

#include "manager/store/ingress_network.h"

namespace muster::manager::dispatcher {
namespace {

template <class Repeated>
bool same_texts(const Repeated& a, const Repeated& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

template <class Message>
bool same_message(const Message& a, const Message& b) {
  return a.ByteSizeLong() == b.ByteSizeLong() && a.SerializeAsString() == b.SerializeAsString();
}

bool same_attachments(const v1::Task& a, const v1::Task& b) {
  return std::equal(a.networks().begin(), a.networks().end(), b.networks().begin(),
                    b.networks().end(), [](const auto& x, const auto& y) {
                      return x.network_id() == y.network_id() && x.mac() == y.mac() &&
                             same_texts(x.addresses(), y.addresses()) &&
                             same_texts(x.aliases(), y.aliases());
                    });
}

// Every field of a NetworkEndpoint, but for those that follow from the node.
bool same_endpoint(const v1::Task& a, const v1::Task& b, const v1::Node* node) {
  return is_member(a) == is_member(b) && shown_state(a, node) == shown_state(b, node) &&
         a.node_id() == b.node_id() && a.name() == b.name() && a.service_id() == b.service_id() &&
         same_attachments(a, b);
}

// Every field of a NetworkService, in all its networks.
bool same_service(const v1::Service& a, const v1::Service& b) {
  const auto& mine = a.spec().task().networks();
  const auto& theirs = b.spec().task().networks();
  return a.spec().annotations().name() == b.spec().annotations().name() &&
         same_message(a.endpoint(), b.endpoint()) && is_published(a) == is_published(b) &&
         std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                    [](const auto& x, const auto& y) {
                      return x.target() == y.target() && same_texts(x.aliases(), y.aliases());
                    });
}

bool is_down(const v1::Node* node) {
  return node == nullptr || node->status().state() == v1::NodeStatus::DOWN;
}

class Collector {
 public:
  Collector(const store::CommitEvent& event, const Subscribers& networks)
      : event_(event), networks_(networks) {}

  void operator()(const store::Change<v1::Task>& change) {
    const auto& [before, after] = change;
    if (before != nullptr && after != nullptr) {
      const auto node = event_.after.get<v1::Node>(after->node_id());
      if (same_endpoint(*before, *after, node.get())) return;
    }
    if (before != nullptr && is_member(*before)) touch(*before, true);
    if (after != nullptr && is_member(*after)) touch(*after, false);
  }

  void operator()(const store::Change<v1::Service>& change) {
    const auto& [before, after] = change;
    if (before != nullptr && after != nullptr && same_service(*before, *after)) return;
    if (before != nullptr) touch(*before, true);
    if (after != nullptr) touch(*after, false);
  }

  void operator()(const store::Change<v1::Node>& change) {
    const auto& [before, after] = change;
    if (const std::string* ingress = subscribed_ingress()) {
      const bool was = before != nullptr && is_ingress_node(*before);
      const bool is = after != nullptr && is_ingress_node(*after);
      const bool same =
          was == is && (!is || (same_message(before->ingress(), after->ingress()) &&
                                data_path_of(before.get()) == data_path_of(after.get())));
      if (!same) out_[*ingress].nodes.try_emplace((after ? after : before)->id(), was);
    }
    if (is_down(before.get()) == is_down(after.get()) &&
        data_path_of(before.get()) == data_path_of(after.get())) {
      return;
    }
    event_.after.tasks_of_node((after ? after : before)->id(), [&](const auto& task) {
      if (is_member(*task)) touch(*task, true);
      return true;
    });
  }

  void operator()(const store::Change<v1::Network>& change) {
    const std::string& id = (change.after ? change.after : change.before)->id();
    if (!networks_.contains(id)) return;
    (change.after ? out_[id].network : out_[id].removed) = true;
  }

  template <class T>
  void operator()(const store::Change<T>&) {}

  std::map<std::string, NetworkChanges> finish() { return std::move(out_); }

 private:
  void touch(const v1::Task& task, bool known) {
    for (const auto& attachment : task.networks()) {
      if (!networks_.contains(attachment.network_id())) continue;
      out_[attachment.network_id()].tasks.try_emplace(task.id(), known);
    }
  }
  void touch(const v1::Service& service, bool known) {
    for (const auto& attachment : service.spec().task().networks()) {
      if (!networks_.contains(attachment.target())) continue;
      out_[attachment.target()].services.try_emplace(service.id(), known);
    }
    if (!is_published(service)) return;
    if (const std::string* ingress = subscribed_ingress()) {
      out_[*ingress].services.try_emplace(service.id(), known);
    }
  }
  // Most commits need not look for it.
  const std::string* subscribed_ingress() {
    if (!std::exchange(looked_, true)) {
      const auto network = store::ingress_network(event_.after);
      const auto at = network == nullptr ? networks_.end() : networks_.find(network->id());
      if (at != networks_.end()) ingress_ = &at->first;
    }
    return ingress_;
  }

  const store::CommitEvent& event_;
  const Subscribers& networks_;
  const std::string* ingress_ = nullptr;  // id of the ingress network, if somebody takes part
  bool looked_ = false;
  std::map<std::string, NetworkChanges> out_;
};

}  // namespace

bool is_published(const v1::Service& service) {
  const auto& ports = service.endpoint().ports();
  return std::any_of(ports.begin(), ports.end(),
                     [](const v1::PortConfig& p) { return p.mode() == v1::PortConfig::INGRESS; });
}

bool is_ingress_node(const v1::Node& node) {
  return !node.ingress().addresses().empty() && !data_path_of(&node).empty();
}

const std::string& data_path_of(const v1::Node* node) {
  static const std::string kNone;
  return node == nullptr ? kNone : node->description().data_path().address();
}

std::map<std::string, NetworkChanges> network_changes(const store::CommitEvent& event,
                                                      const Subscribers& networks) {
  Collector collector(event, networks);
  for (const store::AnyChange& any : *event.changes) std::visit(collector, any);
  return collector.finish();
}

}  // namespace muster::manager::dispatcher
