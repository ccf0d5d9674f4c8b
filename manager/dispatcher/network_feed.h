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
class NetworkFeeds {
 public:
  // The complete feed as messages, from the cache when nothing changed since.
  const std::vector<Bytes>& complete(const store::Snapshot& view, const std::string& network_id);

  // One network's increment of a commit.
  struct Increment {
    uint64_t base_version = 0;
    uint64_t version = 0;
    std::vector<Bytes> messages;
  };
  // The increments of a commit for those subscribed networks that it touches. Drops stale cache
  // entries.
  std::map<std::string, Increment> increments(const store::CommitEvent& event,
                                              const Subscribers& networks);

  void forget(const std::string& network_id);

 private:
  struct Entry {
    uint64_t version = 0;
    std::vector<Bytes> messages;  // empty = to be built
  };
  std::map<std::string, Entry, std::less<>> entries_;
};

// Whether a task is a member of its networks: placed, and not known to have ended.
bool is_member(const v1::Task& task);

}  // namespace muster::manager::dispatcher
