#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "tests/sim/log/sim_log_disk.h"

namespace muster::sim {

// What must hold of the managers' log, seen from outside the driver: what leaves a member, and what
// its disk has then. The numbers are those of tests/sim/README.md.
class SimLogRules {
 public:
  using ImageOf = std::function<const LogImage*(raft::MemberId)>;

  SimLogRules(ImageOf image_of, std::function<void(std::string)> broken)
      : image_of_(std::move(image_of)), broken_(std::move(broken)) {}

  // Every message before it leaves its member (R2, R4, R7).
  void on_message(const raft::Message& message);
  // After every write (R3; R7: what a leader was told stays, at least in its term).
  void on_durable(raft::MemberId id, const LogImage& image);
  // The entry at `index` is committed, and nobody has said so before: it is on the disks of a
  // quorum (R8) of one of the groups its managers believe to be in force.
  void on_new_commit(raft::Index index, const std::vector<raft::Members>& groups);

 private:
  struct Stored {
    raft::Term previous = 0;
    uint64_t hash = 0;
  };
  void on_append(const raft::Message& message);
  void on_append_reply(const raft::Message& message);
  void on_vote(const raft::Message& message);

  ImageOf image_of_;
  std::function<void(std::string)> broken_;
  std::map<std::pair<raft::MemberId, raft::Term>, raft::MemberId> votes_;
  std::map<raft::MemberId, raft::Term> durable_terms_;
  std::map<std::pair<raft::Index, raft::Term>, Stored> entries_;
  // The newest that a member has acknowledged: by the leader's term, the index.
  std::map<raft::MemberId, std::pair<raft::Term, raft::Index>> acknowledged_;
  // What the leader of a term has at an index, as far as it told anybody.
  std::map<std::pair<raft::Term, raft::Index>, raft::Term> led_;
};

}  // namespace muster::sim
