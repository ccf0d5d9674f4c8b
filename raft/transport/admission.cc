#include "raft/transport/admission.h"

#include <fmt/format.h>

namespace muster::raft {

Admission admit(const AdmissionView& view, const Hello& hello, const security::Principal& caller) {
  const auto refuse = [](Verdict verdict, std::string why) {
    return Admission{verdict, false, std::move(why)};
  };
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
  const Member* member = view.members == nullptr ? nullptr : view.members->find(hello.from);
  if (member == nullptr) {
    if (view.removed) {
      return refuse(Verdict::kRemoved,
                    fmt::format("member {:x} was removed from the group", hello.from.value));
    }
    return {Verdict::kAccept, true, {}};
  }
  if (member->node_id != caller.node_id) {
    return refuse(Verdict::kRefused, fmt::format("member {:x} is node {}, not {}", hello.from.value,
                                                 member->node_id, caller.node_id));
  }
  return {};
}

}  // namespace muster::raft
