#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/volumes/volume_store.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's volumes and who uses them; on its disk.
class SimVolumes final : public agent::VolumeStore {
 public:
  explicit SimVolumes(SimMachine& machine) : machine_(machine) {}

  Result<std::string> acquire(const v1::Mount& mount, const std::string&,
                              const std::string& container_id) override {
    if (!machine_.step(3ms)) return fail(process_is_dead());
    const std::string name = mount.source().empty() ? container_id : mount.source();
    uses_[container_id].insert(name);
    return "/volumes/" + name;
  }
  Status release(const std::string& container_id) override {
    if (!machine_.step(3ms)) return process_is_dead();
    uses_.erase(container_id);
    return {};
  }
  // By container: names.
  const std::map<std::string, std::set<std::string>>& uses() const { return uses_; }

  // Of no concern to a worker.
  Result<std::vector<v1::LocalVolume>> list() override { return std::vector<v1::LocalVolume>(); }
  Result<v1::LocalVolume> create(const v1::CreateVolumeRequest&) override {
    return v1::LocalVolume();
  }
  Result<v1::LocalVolume> inspect(const std::string&) override { return v1::LocalVolume(); }
  Status remove(const std::string&, bool) override { return {}; }
  Result<v1::PruneVolumesResponse> prune(bool) override { return v1::PruneVolumesResponse(); }

 private:
  SimMachine& machine_;
  std::map<std::string, std::set<std::string>> uses_;
};

}  // namespace muster::sim
