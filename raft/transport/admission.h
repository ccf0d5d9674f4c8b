#pragma once

#include <functional>
#include <string>

#include "base/security/principal.h"
#include "raft/core/types.h"
#include "raft/transport/wire.h"

namespace muster::raft {

// What this member knows when somebody calls it.
struct AdmissionView {
  std::string cluster_id;
  MemberId self;
  const Members* members = nullptr;  // null or empty: not known yet
  // Of the caller, by the owner's word: its node was removed from the cluster; the member, which
  // is not listed, was removed for good.
  bool node_removed = false;
  bool removed = false;
};

enum class Verdict {
  kAccept,
  kRefused,       // not who it says, or not allowed: the call is refused
  kWrongCluster,  // notices, so that the caller can say what is wrong
  kWrongMember,
  kRemoved,
  kStopping,  // nobody is let in any more; admit() does not say so
};

struct Admission {
  Verdict verdict = Verdict::kAccept;
  bool stranger = false;  // accepted, but not in the list
  std::string why;        // of anything but kAccept
};

// Whether a caller with this certificate may speak as `hello.from`. Somebody the list does not have
// may, as long as he is a manager of this cluster: this member may be joining, or so far behind
// that it has not heard of its leader (a member must not use its own list to decide whether to
// answer). Members in the list must show the certificate of their node, and nobody may whose node
// was removed from the cluster.
Admission admit(const AdmissionView& view, const Hello& hello, const security::Principal& caller);

// The part of it that may become another while a call is open: whether `node_id` may speak as
// `from`.
Admission judge(const AdmissionView& view, MemberId from, const std::string& node_id);

}  // namespace muster::raft
