#include "overlay/dataplane/mesh/mesh.h"

#include <algorithm>
#include <utility>

namespace muster::overlay {
namespace {

bool same(const std::optional<MeshLink::Spec>& a, const std::optional<MeshLink::Spec>& b) {
  if (!a || !b) return !a && !b;
  return a->mac == b->mac && a->subnets == b->subnets &&
         std::equal(
             a->addresses.begin(), a->addresses.end(), b->addresses.begin(), b->addresses.end(),
             [](const Cidr& x, const Cidr& y) { return x.ip == y.ip && x.length == y.length; });
}

}  // namespace

Status Mesh::scan() {
  MUSTER_ASSIGN(reaches_, link_.subnets());
  return ok_status();
}

Result<Mesh::Told> Mesh::read(const NetworkTruth& truth, const std::string& node_id) {
  Told out;
  out.network = truth.network;
  out.node_id = node_id;
  out.maps = mesh_maps(truth.ingress_nodes, &out.trouble);
  const auto own = truth.ingress_nodes.find(node_id);
  if (own == truth.ingress_nodes.end() || own->second.addresses().empty()) return out;
  MeshLink::Spec place;
  place.mac = own->second.mac();
  for (const auto& pool : truth.network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    place.subnets.push_back(subnet);
  }
  for (const std::string& text : own->second.addresses()) {
    MUSTER_ASSIGN(const Ip ip, Ip::parse(text));
    if (place.mac.empty()) place.mac = mac_of(ip);
    const auto in = std::find_if(place.subnets.begin(), place.subnets.end(),
                                 [&](const Prefix& subnet) { return subnet.contains(ip); });
    if (in == place.subnets.end()) {
      return fail(
          failed_precondition("this node's address {} is not of the ingress network", text));
    }
    place.addresses.push_back({ip, in->length});
  }
  out.place = std::move(place);
  return out;
}

Status Mesh::keep_link(bool look, std::vector<std::string>* said) {
  if (!told_->place) {
    if (!look && link_in_step_) return ok_status();
    reaches_.clear();
    MUSTER_TRY(link_.remove());
    MUSTER_TRY(segments_.release(port()));
    link_in_step_ = true;
    return ok_status();
  }
  const auto place = segments_.find(told_->network.id());
  if (!look && link_in_step_ && place && segments_.has_port(port())) return ok_status();
  link_in_step_ = false;
  MUSTER_ASSIGN(const Segments::Place at, segments_.acquire(told_->network, port()));
  MUSTER_TRY(link_.keep(*told_->place, at, said));
  reaches_ = told_->place->subnets;
  link_in_step_ = true;
  return ok_status();
}

Status Mesh::keep(bool look, std::vector<std::string>* said) {
  if (!told_) return ok_status();
  const Status link = keep_link(look, said);
  // Without a place of its own the node has a segment as long as it has tasks there.
  const auto place = segments_.find(told_->network.id());
  if (place && (look || !maps_in_step_ || !rules_.knows(place->namespace_fd))) {
    const Status rules = rules_.keep(place->namespace_fd, told_->maps, look, said);
    maps_in_step_ = rules.ok();
    if (!rules.ok()) return rules.with_context("routing mesh");
  }
  return link.with_context("routing mesh");
}

void Mesh::note(Told told) {
  const bool same_network = told_ && told_->network.id() == told.network.id() &&
                            told_->network.state().mtu() == told.network.state().mtu();
  if (!same_network || !same(told_->place, told.place)) link_in_step_ = false;
  if (!told_ || told_->maps != told.maps) maps_in_step_ = false;
  if (!told_ || told_->trouble != told.trouble) {
    for (const std::string& sentence : told.trouble) log_->warn("{}", sentence);
  }
  told_ = std::move(told);
}

Status Mesh::apply(const NetworkTruth& truth, const NetworkDifference& difference,
                   const std::string& node_id) {
  // Tasks come and go all the time, nodes do not.
  const bool known = told_ && told_->network.id() == truth.network.id() &&
                     told_->node_id == node_id && !difference.network &&
                     difference.ingress_node_ids.empty();
  if (!known) {
    MUSTER_ASSIGN(Told told, read(truth, node_id));
    note(std::move(told));
  }
  const Status kept = keep(false, nullptr);
  if (kept.ok()) trouble_.clear();
  return kept;
}

Status Mesh::forget(const std::string& network_id) {
  if (!told_ || told_->network.id() != network_id) return ok_status();
  // Until all of it is gone the node only has no place: whoever tries again goes on here.
  told_->place.reset();
  link_in_step_ = false;
  maps_in_step_ = false;
  MUSTER_TRY(keep_link(true, nullptr));
  if (const auto place = segments_.find(network_id)) {
    MUSTER_TRY(rules_.clear(place->namespace_fd));
  }
  rules_.release();
  told_.reset();
  trouble_.clear();
  return ok_status();
}

void Mesh::repair(std::vector<std::string>& said) {
  const bool was = link_in_step_;
  std::vector<std::string> differences;
  const Status kept = keep(true, was ? &differences : nullptr);
  trouble_ = kept.message();
  // What had not come about before is no difference but the second try; what fails is no repair.
  if (!was || !kept.ok()) return;
  said.insert(said.end(), differences.begin(), differences.end());
}

Status Mesh::remove() {
  link_in_step_ = false;
  maps_in_step_ = false;
  reaches_.clear();
  MUSTER_TRY(link_.remove());
  MUSTER_TRY(segments_.release(port()));
  rules_.release();
  told_.reset();
  return ok_status();
}

}  // namespace muster::overlay
