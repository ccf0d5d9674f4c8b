#include "manager/dispatcher/network_changes.h"

#include <algorithm>
#include <charconv>
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

bool same_container(const v1::ContainerStatus& a, const v1::ContainerStatus& b) {
  return a.container_id() == b.container_id() && a.hostname() == b.hostname();
}

// Every field of a NetworkEndpoint, but for those that follow from the node.
bool same_endpoint(const v1::Task& a, const v1::Task& b, const v1::Node* node) {
  const v1::EndpointState shown = shown_state(a, node);
  return is_member(a) == is_member(b) && shown == shown_state(b, node) &&
         (!shows_names(shown) || same_container(a.status().container(), b.status().container())) &&
         a.node_id() == b.node_id() && a.name() == b.name() && a.service_id() == b.service_id() &&
         same_attachments(a, b);
}

// Every field of a NetworkService, in all its networks.
bool same_service(const v1::Service& a, const v1::Service& b) {
  const auto& mine = a.spec().task().networks();
  const auto& theirs = b.spec().task().networks();
  return a.spec().annotations().name() == b.spec().annotations().name() &&
         same_message(a.endpoint(), b.endpoint()) && is_published(a) == is_published(b) &&
         a.spec().endpoint().balancing() == b.spec().endpoint().balancing() &&
         a.spec().endpoint().affinity_ns() == b.spec().endpoint().affinity_ns() &&
         std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                    [](const auto& x, const auto& y) {
                      return x.target() == y.target() && same_texts(x.aliases(), y.aliases());
                    });
}

const std::string& weight_label(const v1::Service& service) {
  return service.spec().endpoint().weight_label();
}

bool same_labels(const v1::Node* a, const v1::Node* b) {
  static const v1::Node kNone;
  const auto& mine = (a == nullptr ? kNone : *a).spec().annotations().labels();
  const auto& theirs = (b == nullptr ? kNone : *b).spec().annotations().labels();
  return std::equal(
      mine.begin(), mine.end(), theirs.begin(), theirs.end(),
      [](const auto& x, const auto& y) { return x.key() == y.key() && x.value() == y.value(); });
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
    if (before != nullptr && after != nullptr) {
      // Weights are the endpoints'.
      if (weight_label(*before) != weight_label(*after)) touch_tasks_of(*after);
      if (same_service(*before, *after)) return;
    }
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
    const bool same = is_down(before.get()) == is_down(after.get()) &&
                      data_path_of(before.get()) == data_path_of(after.get());
    if (same && same_labels(before.get(), after.get())) return;
    event_.after.tasks_of_node((after ? after : before)->id(), [&](const auto& task) {
      if (is_member(*task) && (!same || weighs_anew(*task, before.get(), after.get()))) {
        touch(*task, true);
      }
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
  // Labels are seldom changed, and seldom weigh anything.
  bool weighs_anew(const v1::Task& task, const v1::Node* before, const v1::Node* after) const {
    const auto service = event_.after.get<v1::Service>(task.service_id());
    return weight_of(service.get(), before) != weight_of(service.get(), after);
  }
  void touch_tasks_of(const v1::Service& service) {
    event_.after.tasks_of_service(service.id(), [&](const auto& task) {
      if (is_member(*task)) touch(*task, true);
      return true;
    });
  }
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

uint32_t weight_of(const v1::Service* service, const v1::Node* node) {
  constexpr uint32_t kWeightMax = 100;
  if (service == nullptr || node == nullptr || weight_label(*service).empty()) return 1;
  for (const v1::KeyValue& label : node->spec().annotations().labels()) {
    if (label.key() != weight_label(*service)) continue;
    const char* const end = label.value().data() + label.value().size();
    uint32_t weight = 0;
    const auto read = std::from_chars(label.value().data(), end, weight);
    const bool valid =
        read.ec == std::errc() && read.ptr == end && weight >= 1 && weight <= kWeightMax;
    return valid ? weight : 1;
  }
  return 1;
}

std::map<std::string, NetworkChanges> network_changes(const store::CommitEvent& event,
                                                      const Subscribers& networks) {
  Collector collector(event, networks);
  for (const store::AnyChange& any : *event.changes) std::visit(collector, any);
  return collector.finish();
}

}  // namespace muster::manager::dispatcher
