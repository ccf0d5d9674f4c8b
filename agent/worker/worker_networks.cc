// The worker's part in overlay networks: what the keeper of routes is told, and what follows when
// it has done something.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/worker/container_plan.h"
#include "agent/worker/worker.h"
#include "agent/worker/worker_entry.h"

namespace muster::agent {
namespace {

constexpr uint32_t kDefaultDataPathPort = 4789;
constexpr uint32_t kDefaultEncryptionPort = 4500;

v1::FeedId network_feed(const std::string& network_id) {
  v1::FeedId feed;
  feed.set_kind(v1::FeedId::NETWORK);
  feed.set_network_id(network_id);
  return feed;
}

overlay::Encryption encryption_of(const v1::ClusterFeed& feed) {
  overlay::Encryption out;
  for (const v1::NetworkKey& key : feed.network_keys()) {
    out.keys.push_back({key.number(), key.secret(), key.used_from_ns() != 0});
  }
  const v1::EncryptionConfig& config = feed.encryption();
  if (config.udp_encapsulation()) {
    out.udp_port = config.udp_port() != 0 ? config.udp_port() : kDefaultEncryptionPort;
  }
  return out;
}

}  // namespace

RouteKeeperDeps Worker::route_deps() {
  return {deps_.strand,
          deps_.step_pool,
          deps_.network,
          deps_.names,
          std::make_shared<FeedFiles>(deps_.files, paths_.networks()),
          [this](const std::string& id, uint64_t version, bool forgotten) {
            network_carried_out(id, version, forgotten);
          },
          [this](uint64_t version) {
            v1::FeedId feed;
            feed.set_kind(v1::FeedId::CLUSTER);
            if (deps_.applied) deps_.applied(feed, version);
          },
          [this](const std::vector<std::string>& found) {
            tell_limitations();
            if (!found.empty() && deps_.repaired) deps_.repaired(found);
          },
          deps_.log};
}

// The feed counts as applied when its keys are in force: the rest is at once.
void Worker::apply_cluster(const v1::ClusterFeed& feed, uint64_t version) {
  options_.node.default_log_driver = feed.default_log_driver();
  options_.data_path_port =
      feed.data_path_port() != 0 ? feed.data_path_port() : kDefaultDataPathPort;
  tell_local_node();
  if (std::exchange(masquerade_, feed.masquerade()) != masquerade_) ports_changed();
  routes_.set_encryption(encryption_of(feed), version);
}

// Sentences that managers know again (overlay/ipam/port_options.h).
void Worker::tell_limitations() {
  HostLimits now{deps_.network.limitations(), deps_.network.no_overlays()};
  std::vector<std::string>& all = now.sentences;
  for (const std::string& limitation : all) {
    const bool known = std::find(limits_.sentences.begin(), limits_.sentences.end(), limitation) !=
                       limits_.sentences.end();
    if (!known) deps_.log->warn("{}", limitation);
  }
  // One sentence a network: what a step met is newer than what a repair did.
  for (std::string& trouble : routes_.troubles()) {
    const std::string begin = trouble.substr(0, trouble.find(" here: "));
    std::erase_if(all, [&](const std::string& known) { return known.starts_with(begin); });
    all.push_back(std::move(trouble));
  }
  if (!ports_said_.empty()) {
    all.push_back(fmt::format("published ports are not as they should be here: {}", ports_said_));
  }
  for (const v1::PortConfig& port : refused_ports()) {
    all.push_back(fmt::format("port {} is taken by another program of this host", port_name(port)));
  }
  for (const v1::PortConfig& port : ports_at_loopback_) {
    all.push_back(fmt::format(
        "port {} is taken by another program of this host at ::1, and answers everywhere else",
        port_name(port)));
  }
  if (now == limits_) return;
  limits_ = std::move(now);
  if (deps_.limited) deps_.limited(limits_);
}

void Worker::tell_local_node() {
  routes_.set_local_node({options_.node.node_id, options_.data_path_addr, options_.data_path_port});
}

// It counts as applied when published ports and names are as the feed says, too.
void Worker::network_carried_out(const std::string& network_id, uint64_t version, bool forgotten) {
  if (routes_.take_ingress_changed()) ports_changed();
  tell_limitations();
  if (version == 0 && !forgotten) return;
  CarriedOut& unsaid = networks_unsaid_[network_id];
  if (version != 0) unsaid.version = version;
  unsaid.forgotten = forgotten;  // not if it was entered again
  tell_carried_out();
}

void Worker::tell_carried_out() {
  if (ports_busy_ || ports_failing_since_ || networks_unsaid_.empty()) return;
  after_names([this, said = std::exchange(networks_unsaid_, {})] {
    for (const auto& [network_id, done] : said) {
      if (deps_.applied && done.version != 0) deps_.applied(network_feed(network_id), done.version);
      if (deps_.forgotten && done.forgotten) deps_.forgotten(network_feed(network_id));
    }
  });
}

}  // namespace muster::agent
