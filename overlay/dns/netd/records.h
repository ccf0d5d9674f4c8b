#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "muster/v1/netd.pb.h"

namespace muster::overlay::dns {

// Among the fed networks of a complete update: that it names all relays. Those of a musterd that
// does not know its ports yet stay.
inline constexpr const char* kRelaysTold = "relays";
// The same of sockets for encrypted networks.
inline constexpr const char* kEncapsulationTold = "encapsulation";
// Whether a relay is none, but sockets out of which the kernel takes ESP: "esp/PORT".
inline constexpr std::string_view kEncapsulation = "esp/";
inline bool is_encapsulation(const v1::NetdRelay& relay) {
  return std::string_view(relay.id()).starts_with(kEncapsulation);
}

// Whether a relay passes datagrams, "udp/PORT...", and no connections.
inline bool is_datagrams(const v1::NetdRelay& relay) {
  return std::string_view(relay.id()).starts_with("udp/");
}

// What netd was told, by key. Pure.
class Records {
 public:
  struct Changes {
    std::vector<v1::NetdRecord> removed;
    std::vector<v1::NetdRecord> set;  // new, or other than before
  };
  Changes apply(const v1::NetdUpdate& update);
  // Everything, as a complete update.
  v1::NetdUpdate all() const;
  uint64_t version() const { return version_; }

 private:
  bool stays(const v1::NetdRecord& record, const v1::NetdUpdate& complete) const;

  uint64_t version_ = 0;
  std::map<std::string, v1::NetdRecord> records_;
};

}  // namespace muster::overlay::dns
