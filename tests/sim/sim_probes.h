#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "manager/store/store.h"

namespace muster::sim {

// How often a run came to places that matter: rules that hold where nothing happens say little.
// Over many seeds every probe of kProbes must have been hit.
class Probes {
 public:
  void hit(std::string_view name, uint64_t times = 1) { counts_[std::string(name)] += times; }
  void add(const Probes& others);
  // What commits show.
  void on_commit(const manager::store::CommitEvent& event);

  const std::map<std::string, uint64_t>& counts() const { return counts_; }
  // Names of kProbes that were never hit.
  std::vector<std::string> missing() const;

 private:
  void on_task(const manager::store::Change<v1::Task>& change);
  void on_service(const manager::store::Change<v1::Service>& change);
  void on_node(const manager::store::Change<v1::Node>& change);

  std::map<std::string, uint64_t> counts_;
};

// What every longer run of seeds has to have met.
const std::vector<std::string_view>& important_probes();

}  // namespace muster::sim
