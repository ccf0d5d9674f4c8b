#include "manager/allocator/allocator.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "base/backoff.h"
#include "base/check.h"
#include "manager/allocator/holdings.h"
#include "manager/allocator/ingress_places.h"
#include "manager/allocator/pass.h"
#include "manager/mutant.h"
#include "manager/store/ingress_network.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/mtu.h"

namespace muster::manager::allocator {
namespace {

overlay::SubnetPoolOptions pool_options(const store::Snapshot& view, const Log& log) {
  auto options = overlay::SubnetPoolOptions::defaults();
  const auto cluster = view.cluster();
  if (cluster == nullptr) return options;
  if (cluster->subnet_mask_bits() != 0) {
    options.mask_bits_v4 = static_cast<int>(cluster->subnet_mask_bits());
  }
  if (cluster->default_address_pools_size() == 0) return options;
  bool v6 = false;
  std::vector<overlay::Prefix> pools;
  for (const auto& text : cluster->default_address_pools()) {
    const auto pool = overlay::Prefix::parse(text);
    if (!pool) {
      log->error("default address pool: {}", pool.error().message());
      continue;
    }
    v6 = v6 || pool->base.v6;
    pools.push_back(*pool);
  }
  // Pools of one family leave the default of the other in force.
  for (const auto& pool : options.pools) {
    if (pool.base.v6 && !v6) pools.push_back(pool);
  }
  options.pools = std::move(pools);
  return options;
}

// What automatic subnets keep away from: all that any node reaches by itself, whether it is up now
// or comes back later, and where others send what is for it, which can be an address that is
// translated on the way and lies in none of its routes. And where they are only if they must be:
// beside those addresses, where other hosts are that the containers may want.
void keep_away(overlay::Ipam& ipam, const store::Snapshot& view) {
  std::vector<overlay::Prefix> ranges, near;
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    for (const auto& text : node->description().local_ranges()) {
      if (const auto range = overlay::Prefix::parse(text)) ranges.push_back(*range);
    }
    const auto path = overlay::Ip::parse(node->description().data_path().address());
    if (!path) return true;
    ranges.push_back({*path, path->bits()});
    if (const auto around = overlay::neighbourhood(*path)) near.push_back(*around);
    return true;
  });
  ipam.avoid(overlay::RangeSet(std::move(ranges)), overlay::RangeSet(std::move(near)));
}

bool same_ranges(const store::Ptr<v1::Node>& a, const store::Ptr<v1::Node>& b) {
  static const v1::NodeDescription kNone;
  const auto& left = a ? a->description() : kNone;
  const auto& right = b ? b->description() : kNone;
  return left.data_path().address() == right.data_path().address() &&
         std::equal(left.local_ranges().begin(), left.local_ranges().end(),
                    right.local_ranges().begin(), right.local_ranges().end());
}

}  // namespace

Status bootstrap_networks(store::Transaction& tx, Rng& rng) {
  struct Predefined {
    std::string_view name;
    std::string_view driver;
  };
  // A swarm may do without an ingress network, or have one of another name: only a new one gets it.
  const bool fresh = tx.view().find<v1::Network>("host") == nullptr;
  for (const Predefined& p : {Predefined{"host", "host"}, Predefined{"none", "none"},
                              Predefined{"bridge", "bridge"}, Predefined{"ingress", "overlay"}}) {
    if (tx.view().find<v1::Network>(p.name) != nullptr) continue;
    if (p.name == "ingress" && !fresh) continue;
    v1::Network network;
    network.set_id(rng.id());
    network.set_predefined(true);
    auto& spec = *network.mutable_spec();
    spec.mutable_annotations()->set_name(std::string(p.name));
    auto* label = spec.mutable_annotations()->add_labels();
    label->set_key("com.docker.swarm.predefined");
    label->set_value("true");
    spec.set_driver(std::string(p.driver));
    spec.set_ingress(p.name == "ingress");
    // Published ports answer by both families.
    spec.set_ipv6(p.name == "ingress");
    MUSTER_TRY(tx.create(std::move(network)));
  }
  return ok_status();
}

struct Allocator::Impl : std::enable_shared_from_this<Allocator::Impl> {
  Impl(Executor& executor, store::Store& s, Log l)
      : strand(executor), store(s), log(std::move(l)) {}

  void start();
  void rebuild(const store::Snapshot& view);
  void on_commit(const store::CommitEvent& event);
  void on_change(const store::Snapshot& after, const store::Change<v1::Network>& change);
  void on_change(const store::Snapshot& after, const store::Change<v1::Service>& change);
  void on_change(const store::Snapshot& after, const store::Change<v1::Task>& change);
  void on_change(const store::Snapshot& after, const store::Change<v1::Node>& change);
  void on_change(const store::Snapshot& after, const store::Change<v1::Cluster>& change);
  // Whether the node's place is to be given, or taken back.
  bool misplaced(const v1::Node& node) const;
  void look_at_places(const store::Snapshot& view);
  template <class T>
  void on_change(const store::Snapshot&, const store::Change<T>&) {}
  void look_again() {
    dirty = true;
    work.blocked_tasks.clear();
  }
  std::string audit() const;
  void propose();
  void proposed(const store::Commit& commit);

  Executor& strand;
  store::Store& store;
  Log log;
  bool running = false;
  bool in_flight = false;
  bool dirty = false;
  // Something was given back since the last pass: failures are worth another try.
  bool freed = false;
  // Nodes' ranges changed since `ipam` was told of them.
  bool ranges_stale = true;
  std::optional<overlay::Ipam> ipam;
  std::string ingress_id;  // of the ingress network; empty = there is none
  IngressPlaces places;
  overlay::DataPathTally paths;
  // What the networks' MTUs follow from, and what those do that are being written.
  std::optional<overlay::DataPaths> followed;
  overlay::DataPaths following;
  Work work;
  std::optional<Pass> pass;
  Backoff backoff{100ms, 5s};
  Executor::TimerId retry = 0;
  store::Store::Subscription subscription;
};

void Allocator::Impl::start() {
  running = true;
  const store::Snapshot view = store.snapshot();
  rebuild(view);
  const auto keep_watching = [weak = weak_from_this()](const store::CommitEvent& event) {
    if (const auto self = weak.lock()) self->on_commit(event);
  };
  auto watching = store.watch(view.version(), keep_watching);
  if (watching) {
    subscription = *std::move(watching);
  } else {
    subscription = store.watch(keep_watching);
  }
  dirty = true;
  propose();
}

void Allocator::Impl::rebuild(const store::Snapshot& view) {
  ipam.emplace(pool_options(view, log));
  ranges_stale = true;
  work = {};
  const auto complain = [&](const Status& s, std::string_view what, const std::string& id) {
    // Two holders of one thing in the stored state. The first keeps it; the other keeps what is
    // written until it ends.
    if (!s.ok()) log->error("{} {}: {}", what, id, s.message());
  };
  view.each<v1::Network>([&](const store::Ptr<v1::Network>& n) {
    if (n->state().pools_size() != 0) {
      complain(ipam->restore_network(*n), "network", n->id());
      if (!overlay::Ipam::missing_pools(*n).empty()) work.networks.insert(n->id());
    } else if (wants_subnets(n->spec())) {
      work.networks.insert(n->id());
    }
    return true;
  });
  view.each<v1::Service>([&](const store::Ptr<v1::Service>& s) {
    const Holdings held = holdings_of(*s);
    for (const auto& a : held.addresses) {
      complain(ipam->restore_address(a.network_id, a.cidr), "service", s->id());
    }
    for (v1::PortConfig port : held.ports) {
      complain(ipam->ports().take(port, s->id()), "service", s->id());
    }
    if (!is_allocated(view, *s)) work.services.insert(s->id());
    return true;
  });
  view.each<v1::Task>([&](const store::Ptr<v1::Task>& t) {
    for (const auto& a : holdings_of(*t).addresses) {
      // One that it has left may be gone.
      if (view.get<v1::Network>(a.network_id) == nullptr) continue;
      complain(ipam->restore_address(a.network_id, a.cidr), "task", t->id());
    }
    if (is_connecting(*t)) work.connecting.insert(t->id());
    return true;
  });
  const auto ingress = store::ingress_network(view);
  ingress_id = ingress == nullptr ? std::string() : ingress->id();
  places = IngressPlaces();
  paths = overlay::DataPathTally();
  followed.reset();
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& n) {
    paths.add(*n);
    complain(places.restore(*ipam, ingress_id, *n), "node", n->id());
    return true;
  });
  look_at_places(view);
}

bool Allocator::Impl::misplaced(const v1::Node& node) const {
  if (ipam->has_network(ingress_id)) return !places.holds(node.id());
  return !node.ingress().addresses().empty();
}

void Allocator::Impl::look_at_places(const store::Snapshot& view) {
  work.nodes.clear();
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& n) {
    if (misplaced(*n)) work.nodes.insert(work.nodes.end(), n->id());
    return true;
  });
  if (!work.nodes.empty()) dirty = true;
}

void Allocator::Impl::on_change(const store::Snapshot& after,
                                const store::Change<v1::Network>& change) {
  if (change.after == nullptr) {
    ipam->put_back_network(change.before->id());
    work.networks.erase(change.before->id());
    freed = true;
    if (change.before->id() != ingress_id) return;
    ingress_id.clear();
    places.forget_addresses();
    look_at_places(after);
    return;
  }
  const std::string& id = change.after->id();
  if (change.before == nullptr) {
    if (wants_subnets(change.after->spec())) work.networks.insert(id);
    look_again();
    if (!change.after->spec().ingress()) return;
    ingress_id = id;
    places.forget_addresses();
    look_at_places(after);
  } else if (change.after->state().pools_size() == 0) {
    // It waits, and may ask for another subnet now.
    if (change.after->spec().pools_size() != change.before->spec().pools_size()) dirty = true;
  } else if (!overlay::Ipam::missing_pools(*change.after).empty()) {
    // It is to grow. Whether it could not be given these before shows in its error.
    if (work.networks.insert(id).second) dirty = true;
  } else if (work.networks.erase(id) != 0) {
    look_again();  // services and tasks may wait for it
    if (id == ingress_id) look_at_places(after);
  }
}

void Allocator::Impl::on_change(const store::Snapshot& after,
                                const store::Change<v1::Service>& change) {
  const std::string& id = change.after ? change.after->id() : change.before->id();
  const Holdings held = change.before ? holdings_of(*change.before) : Holdings();
  const Holdings holds = change.after ? holdings_of(*change.after) : Holdings();
  freed = give_back(*ipam, id, held, holds) || freed;
  if (change.after == nullptr || is_allocated(after, *change.after)) {
    // Tasks that waited for their service can go on.
    if (work.services.erase(id) != 0) look_again();
    return;
  }
  const bool asks_anew = change.before == nullptr ||
                         change.after->allocation_error() == change.before->allocation_error();
  work.services.insert(id);
  if (asks_anew) look_again();
}

void Allocator::Impl::on_change(const store::Snapshot&, const store::Change<v1::Task>& change) {
  const std::string& id = change.after ? change.after->id() : change.before->id();
  const Holdings held = change.before ? holdings_of(*change.before) : Holdings();
  const bool keeps = change.after != nullptr && !(fault(ManagerMutant::kAddressFreedEarly) &&
                                                  change.after->desired_state() > v1::TASK_RUNNING);
  const Holdings holds = keeps ? holdings_of(*change.after) : Holdings();
  freed = give_back(*ipam, id, held, holds) || freed;
  if (change.after == nullptr || !is_connecting(*change.after)) {
    work.connecting.erase(id);
  } else if (work.connecting.insert(id).second ||
             change.before->connected_size() < change.after->connected_size()) {
    dirty = true;
  }
  const bool is_new = change.after != nullptr && change.after->status().state() == v1::TASK_NEW;
  if (!is_new) {
    work.blocked_tasks.erase(id);
  } else if (change.before == nullptr) {
    dirty = true;
  }
}

void Allocator::Impl::on_change(const store::Snapshot&, const store::Change<v1::Node>& change) {
  if (change.before != nullptr) paths.remove(*change.before);
  if (change.after != nullptr) paths.add(*change.after);
  if (followed != paths.get()) dirty = true;
  if (change.after == nullptr) {
    freed = places.put_back(*ipam, change.before->id()) || freed;
    work.nodes.erase(change.before->id());
  } else if (!misplaced(*change.after)) {
    work.nodes.erase(change.after->id());
  } else if (work.nodes.insert(change.after->id()).second) {
    dirty = true;
  }
  if (same_ranges(change.before, change.after)) return;
  ranges_stale = true;
  // There may be room where there was none.
  freed = freed || !work.networks.empty();
}

// The first leader begins before the cluster, with its pools, is written.
void Allocator::Impl::on_change(const store::Snapshot& after,
                                const store::Change<v1::Cluster>& change) {
  if (change.before == nullptr && change.after != nullptr)
    ipam->set_pools(pool_options(after, log));
}

void Allocator::Impl::on_commit(const store::CommitEvent& event) {
  if (!running) return;
  for (const auto& any : *event.changes) {
    std::visit([&](const auto& change) { on_change(event.after, change); }, any);
  }
  const bool waiting = !work.networks.empty() || !work.services.empty() || !work.nodes.empty() ||
                       !work.connecting.empty() || !work.blocked_tasks.empty();
  if (freed && waiting) look_again();
  freed = false;
  propose();
}

void Allocator::Impl::propose() {
  if (!running || in_flight || !dirty) return;
  dirty = false;
  in_flight = true;
  // Thousands of nodes come and go between two new networks.
  if (ranges_stale && !work.networks.empty()) {
    keep_away(*ipam, store.snapshot());
    ranges_stale = false;
  }
  following = paths.get();
  work.mtus = followed != following;
  work.paths = following;
  pass.emplace(*ipam, places, work, kTasksMax, kBytesMax);
  store.update(
      [self = shared_from_this()](store::Transaction& tx) -> Status {
        if (!self->running || !self->pass) return ok_status();
        return self->pass->run(tx);
      },
      [weak = weak_from_this()](const store::Commit& commit) {
        if (const auto self = weak.lock()) self->proposed(commit);
      });
}

void Allocator::Impl::proposed(const store::Commit& commit) {
  in_flight = false;
  if (!running || !pass) return;
  if (commit.status.ok()) {
    backoff.reset();
    // Nothing was taken since: the watchers saw the commit before us, and one pass runs at a time.
    if (pass->settle(store.snapshot())) look_again();
    if (!pass->more()) followed = following;
    dirty = dirty || pass->more() || followed != paths.get();
    pass.reset();
  } else {
    pass->undo();
    pass.reset();
    // The queue or the disk is full; or leadership is gone, and stop() follows.
    if (backoff.fresh()) {
      log->warn("allocation was not stored, trying again: {}", commit.status.message());
    }
    dirty = true;
    in_flight = true;  // nothing before the delay is over
    retry = strand.after(backoff.next(), [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->in_flight = false;
      self->propose();
    });
    return;
  }
  propose();
}

std::string Allocator::Impl::audit() const {
  if (in_flight) return {};
  const store::Snapshot view = store.snapshot();
  Impl fresh(strand, store, log);
  fresh.rebuild(view);
  std::string wrong;
  view.each<v1::Network>([&](const store::Ptr<v1::Network>& n) {
    const std::string& name = n->spec().annotations().name();
    const uint64_t free = ipam->free_addresses(n->id());
    const uint64_t should = fresh.ipam->free_addresses(n->id());
    if (free != should) {
      wrong = fmt::format("{} addresses of network {} are free, {} should be", free, name, should);
    }
    return wrong.empty();
  });
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& n) {
    if (places.holds(n->id()) != fresh.places.holds(n->id())) {
      wrong = fmt::format("node {} {} a place, against the state", n->id(),
                          places.holds(n->id()) ? "holds" : "lacks");
    }
    return wrong.empty();
  });
  if (places.size() != fresh.places.size()) {
    wrong = fmt::format("{} nodes have places, {} should", places.size(), fresh.places.size());
  }
  if (paths.get() != fresh.paths.get()) wrong = "the data paths are miscounted";
  return wrong;
}

Allocator::Allocator(Executor& strand, store::Store& store, const Clock& clock, Log log)
    : impl_(std::make_shared<Impl>(strand, store, std::move(log))) {
  (void)clock;  // times are those of the entries
}

Allocator::~Allocator() {
  stop();
}

void Allocator::start() {
  MUSTER_CHECK(impl_->strand.is_current());
  if (!impl_->running) impl_->start();
}

std::string Allocator::audit() const {
  return impl_->running ? impl_->audit() : std::string();
}

void Allocator::stop() {
  if (!impl_->running) return;
  // A transaction in flight keeps the old state alive and finds it stopped.
  auto fresh = std::make_shared<Impl>(impl_->strand, impl_->store, impl_->log);
  impl_->running = false;
  impl_->subscription = {};
  impl_->strand.cancel(impl_->retry);
  impl_ = std::move(fresh);
}

}  // namespace muster::manager::allocator
