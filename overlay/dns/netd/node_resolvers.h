#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "overlay/dns/forwarder.h"

namespace muster::overlay::dns {

// The servers of a resolv.conf(5), in its order; what is no address is left out. Pure.
std::vector<Ip> parse_nameservers(std::string_view text);

// The node's resolvers, as its resolv.conf has them now: read again after it has changed, looked at
// once a second at most.
class NodeResolvers {
 public:
  explicit NodeResolvers(std::string path) : path_(std::move(path)) {}

  // Those of loopback are asked from the node's namespace. A file without any means the node
  // itself, as to every resolver library.
  const std::vector<Upstream>& get(TimePoint now);

 private:
  std::string path_;
  bool read_ = false;
  TimePoint looked_;
  struct stat seen_ {};
  std::vector<Upstream> servers_;
};

}  // namespace muster::overlay::dns
