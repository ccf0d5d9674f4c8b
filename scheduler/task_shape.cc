#include "scheduler/task_shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "scheduler/mutant.h"

namespace muster::scheduler {
namespace {

void read_mounts(const v1::ContainerSpec& container, TaskShape& shape) {
  for (const auto& mount : container.mounts()) {
    if (mount.type() > v1::Mount::IMAGE) shape.cluster_volumes = true;
    const std::string& driver = mount.volume().driver();
    if (mount.type() == v1::Mount::VOLUME && !driver.empty() && driver != "local") {
      shape.volume_drivers.push_back(driver);
    }
  }
}

void read_reservations(const v1::Resources& reservations, TaskShape& shape) {
  if (fault(SchedulerMutant::kReservationsIgnored)) return;
  shape.nano_cpus = reservations.nano_cpus();
  shape.memory_bytes = reservations.memory_bytes();
  for (const auto& generic : reservations.generic()) {
    const int64_t count = std::max<int64_t>(generic.count(), generic.names_size());
    if (count <= 0) continue;
    auto same = std::find_if(shape.generics.begin(), shape.generics.end(),
                             [&](const GenericNeed& need) { return need.kind == generic.kind(); });
    if (same != shape.generics.end()) {
      same->count += count;
    } else {
      shape.generics.push_back({generic.kind(), count});
    }
  }
}

}  // namespace

HostPort host_port(v1::PortConfig::Protocol protocol, uint32_t port) {
  return (static_cast<uint32_t>(protocol) << 16) | (port & 0xffff);
}

std::string to_string(HostPort port) {
  constexpr std::string_view kNames[] = {"tcp", "udp", "sctp"};
  const uint32_t protocol = port >> 16;
  return fmt::format("{}/{}", port & 0xffff, protocol < 3 ? kNames[protocol] : "unknown");
}

TaskShape shape_of(const v1::Revision& revision) {
  TaskShape shape;
  shape.service_id = revision.service_id();
  shape.revision = revision.number();
  const v1::TaskSpec& spec = revision.spec();
  read_reservations(spec.resources().reservations(), shape);
  read_mounts(spec.container(), shape);
  for (const std::string& text : spec.placement().constraints()) {
    if (auto constraint = Constraint::parse(text)) {
      shape.constraints.push_back(*std::move(constraint));
    } else if (shape.bad_constraint.empty()) {
      shape.bad_constraint = constraint.error().message();
    }
  }
  for (const auto& preference : spec.placement().preferences()) {
    if (is_spread_descriptor(preference.spread_descriptor())) {
      shape.spread.push_back(preference.spread_descriptor());
    }
  }
  const auto& platforms = spec.placement().platforms();
  shape.platforms.assign(platforms.begin(), platforms.end());
  shape.max_replicas = spec.placement().max_replicas();
  for (const auto& network : spec.networks()) shape.networks.push_back(network.target());
  for (const auto& port : revision.ports()) {
    if (port.mode() == v1::PortConfig::INGRESS) shape.in_mesh = true;
    if (port.mode() == v1::PortConfig::HOST && port.published_port() != 0) {
      shape.host_ports.push_back(host_port(port.protocol(), port.published_port()));
    }
  }
  std::sort(shape.host_ports.begin(), shape.host_ports.end());
  if (spec.log_driver().name() != "none") shape.log_driver = spec.log_driver().name();
  return shape;
}

}  // namespace muster::scheduler
