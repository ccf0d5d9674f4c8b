#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "overlay/dataplane/host/port_messages.h"
#include "overlay/dns/netd/relays.h"

namespace muster::overlay::dns {

// The sockets that hold this node's published ports, by name
// (overlay/dataplane/host/port_messages.h): those that musterd gave, until it takes them back.
// Nothing is ever done with one: they only are. Bounded by kMost. Pure, but for descriptors that
// close.
class KeptPorts {
 public:
  static constexpr size_t kMost = 200'000;  // each port of three protocols, in both families, fits
  using Socket = std::shared_ptr<const UniqueFd>;
  struct Answer {
    std::string text;
    std::vector<Socket> sockets;
  };

  // What is to be said to a command, in this order.
  std::vector<Answer> command(PortMessage message);
  bool empty() const { return kept_.empty(); }
  size_t size() const { return kept_.size(); }
  void clear() { kept_.clear(); }

  // For a successor, among its relays: one of a version without them passes over them there.
  void hand_over(std::vector<HandedRelay>& out) const;
  // Takes out what a predecessor handed over.
  void inherit(std::vector<HandedRelay>& handed);

 private:
  std::vector<Answer> list() const;

  std::map<std::string, Socket> kept_;
};

}  // namespace muster::overlay::dns
