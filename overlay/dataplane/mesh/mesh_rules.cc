#include "overlay/dataplane/mesh/mesh_rules.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/dataplane/host/bridge_netfilter.h"

namespace muster::overlay {
namespace {

size_t differences(const MeshMaps& a, const MeshMaps& b) {
  size_t n = 0;
  for (const auto member : {&MeshMaps::marks, &MeshMaps::zones, &MeshMaps::macs}) {
    const MeshMaps::Map& x = a.*member;
    const MeshMaps::Map& y = b.*member;
    for (const auto& [key, value] : x) {
      const auto at = y.find(key);
      n += at == y.end() || at->second != value;
    }
    for (const auto& [key, value] : y) n += !x.contains(key);
  }
  return n;
}

}  // namespace

Status MeshRules::enter(int namespace_fd) {
  struct stat info {};
  if (fstat(namespace_fd, &info) != 0) return errno_status(errno, "a network namespace is gone");
  if (nft_ != nullptr && namespace_ == info.st_ino) return ok_status();
  release();
  MUSTER_TRY(in_namespace(namespace_fd, [&]() -> Status {
    MUSTER_ASSIGN(nft_, LibNft::make());
    return ok_status();
  }));
  namespace_ = info.st_ino;
  return ok_status();
}

void MeshRules::release() {
  in_force_.reset();
  nft_.reset();
  namespace_ = 0;
}

bool MeshRules::knows(int namespace_fd) const {
  struct stat info {};
  return in_force_ && fstat(namespace_fd, &info) == 0 && info.st_ino == namespace_;
}

Status MeshRules::look(const std::optional<MeshMaps>& before, const MeshMaps& wanted,
                       std::vector<std::string>* said) {
  MUSTER_ASSIGN(const KeptTable inet, keep_table(*nft_, mesh_inet_table(wanted)));
  MUSTER_ASSIGN(const KeptTable bridge, keep_table(*nft_, mesh_bridge_table(wanted)));
  MUSTER_ASSIGN(MeshMaps now, parse_mesh_maps(inet.listing, bridge.listing));
  if (said != nullptr && before) {
    const size_t count = differences(*before, now);
    if (inet.made || bridge.made) {
      said->push_back("rules of the routing mesh were gone or changed");
    } else if (count > 0) {
      said->push_back(
          fmt::format("{} entries of the routing mesh's maps were gone or changed", count));
    }
  }
  const std::string commands = exchange_mesh_maps(now, wanted);
  return commands.empty() ? ok_status() : nft_->run(commands);
}

Status MeshRules::keep(int namespace_fd, const MeshMaps& wanted, bool look_anyway,
                       std::vector<std::string>* said) {
  MUSTER_TRY(enter(namespace_fd));
  if (in_force_ && !look_anyway) {
    const std::string commands = exchange_mesh_maps(*in_force_, wanted);
    if (commands.empty()) return ok_status();
    if (nft_->run(commands).ok()) {
      in_force_ = wanted;
      return ok_status();
    }
    // Somebody else was at it.
  }
  // What is in force once this has begun is not known until it is through.
  const auto before = std::exchange(in_force_, std::nullopt);
  MUSTER_TRY(look(before, wanted, said));
  // At last, when the rules are there: the frames of a namespace without them need not be shown to
  // anybody.
  MUSTER_TRY(pass_frames(namespace_fd, said));
  in_force_ = wanted;
  return ok_status();
}

// A host that cannot says so, and published ports lead here in the nodes' names.
Status MeshRules::pass_frames(int namespace_fd, std::vector<std::string>* said) {
  if (!trouble_.empty() && !has_bridge_netfilter()) return ok_status();
  if (const Status provided = provide_bridge_netfilter(pins_); !provided.ok()) {
    trouble_ = provided.message();
    return ok_status();
  }
  trouble_.clear();
  bool changed = false;
  MUSTER_TRY(in_namespace(namespace_fd, [&] { return set_bridge_netfilter(true, &changed); }));
  if (said != nullptr && changed) {
    said->push_back("frames of the ingress network did not pass through connection tracking");
  }
  return ok_status();
}

Status MeshRules::clear(int namespace_fd) {
  MUSTER_TRY(enter(namespace_fd));
  in_force_.reset();
  MUSTER_TRY(delete_table(*nft_, "bridge", kMeshTableName));
  MUSTER_TRY(delete_table(*nft_, "inet", kMeshTableName));
  return in_namespace(namespace_fd, [] {
    (void)set_bridge_netfilter(false, nullptr);  // not there: it is off
    return ok_status();
  });
}

}  // namespace muster::overlay
