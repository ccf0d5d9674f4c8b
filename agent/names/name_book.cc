#include "agent/names/name_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/cidr_text.h"
#include "base/container_names.h"
#include "overlay/dns/netd/records.h"

namespace muster::agent {
namespace {

constexpr const char* kRelayPrefix = "relay/";

std::string service_key(const std::string& network, const std::string& id) {
  return fmt::format("service/{}/{}", network, id);
}
std::string endpoint_key(const std::string& network, const std::string& task) {
  return fmt::format("endpoint/{}/{}", network, task);
}

// "web" of "web.3".
std::string service_of_task(const std::string& name) {
  return name.substr(0, name.rfind('.'));
}

const v1::Network* find_network(const v1::TaskAssignment& assignment, const std::string& id) {
  for (const v1::Network& network : assignment.networks()) {
    if (network.id() == id) return &network;
  }
  return nullptr;
}

const char* protocol_of(const v1::PortConfig& port) {
  switch (port.protocol()) {
    case v1::PortConfig::UDP: return "udp";
    case v1::PortConfig::SCTP: return "sctp";
    default: return "tcp";
  }
}

}  // namespace

void NameBook::put(v1::NetdRecord record) {
  const std::string key = record.key();
  v1::NetdRecord& known = records_[key];
  if (known.SerializeAsString() == record.SerializeAsString()) return;
  known = std::move(record);
  dirty_.insert(key);
}

void NameBook::drop(const std::string& key) {
  if (records_.erase(key) != 0) dirty_.insert(key);
}

void NameBook::set_settings(const v1::NetdSettings& settings) {
  v1::NetdRecord record;
  record.set_key("settings");
  *record.mutable_settings() = settings;
  put(std::move(record));
}

std::set<std::string> NameBook::relay_keys(bool encapsulation) const {
  std::set<std::string> out;
  for (auto it = records_.lower_bound(kRelayPrefix);
       it != records_.end() && it->first.starts_with(kRelayPrefix); ++it) {
    if (overlay::dns::is_encapsulation(it->second.relay()) == encapsulation) out.insert(it->first);
  }
  return out;
}

void NameBook::put_relay(const v1::NetdRelay& relay, bool again, std::set<std::string>& gone) {
  v1::NetdRecord record;
  record.set_key(kRelayPrefix + relay.id());
  *record.mutable_relay() = relay;
  gone.erase(record.key());
  if (again) dirty_.insert(record.key());
  put(std::move(record));
}

std::string NameBook::encapsulation_key(uint16_t port) {
  return fmt::format("{}{}{}", kRelayPrefix, overlay::dns::kEncapsulation, port);
}

bool NameBook::set_encapsulation(uint16_t port, bool again) {
  std::set<std::string> gone = relay_keys(true);
  if (port != 0) {
    v1::NetdRelay relay;
    relay.set_id(fmt::format("{}{}", overlay::dns::kEncapsulation, port));
    for (const char* any : {"0.0.0.0", "[::]"}) relay.add_listen(fmt::format("{}:{}", any, port));
    put_relay(relay, again, gone);
  }
  for (const std::string& key : gone) drop(key);
  if (std::exchange(encapsulation_told_, true)) return false;
  dirty_.insert("settings");  // as with relays
  return true;
}

bool NameBook::set_relays(const std::vector<v1::NetdRelay>& relays, bool again) {
  std::set<std::string> gone = relay_keys(false);
  for (const v1::NetdRelay& relay : relays) put_relay(relay, again, gone);
  for (const std::string& key : gone) drop(key);
  if (std::exchange(relays_told_, true)) return false;
  dirty_.insert("settings");  // to be told even if there are none: netd may know some of before
  return true;
}

void NameBook::set_container(const v1::NetdContainer& container) {
  containers_.insert(container.id());
  v1::NetdRecord record;
  record.set_key("container/" + container.id());
  *record.mutable_container() = container;
  // Always told: its namespace may have been made anew under the old name.
  dirty_.insert(record.key());
  put(std::move(record));
}

void NameBook::remove_container(const std::string& id) {
  containers_.erase(id);
  drop("container/" + id);
}

void NameBook::enter(const v1::Network& network, const std::string& task_id) {
  const bool first = members_[network.id()].empty();
  members_[network.id()].insert(task_id);
  networks_[task_id].insert(network.id());
  // Networks of other drivers end at the node: a service's tasks elsewhere are not reached there.
  if (virtual_ips_ && network.spec().driver() == "overlay") led_.insert(network.id());
  // What a task was made with may be older: networks get further subnets.
  const v1::Network& told = feeds_[network.id()].network;
  put_network(told.meta().version() > network.meta().version() ? told : network);
  if (!first) return;
  for (const auto& [id, service] : feeds_[network.id()].services) put_fed(network.id(), service);
  for (const auto& [id, endpoint] : feeds_[network.id()].endpoints) put_fed(network.id(), endpoint);
}

void NameBook::put_network(const v1::Network& network) {
  v1::NetdRecord record;
  record.set_key("network/" + network.id());
  v1::NetdNetwork& out = *record.mutable_network();
  out.set_id(network.id());
  out.set_name(network.spec().annotations().name());
  for (const v1::IpamPool& pool : network.state().pools()) out.add_subnets(pool.subnet());
  put(std::move(record));
}

void NameBook::leave(const std::string& network_id, const std::string& task_id) {
  drop(endpoint_key(network_id, task_id));
  auto& members = members_[network_id];
  members.erase(task_id);
  if (!members.empty()) return;
  members_.erase(network_id);
  led_.erase(network_id);
  drop("network/" + network_id);
  const auto feed = feeds_.find(network_id);
  if (feed == feeds_.end()) return;
  drop_fed(network_id, feed->second);
  if (!feed->second.heard) feeds_.erase(feed);  // no manager will tell of it
}

void NameBook::set_task(const v1::LocalTask& local) {
  const v1::Task& task = local.assignment().task();
  own_[task.id()] = own_endpoint(local);
  // It may have left some while it runs.
  const std::set<std::string> entered = networks_[task.id()];
  for (const std::string& id : entered) {
    const auto& now = task.networks();
    if (std::any_of(now.begin(), now.end(),
                    [&](const auto& attachment) { return attachment.network_id() == id; })) {
      continue;
    }
    leave(id, task.id());
    networks_[task.id()].erase(id);
  }
  for (const v1::NetworkAttachment& attachment : task.networks()) {
    const v1::Network* network = find_network(local.assignment(), attachment.network_id());
    // The mesh's own network has no names, as in Swarm.
    if (network == nullptr || network->spec().ingress()) continue;
    enter(*network, task.id());
    v1::NetdRecord record;
    record.set_key(endpoint_key(network->id(), task.id()));
    v1::NetdEndpoint& out = *record.mutable_endpoint();
    out.set_network_id(network->id());
    out.set_task_id(task.id());
    out.set_service_id(task.service_id());
    out.set_service_name(local.revision().service_name());
    *out.mutable_aliases() = attachment.aliases();
    out.set_name(fmt::format("{}.{}", task.name(), task.id()));
    out.add_own_names(task.name());
    for (std::string& name :
         container_names(local.container_id(), local.status().container().hostname())) {
      out.add_own_names(std::move(name));
    }
    for (const std::string& cidr : attachment.addresses()) {
      out.add_addresses(without_prefix_length(cidr));
    }
    out.set_ready(led(network->id(), task.id()));
    put(std::move(record));
  }
}

bool NameBook::led(const std::string& network_id, const std::string& task_id) const {
  const auto own = own_.find(task_id);
  if (own == own_.end()) return false;
  v1::EndpointState fed = v1::ENDPOINT_ABSENT;
  if (const auto feed = feeds_.find(network_id); feed != feeds_.end()) {
    const auto said = feed->second.own.find(task_id);
    if (said != feed->second.own.end()) fed = said->second;
  }
  return led_as(own->second, fed) == v1::ENDPOINT_READY;
}

void NameBook::lead_own(const std::string& network_id, const std::string& task_id) {
  const auto at = records_.find(endpoint_key(network_id, task_id));
  const bool ready = led(network_id, task_id);
  if (at == records_.end() || at->second.endpoint().ready() == ready) return;
  v1::NetdRecord record = at->second;
  record.mutable_endpoint()->set_ready(ready);
  put(std::move(record));
}

void NameBook::remove_task(const std::string& task_id) {
  own_.erase(task_id);
  const auto networks = networks_.extract(task_id);
  if (networks.empty()) return;
  for (const std::string& network : networks.mapped()) leave(network, task_id);
}

void NameBook::put_fed(const std::string& network_id, const v1::NetworkEndpoint& endpoint) {
  if (members_.count(network_id) == 0) return;
  v1::NetdRecord record;
  record.set_key(endpoint_key(network_id, endpoint.task_id()));
  record.set_fed(true);
  v1::NetdEndpoint& out = *record.mutable_endpoint();
  out.set_network_id(network_id);
  out.set_task_id(endpoint.task_id());
  out.set_service_id(endpoint.service_id());
  const auto& services = feeds_[network_id].services;
  const auto service = services.find(endpoint.service_id());
  out.set_service_name(service != services.end() ? service->second.name()
                                                 : service_of_task(endpoint.name()));
  *out.mutable_aliases() = endpoint.aliases();
  out.set_name(fmt::format("{}.{}", endpoint.name(), endpoint.task_id()));
  out.add_own_names(endpoint.name());
  for (const std::string& name : endpoint.own_names()) out.add_own_names(name);
  *out.mutable_addresses() = endpoint.addresses();
  out.set_ready(endpoint.state() == v1::ENDPOINT_READY);
  put(std::move(record));
}

void NameBook::put_fed(const std::string& network_id, const v1::NetworkService& service) {
  if (members_.count(network_id) == 0) return;
  v1::NetdRecord record;
  record.set_key(service_key(network_id, service.service_id()));
  record.set_fed(true);
  v1::NetdService& out = *record.mutable_service();
  out.set_network_id(network_id);
  out.set_id(service.service_id());
  out.set_name(service.name());
  *out.mutable_aliases() = service.aliases();
  if (led_.contains(network_id)) *out.mutable_virtual_ips() = service.virtual_ips();
  for (const v1::PortConfig& port : service.ports()) {
    v1::NetdPort& to = *out.add_ports();
    to.set_name(port.name());
    to.set_protocol(protocol_of(port));
    to.set_target(port.target_port());
    to.set_published(port.published_port());
  }
  put(std::move(record));
}

void NameBook::drop_fed(const std::string& network_id, const Feed& feed) {
  for (const auto& [id, service] : feed.services) drop(service_key(network_id, id));
  for (const auto& [id, endpoint] : feed.endpoints) drop(endpoint_key(network_id, id));
}

bool NameBook::apply(const overlay::NetworkStep& step) {
  const std::string& id = step.network_id;
  const v1::NetworkFeed& news = step.feed;
  Feed& feed = feeds_[id];
  Feed before;
  if (step.complete) before = std::exchange(feed, {});
  feed.heard = true;
  if (step.complete && !news.has_network()) feed.network = before.network;
  if (news.has_network()) {
    feed.network = news.network();
    if (members_.count(id) != 0) put_network(feed.network);
  }
  for (const v1::NetworkService& service : news.services()) {
    feed.services[service.service_id()] = service;
    before.services.erase(service.service_id());
    put_fed(id, service);
  }
  for (const v1::NetworkEndpoint& endpoint : news.endpoints()) {
    if (endpoint.node_id() == node_id_) {  // known better here, but for when it is passed by
      feed.own[endpoint.task_id()] = endpoint.state();
      before.own.erase(endpoint.task_id());
      lead_own(id, endpoint.task_id());
      continue;
    }
    feed.endpoints[endpoint.task_id()] = endpoint;
    before.endpoints.erase(endpoint.task_id());
    put_fed(id, endpoint);
  }
  drop_fed(id, before);
  for (const auto& [task, state] : before.own) lead_own(id, task);
  for (const std::string& service : news.removed_service_ids()) {
    if (feed.services.erase(service) != 0) drop(service_key(id, service));
  }
  for (const std::string& task : news.removed_task_ids()) {
    if (feed.endpoints.erase(task) != 0) drop(endpoint_key(id, task));
    if (feed.own.erase(task) != 0) lead_own(id, task);
  }
  return unheard_.erase(id) != 0;
}

void NameBook::forget_network(const std::string& network_id) {
  const auto feed = feeds_.find(network_id);
  if (feed == feeds_.end()) return;
  if (!members_.contains(network_id)) {
    feeds_.erase(feed);
  } else {
    feed->second.heard = false;  // the last one takes it along
  }
}

v1::NetdUpdate NameBook::complete() {
  dirty_.clear();
  v1::NetdUpdate out;
  out.set_complete(true);
  for (const auto& [key, record] : records_) *out.add_records() = record;
  for (const auto& [id, feed] : feeds_) {
    if (feed.heard) out.add_fed_network_ids(id);
  }
  unheard_.clear();
  for (const auto& [id, members] : members_) {
    const auto feed = feeds_.find(id);
    if (feed == feeds_.end() || !feed->second.heard) unheard_.insert(id);
  }
  if (relays_told_) out.add_fed_network_ids(overlay::dns::kRelaysTold);
  if (encapsulation_told_) out.add_fed_network_ids(overlay::dns::kEncapsulationTold);
  return out;
}

v1::NetdUpdate NameBook::increment() {
  v1::NetdUpdate out;
  for (const std::string& key : std::exchange(dirty_, {})) {
    const auto found = records_.find(key);
    if (found == records_.end()) {
      out.add_removed_keys(key);
    } else {
      *out.add_records() = found->second;
    }
  }
  return out;
}

}  // namespace muster::agent
