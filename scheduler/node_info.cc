#include "scheduler/node_info.h"

#include <algorithm>
#include <iterator>

namespace muster::scheduler {
namespace {

void recompute_free(GenericPool& pool) {
  pool.free.clear();
  std::set_difference(pool.names.begin(), pool.names.end(), pool.held.begin(), pool.held.end(),
                      std::back_inserter(pool.free));
}

void insert_sorted(std::vector<std::string>& list, const std::string& value) {
  list.insert(std::lower_bound(list.begin(), list.end(), value), value);
}

void erase_sorted(std::vector<std::string>& list, const std::string& value) {
  auto it = std::lower_bound(list.begin(), list.end(), value);
  if (it != list.end() && *it == value) list.erase(it);
}

uint32_t permille(int64_t held, int64_t total) {
  if (total <= 0 || held <= 0) return 0;
  if (held >= total) return 1000;
  // 128 bits: bytes of memory times 1000 may pass 64.
  return static_cast<uint32_t>(static_cast<__int128>(held) * 1000 / total);
}

}  // namespace

int64_t NodeInfo::available_generic(std::string_view kind) const {
  for (const GenericPool& p : generics_) {
    if (p.kind == kind) return p.available();
  }
  return 0;
}

bool NodeInfo::port_used(HostPort port) const {
  auto it = std::lower_bound(ports_.begin(), ports_.end(), std::pair<HostPort, uint32_t>(port, 0));
  return it != ports_.end() && it->first == port;
}

GenericPool& NodeInfo::pool(std::string_view kind) {
  for (GenericPool& p : generics_) {
    if (p.kind == kind) return p;
  }
  generics_.emplace_back().kind = kind;
  return generics_.back();
}

void NodeInfo::recompute_load() {
  load_permille_ =
      std::max(permille(held_nano_cpus_, total_nano_cpus_), permille(held_memory_, total_memory_));
}

bool NodeInfo::set_totals(const v1::Resources& totals) {
  std::string serialised = totals.SerializeAsString();
  if (serialised == totals_) return false;
  totals_ = std::move(serialised);
  total_nano_cpus_ = totals.nano_cpus();
  total_memory_ = totals.memory_bytes();
  for (GenericPool& p : generics_) {
    p.discrete_total = 0;
    p.names.clear();
  }
  // A node may list the names of one kind in several entries.
  for (const auto& generic : totals.generic()) {
    GenericPool& p = pool(generic.kind());
    if (generic.names_size() == 0) p.discrete_total += generic.count();
    for (const std::string& name : generic.names()) p.names.push_back(name);
  }
  for (GenericPool& p : generics_) {
    std::sort(p.names.begin(), p.names.end());
    p.names.erase(std::unique(p.names.begin(), p.names.end()), p.names.end());
    recompute_free(p);
  }
  recompute_load();
  return true;
}

void NodeInfo::hold(const TaskShape& shape, const std::vector<v1::GenericResource>& generics) {
  held_nano_cpus_ += shape.nano_cpus;
  held_memory_ += shape.memory_bytes;
  ++holding_tasks;
  for (HostPort port : shape.host_ports) {
    auto it =
        std::lower_bound(ports_.begin(), ports_.end(), std::pair<HostPort, uint32_t>(port, 0));
    if (it != ports_.end() && it->first == port) {
      ++it->second;
    } else {
      ports_.insert(it, {port, 1});
    }
  }
  for (const auto& generic : generics) {
    GenericPool& p = pool(generic.kind());
    if (generic.names_size() == 0) p.discrete_held += generic.count();
    for (const std::string& name : generic.names()) {
      insert_sorted(p.held, name);
      erase_sorted(p.free, name);
    }
  }
  if (shape.nano_cpus != 0 || shape.memory_bytes != 0) recompute_load();
}

void NodeInfo::release(const TaskShape& shape, const std::vector<v1::GenericResource>& generics) {
  held_nano_cpus_ -= shape.nano_cpus;
  held_memory_ -= shape.memory_bytes;
  --holding_tasks;
  for (HostPort port : shape.host_ports) {
    auto it =
        std::lower_bound(ports_.begin(), ports_.end(), std::pair<HostPort, uint32_t>(port, 0));
    if (it != ports_.end() && it->first == port && --it->second == 0) ports_.erase(it);
  }
  for (const auto& generic : generics) {
    GenericPool& p = pool(generic.kind());
    if (generic.names_size() == 0) p.discrete_held -= generic.count();
    for (const std::string& name : generic.names()) erase_sorted(p.held, name);
    recompute_free(p);
  }
  if (shape.nano_cpus != 0 || shape.memory_bytes != 0) recompute_load();
}

std::vector<v1::GenericResource> NodeInfo::pick_generics(const TaskShape& shape) const {
  std::vector<v1::GenericResource> given;
  for (const GenericNeed& need : shape.generics) {
    auto p = std::find_if(generics_.begin(), generics_.end(),
                          [&](const GenericPool& g) { return g.kind == need.kind; });
    if (p == generics_.end()) continue;
    v1::GenericResource& out = given.emplace_back();
    out.set_kind(need.kind);
    if (p->names.empty()) {
      out.set_count(need.count);
      continue;
    }
    for (int64_t i = 0; i < need.count && i < static_cast<int64_t>(p->free.size()); ++i) {
      out.add_names(p->free[static_cast<size_t>(i)]);
    }
  }
  return given;
}

}  // namespace muster::scheduler
