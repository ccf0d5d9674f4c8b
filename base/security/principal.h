#pragma once

#include <cstdint>
#include <string>

namespace muster::security {

// Who makes a request, as established by the transport before any handler sees it.
struct Principal {
  enum class Kind {
    kNone,       // a TLS caller without a certificate
    kNode,       // a node's certificate, verified
    kClient,     // a client's certificate, verified: an operator who is elsewhere
    kLocalUser,  // the local socket; identity by SO_PEERCRED
  };

  Kind kind = Kind::kNone;
  // kNode; of kClient the name and the cluster.
  std::string node_id;
  bool manager = false;
  std::string cluster_id;
  // kLocalUser
  uint32_t uid = 0;
  uint32_t gid = 0;
};

}  // namespace muster::security
