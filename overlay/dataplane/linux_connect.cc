// LinuxNetwork: running containers enter and leave networks, and networks get further subnets.
#include <algorithm>
#include <mutex>
#include <set>

#include "overlay/dataplane/container/container_namespace.h"
#include "overlay/dataplane/container/subnet_routes.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/linux_network_impl.h"

namespace muster::overlay {

void LinuxNetwork::find_links(const std::string& container_id, PresentLinks& present) {
  std::lock_guard overlay_lock(overlay_mutex_);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < kNetworksMax; ++i) {
    const std::string end = names_.veth(container_id, i);
    const std::string network_id = segments_.network_of(end);
    if (!network_id.empty()) present.overlays[network_id] = i;
    if (!network_id.empty() || bridges_.has_port(end)) present.numbers.insert(i);
  }
  present.way_out = gateway_.has(names_.way_out(container_id));
  present.way = present.way_out || gateway_.has(names_.way_in(container_id));
}

Status LinuxNetwork::leave_networks(const std::string& container_id,
                                    const std::vector<size_t>& numbers) {
  std::lock_guard overlay_lock(overlay_mutex_);
  for (const size_t number : numbers) {
    const std::string end = names_.veth(container_id, number);
    if (const auto place = segments_.find(segments_.network_of(end))) {
      MUSTER_TRY(place->inside->run(delete_link(end)));
    }
    MUSTER_TRY(segments_.release(end));
    std::lock_guard lock(mutex_);
    attached_.erase(end);
  }
  return ok_status();
}

Status LinuxNetwork::drop_way(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  const std::string end = names_.way_out(container_id);
  MUSTER_TRY(rtnl_.run(delete_link(end)));
  attached_.erase(end);
  return gateway_.release(end);
}

// What it has now, and how the host reaches it.
Status LinuxNetwork::know_addresses(const std::string& container_id) {
  std::vector<Ip> addresses;
  MUSTER_TRY(visit_addresses(pins_, {container_id},
                             [&](const std::string&, const Ip& ip) { addresses.push_back(ip); }));
  std::lock_guard lock(mutex_);
  std::vector<std::string> gone;
  for (const std::string& text : addresses_[container_id]) {
    const bool has = std::any_of(addresses.begin(), addresses.end(),
                                 [&](const Ip& ip) { return ip.str() == text; });
    if (!has) gone.push_back(text);
  }
  if (!gone.empty()) ports_.forget_addresses(gone);
  remember(container_id, addresses);
  return ok_status();
}

Status LinuxNetwork::reconnect(const ContainerNetworkRequest& asked, bool* left) {
  const ContainerNetworkRequest request = kernel_has_ipv6() ? asked : without_ipv6(asked);
  MUSTER_TRY(reopen());
  const std::string& id = request.container_id;
  const bool v6 = std::any_of(request.links.begin(), request.links.end(), [](const auto& link) {
    return link.by_hand &&
           std::any_of(link.addresses.begin(), link.addresses.end(),
                       [](const std::string& cidr) { return cidr.find(':') != std::string::npos; });
  });
  PresentLinks present;
  MUSTER_ASSIGN(Inside inside, enter_namespace(pins_, id, v6, present.interfaces));
  find_links(id, present);
  MUSTER_ASSIGN(ReconnectPlan plan, plan_reconnect(names_, request, present));
  upkeep_.begin_change(id);
  MUSTER_TRY(leave_networks(id, plan.leave));
  if (plan.drop_way) MUSTER_TRY(drop_way(id));
  if (left != nullptr) *left = true;
  for (const LinkPlan& link : plan.make.links) {
    if (link.network != nullptr && !link.exists) MUSTER_TRY(check_network(*link.network));
  }
  MUSTER_TRY(expect_links(plan.make));
  MUSTER_TRY(make_segment_links(plan.make, inside.ns.get()));
  MUSTER_TRY(make_host_links(request, plan.make, inside.ns.get()));
  MUSTER_TRY(configure_inside(inside.socket, plan.make));
  std::vector<std::string> gone;
  for (const size_t number : plan.leave) gone.push_back(fmt::format("eth{}", number));
  MUSTER_TRY(upkeep_.changed(id, plan.make, gone, plan.drop_way));
  {
    std::lock_guard lock(overlay_mutex_);
    MUSTER_TRY(clients_.attach(id, pins_.path(id)));
  }
  const auto entering = enter(id);
  MUSTER_TRY(know_addresses(id));
  MUSTER_TRY(fit_links(id, plan.make));
  return lead_to_subnets_of(id);
}

// ---------------------------------------------------------------- further subnets

std::shared_ptr<void> LinuxNetwork::enter(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  entering_.insert(container_id);
  return {nullptr, [this, container_id](void*) {
            std::lock_guard lock(mutex_);
            entering_.erase(container_id);
          }};
}

// Containers with an address in one of these.
std::vector<std::string> LinuxNetwork::members_of(const std::vector<Prefix>& subnets) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> members;
  for (const auto& [id, addresses] : addresses_) {
    const bool member = std::any_of(addresses.begin(), addresses.end(), [&](const auto& text) {
      const auto ip = Ip::parse(text);
      return ip && std::any_of(subnets.begin(), subnets.end(),
                               [&](const Prefix& subnet) { return subnet.contains(*ip); });
    });
    if (member) members.push_back(id);
  }
  return members;
}

Status LinuxNetwork::lead_to_subnets(const v1::Network& network, std::vector<std::string>* said) {
  if (!has_further_subnets(network)) return ok_status();
  MUSTER_ASSIGN(const auto subnets, subnets_of(network));
  std::vector<std::string> mended;
  const std::vector<std::string> members = members_of(subnets);
  std::set<std::string> entering;  // afterwards: who is none of them any more has his routes
  {
    std::lock_guard lock(mutex_);
    entering = entering_;
  }
  const Status led = lead_to_further_subnets(pins_, members, network, mended);
  if (said == nullptr) return led;
  for (const std::string& id : mended) {
    if (entering.contains(id)) continue;
    said->push_back(fmt::format("container {} had no route to a subnet of network {}", id,
                                network.spec().annotations().name()));
  }
  return led;
}

// What it was made with may be older than what was told since.
Status LinuxNetwork::lead_to_subnets_of(const std::string& container_id) {
  std::vector<v1::Network> grown;
  {
    std::lock_guard lock(overlay_mutex_);
    for (const auto& [id, truth] : truths_.all()) {
      if (has_further_subnets(truth.network)) grown.push_back(truth.network);
    }
  }
  std::vector<std::string> ignored;
  for (const v1::Network& network : grown) {
    MUSTER_TRY(lead_to_further_subnets(pins_, {container_id}, network, ignored));
  }
  return ok_status();
}

// Networks of this node alone are not told of: that one has grown is known from the first container
// that has an address there, or may lead to one.
// What fails for another container is no reason for this one not to start; repair() tries again.
Status LinuxNetwork::lead_in_bridges(const std::string& container_id, const AttachPlan& plan) {
  for (const LinkPlan& link : plan.links) {
    if (link.home != LinkPlan::Home::kBridge || !has_further_subnets(*link.network)) continue;
    const v1::Network& network = *link.network;
    std::vector<std::string> ignored;
    MUSTER_TRY(lead_to_further_subnets(pins_, {container_id}, network, ignored));
    {
      std::lock_guard lock(mutex_);
      v1::Network& known = grown_bridges_[network.id()];
      // What this one was made with may be an older word.
      if (network.state().pools_size() >= known.state().pools_size()) known = network;
      if (!bridges_.take_grown(network.id())) continue;
    }
    if (const Status led = lead_to_subnets(network, nullptr); !led.ok()) {
      log_->warn("network {}: {}", network.spec().annotations().name(), led.message());
    }
  }
  return ok_status();
}

// ---------------------------------------------------------------- a smaller MTU

// What containers that run send has to fit through a network whose MTU has become smaller.
Status LinuxNetwork::fit_containers(const v1::Network& network) {
  if (!is_overlay(network)) return ok_status();
  MUSTER_ASSIGN(const uint32_t mtu, network_mtu(network));
  MUSTER_ASSIGN(const auto subnets, subnets_of(network));
  return lower_mtu(pins_, members_of(subnets), subnets, mtu);
}

// It has become smaller while this container's interfaces were made.
Status LinuxNetwork::fit_links(const std::string& container_id, const AttachPlan& plan) {
  for (const LinkPlan& link : plan.links) {
    if (link.home != LinkPlan::Home::kSegment) continue;
    uint32_t mtu = link.veth.mtu;
    {
      std::lock_guard lock(overlay_mutex_);
      if (const auto place = segments_.find(link.network->id())) mtu = place->mtu;
    }
    if (mtu >= link.veth.mtu) continue;
    MUSTER_ASSIGN(const auto subnets, subnets_of(*link.network));
    MUSTER_TRY(lower_mtu(pins_, {container_id}, subnets, mtu));
  }
  return ok_status();
}

// ---------------------------------------------------------------- repair

void LinuxNetwork::repair_subnets(std::vector<std::string>& said) {
  std::vector<v1::Network> grown;
  std::set<std::string> news;  // told of this moment, or not carried out as it should: no drift
  {
    std::lock_guard lock(overlay_mutex_);
    for (const auto& [id, truth] : truths_.all()) {
      if (!has_further_subnets(truth.network)) continue;
      grown.push_back(truth.network);
      const auto due = due_.find(id);
      if (due != due_.end() && due->second.network) news.insert(id);
    }
  }
  {
    std::lock_guard lock(mutex_);
    std::erase_if(grown_bridges_, [&](const auto& entry) {
      return !bridges_.all().contains(names_.bridge(entry.first));
    });
    for (const auto& [id, network] : grown_bridges_) grown.push_back(network);
  }
  for (const v1::Network& network : grown) {
    const bool known = !news.contains(network.id());
    if (Status led = lead_to_subnets(network, known ? &said : nullptr); !led.ok()) {
      log_->warn("network {}: {}", network.spec().annotations().name(), led.message());
    }
  }
}

}  // namespace muster::overlay
