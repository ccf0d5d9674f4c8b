#include "tests/sim/sim_options.h"

#include <array>

namespace muster::sim {
namespace {

constexpr std::array<std::string_view, Troubles::kCount> kNames = {
    "agent-killed", "agent-restarts", "agent-cut",    "reboot",        "memory",     "container",
    "task-fails",   "manager-killed", "manager-cut",  "one-way",       "disk-full",  "disk-stuck",
    "disk-slow",    "manager-hangs",  "transfer",     "manager-stops", "disk-lost",  "roles",
    "clocks",       "lossy-lanes",    "agent-midway", "agent-frozen",  "slow-pulls", "unhealthy",
    "certificates", "root-rotation",  "hours"};

}  // namespace

std::string_view name_of(Trouble trouble) {
  return kNames[static_cast<size_t>(trouble)];
}

Troubles Troubles::all() {
  Troubles out;
  out.set_.set();
  return out;
}

Troubles Troubles::first_ones() {
  Troubles out;
  for (size_t i = 0; i < static_cast<size_t>(Trouble::kManagerStops); ++i) out.set_.set(i);
  return out;
}

Result<Troubles> Troubles::parse(std::string_view names) {
  Troubles out;
  while (!names.empty()) {
    const size_t comma = names.find(',');
    const std::string_view name = names.substr(0, comma);
    names = comma == std::string_view::npos ? std::string_view() : names.substr(comma + 1);
    size_t i = 0;
    while (i < kCount && kNames[i] != name) ++i;
    if (i == kCount) {
      return fail(invalid_argument("no trouble is called '{}'; there are {}", name, all().names()));
    }
    out.set_.set(i);
  }
  return out;
}

std::string Troubles::names() const {
  std::string out;
  for (size_t i = 0; i < kCount; ++i) {
    if (set_[i]) out += (out.empty() ? "" : ",") + std::string(kNames[i]);
  }
  return out;
}

Troubles Troubles::without(const Troubles& others) const {
  Troubles out;
  out.set_ = set_ & ~others.set_;
  return out;
}

}  // namespace muster::sim
