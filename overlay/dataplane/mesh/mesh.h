#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/mesh/mesh_link.h"
#include "overlay/dataplane/mesh/mesh_rules.h"
#include "overlay/dataplane/segment/segments.h"
#include "overlay/dataplane/told/network_truth.h"

namespace muster::overlay {

// This node's part in the routing mesh. A client that comes in by any node reaches a task on any
// other and is seen there with its own address; the answer finds the node it came in by.
//
//  - Connections that come in here: the published ports' rules lead them to tasks' addresses in the
//    ingress network, which the host reaches by its own interface there (MeshLink).
//  - Tasks here: rules in the network's namespace (MeshRules), and in the task's (mesh_task.h).
//
// What exists goes on working while the process is away, and is adopted. Not thread-safe; calls
// come from a thread in the host's namespace.
class Mesh {
 public:
  // Does not own its arguments.
  Mesh(const Names& names, NamespaceDir& pins, NetlinkSocket& host_rtnl, LibNft& host_nft,
       Segments& segments, Log log)
      : names_(names),
        segments_(segments),
        log_(std::move(log)),
        rules_(pins),
        link_(names, host_rtnl, host_nft) {}

  // The port of a segment that is this node's own place; to be kept when ports of containers that
  // are no more are swept away.
  const std::string& port() const { return names_.mesh(); }

  // Learns where a former process had this node's place.
  Status scan();
  // The subnets whose tasks the host reaches by its own interface in the ingress network; empty
  // without a place there.
  const std::vector<Prefix>& reaches() const { return reaches_; }

  // What was told of the ingress network, after Segments has it. Costs what has changed. A failure
  // is tried again by the next call and by repair().
  Status apply(const NetworkTruth& truth, const NetworkDifference& difference,
               const std::string& node_id);
  // A task of this node is to enter the ingress network, whose segment is there: sees to it that
  // the rules are, too.
  Status expect_task() { return keep(false, nullptr); }
  // The node takes no part in the ingress network any more. Containers in it keep their interfaces.
  Status forget(const std::string& network_id);
  // Compares the kernel with what it should be, mends it, and adds a sentence to `said` for each
  // difference.
  void repair(std::vector<std::string>& said);
  // What this host cannot do; see MeshRules::trouble(). Or what repair() could not mend.
  const std::string& limitation() const {
    return rules_.trouble().empty() ? trouble_ : rules_.trouble();
  }
  // Removes everything of this node in the mesh; at the end of its membership.
  Status remove();

 private:
  struct Told {
    v1::Network network;
    std::string node_id;
    MeshMaps maps;
    std::optional<MeshLink::Spec> place;  // nullopt: the node has no place in the mesh (yet)
    std::vector<std::string> trouble;     // what of it cannot be
  };

  static Result<Told> read(const NetworkTruth& truth, const std::string& node_id);
  void note(Told told);
  Status keep(bool look, std::vector<std::string>* said);
  Status keep_link(bool look, std::vector<std::string>* said);

  const Names& names_;
  Segments& segments_;
  Log log_;
  MeshRules rules_;
  MeshLink link_;
  std::optional<Told> told_;
  std::vector<Prefix> reaches_;
  bool link_in_step_ = false;
  bool maps_in_step_ = false;
  std::string trouble_;  // what repair() could not mend
};

}  // namespace muster::overlay
