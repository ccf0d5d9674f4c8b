#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/mesh/mesh_ruleset.h"

namespace muster::overlay {

// The mesh's rules inside the ingress network's namespace (mesh_ruleset.h). Running connections
// outlive everything done here: elements are exchanged, and rules that somebody changed are made
// anew in one transaction while connection tracking keeps what it knows. Not thread-safe.
class MeshRules {
 public:
  // Does not own `pins`.
  explicit MeshRules(NamespaceDir& pins) : pins_(pins) {}

  // Brings the namespace in line. Costs the difference to the last time; with `look`, or in a
  // namespace not seen before, the kernel is looked at. `said` (may be null) gets a sentence for
  // each difference that nobody told of.
  Status keep(int namespace_fd, const MeshMaps& wanted, bool look, std::vector<std::string>* said);
  // Whether the last keep() was of this namespace, and all went well.
  bool knows(int namespace_fd) const;
  // Takes the rules out again.
  Status clear(int namespace_fd);
  // Why frames of the ingress network do not pass through connection tracking on this host, so that
  // answers to clients of other nodes do not find their way; empty: they do, or it is not known
  // yet.
  const std::string& trouble() const { return trouble_; }
  // Lets go of the namespace, which a socket in it keeps alive.
  void release();

 private:
  Status enter(int namespace_fd);
  Status pass_frames(int namespace_fd, std::vector<std::string>* said);
  Status look(const std::optional<MeshMaps>& before, const MeshMaps& wanted,
              std::vector<std::string>* said);

  NamespaceDir& pins_;
  ino_t namespace_ = 0;  // the one that follows is of; 0 = none
  std::unique_ptr<LibNft> nft_;
  std::optional<MeshMaps> in_force_;  // nullopt: not known
  std::string trouble_;               // once nobody could help it, nobody is asked again
};

}  // namespace muster::overlay
