#pragma once

#include <string>

#include "base/status.h"

namespace muster::daemon {

// The private key of a node that is to join. Managers know a node by it (manager/ca/admission.h): a
// join whose answer was lost may have made a node of the swarm, and asked for again with the same
// key it is answered as that node. With another key a second node would be listed, and the first
// one as down for ever. Kept in memory alone. Not thread-safe.
class JoinKey {
 public:
  // PEM, for a join with this token: that of the last join with it if nobody answered that one,
  // else a new one.
  Result<std::string> take(const std::string& token);
  // How the join ended that it was taken for. True: the node that an earlier attempt made was
  // removed meanwhile, so another attempt, which gets another key, may well succeed.
  bool ended(const Status& status);

 private:
  std::string token_;
  std::string key_pem_;  // empty: none is kept
  bool again_ = false;   // it was taken more than once
};

}  // namespace muster::daemon
