#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "manager/dispatcher/parts.h"
#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// Nodes that take part in a network, by network id: who gets its feed.
using Subscribers = std::map<std::string, std::set<std::string>, std::less<>>;

// Serialises the state of networks, once per version however many nodes take part. Lives on the
// dispatcher's strand; holds only networks that somebody asked for.
//
// An increment is what a commit changed of a network, as others see it, and nothing else. A change
// of a node concerns the endpoints of its tasks: where frames for them go, and whether they are
// served at all.
class NetworkFeeds {
 public:
  // All there is to say, as messages: a complete step and, up to half its size, the increments
  // since, so that it is not written anew for every node that comes while the network changes.
  std::vector<Bytes> complete(const store::Snapshot& view, const std::string& network_id);

  // One network's increment of a commit.
  struct Increment {
    uint64_t base_version = 0;
    uint64_t version = 0;
    std::vector<Bytes> messages;
  };
  // The increments of a commit for those subscribed networks that it touches.
  std::map<std::string, Increment> increments(const store::CommitEvent& event,
                                              const Subscribers& networks);

  void forget(const std::string& network_id);

 private:
  struct Entry {
    uint64_t version = 0;         // of what was sent last
    std::vector<Bytes> messages;  // empty = to be built
    size_t complete_bytes = 0;    // of them
    size_t increment_bytes = 0;
  };
  std::map<std::string, Entry, std::less<>> entries_;
};

// Whether a task is a member of its networks: placed, and not known to have ended.
bool is_member(const v1::Task& task);
// Whether both are in the same networks.
bool same_networks(const v1::Task& a, const v1::Task& b);

// The networks whose feeds the node is to have: those of its tasks, and the ingress network, since
// connections come in by every node whether it runs a task or not.
std::set<std::string, std::less<>> networks_of_node(const store::Snapshot& view,
                                                    std::string_view node_id);

// What others are told of a member, whatever its own node says of it: only one that runs, on a node
// that is not down, and is to go on running, is READY. `node` may be null: it is no member any
// more.
v1::EndpointState shown_state(const v1::Task& task, const v1::Node* node);
// Whether its container's names are told, too. They are known before it is ready; told then, they
// cost no increment of their own.
inline bool shows_names(v1::EndpointState shown) {
  return shown == v1::ENDPOINT_READY || shown == v1::ENDPOINT_DRAINING;
}

}  // namespace muster::manager::dispatcher
