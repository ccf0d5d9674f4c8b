#include "raft/transport/admission.h"

#include <fmt/format.h>

namespace muster::raft {

namespace {

Admission refuse(Verdict verdict, std::string why) {
  return {verdict, false, std::move(why)};
}

}  // namespace

Admission admit(const AdmissionView& view, const Hello& hello, const security::Principal& caller) {
  if (caller.kind != security::Principal::Kind::kNode) {
    return refuse(Verdict::kRefused, "members show the certificate of a manager");
  }
  if (!caller.manager) {
    return refuse(Verdict::kRefused, fmt::format("node {} is not a manager", caller.node_id));
  }
  if (caller.cluster_id != view.cluster_id || hello.cluster_id != view.cluster_id) {
    return refuse(
        Verdict::kWrongCluster,
        fmt::format("this member belongs to cluster {}, not {}", view.cluster_id,
                    hello.cluster_id != view.cluster_id ? hello.cluster_id : caller.cluster_id));
  }
  if (hello.to != view.self) {
    return refuse(Verdict::kWrongMember,
                  fmt::format("this is member {:x}, not {:x}", view.self.value, hello.to.value));
  }
  if (!hello.from || hello.from == view.self) {
    return refuse(Verdict::kRefused, fmt::format("{:x} is no other member", hello.from.value));
  }
  return judge(view, hello.from, caller.node_id);
}

Admission judge(const AdmissionView& view, MemberId from, const std::string& node_id) {
  if (view.node_removed) {
    return refuse(Verdict::kRemoved, fmt::format("node {} was removed from the swarm", node_id));
  }
  const Member* member = view.members == nullptr ? nullptr : view.members->find(from);
  if (member == nullptr) {
    if (view.removed) {
      return refuse(Verdict::kRemoved,
                    fmt::format("member {:x} was removed from the group", from.value));
    }
    return {Verdict::kAccept, true, {}};
  }
  if (member->node_id != node_id) {
    return refuse(Verdict::kRefused, fmt::format("member {:x} is node {}, not {}", from.value,
                                                 member->node_id, node_id));
  }
  return {};
}

}  // namespace muster::raft
