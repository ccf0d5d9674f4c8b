#include "agent/worker/route_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/worker/mutant.h"

namespace muster::agent {

RouteKeeper::RouteKeeper(RouteKeeperDeps deps, std::string node_id)
    : deps_(std::move(deps)),
      book_(std::move(node_id)),
      self_(std::make_shared<RouteKeeper*>(this)) {}

RouteKeeper::~RouteKeeper() {
  *self_ = nullptr;
  deps_.strand.cancel(timer_);
  for (const FeedWaiter& waiter : feed_waiters_) deps_.strand.cancel(waiter.timer);
}

template <class Work, class Done>
void RouteKeeper::on_pool(Work work, Done done) {
  ++under_way_;
  deps_.pool.post([self = self_, strand = &deps_.strand, work = std::move(work),
                   done = std::move(done)]() mutable {
    strand->post([self, done = std::move(done), result = work()]() mutable {
      if (*self != nullptr) done(std::move(result));
      if (*self != nullptr) (*self)->one_done();
    });
  });
}

void RouteKeeper::start() {
  restore();
  timer_ = deps_.strand.after(kFirstRepair, [this] { tick(); });
}

void RouteKeeper::restore() {
  const auto steps = deps_.feeds->load();
  if (!steps) {
    deps_.log->error("what managers told of networks earlier: {}", steps.error().message());
    return;
  }
  // Files of networks without a task here go when the kernel has forgotten them, not before.
  for (const overlay::NetworkStep& step : *steps) book_.restore(step);
  pump_changed();
}

// ---------------------------------------------------------------- what is said

void RouteKeeper::set_local_node(const overlay::LocalNode& node) {
  local_wanted_ = node;
  book_.set_data_path(node.data_path_addr);
  tell_local_node();
  pump_changed();
}

void RouteKeeper::set_task(const v1::LocalTask& task) {
  if (fault(WorkerMutant::kPassedByAtOnce)) {
    v1::LocalTask ill = task;
    ill.set_stop_asked(false);
    book_.set_task(ill);
    return pump_changed();
  }
  book_.set_task(task);
  pump_changed();
}

void RouteKeeper::remove_task(const std::string& task_id) {
  book_.remove_task(task_id);
  pump_changed();
  std::vector<std::string> all;
  for (const auto& [id, route] : routes_) all.push_back(id);
  for (const std::string& id : all) drop_unknown(id);
}

void RouteKeeper::hold() {
  held_ = true;
}

void RouteKeeper::release() {
  held_ = false;
  for (const std::string& id : std::exchange(due_, {})) pump(id);
}

// What nothing here has to do with any more, and nothing is to be done for. True if it was that.
bool RouteKeeper::drop_unknown(const std::string& network_id) {
  const auto at = routes_.find(network_id);
  if (at == routes_.end() || book_.knows(network_id)) return false;
  const Route& route = at->second;
  if (route.busy || route.failed || route.carried != route.asked) return false;
  routes_.erase(at);
  if (deps_.names != nullptr) deps_.names->forget_network(network_id);
  return true;
}

void RouteKeeper::apply(const v1::FeedUpdate& step) {
  if (!fault(WorkerMutant::kPassedByAtOnce)) return take_step(step);
  // Where networks are carried out in no time there is no moment to see it in.
  deps_.strand.after(100ms, [self = self_, step] {
    if (*self != nullptr) (*self)->take_step(step);
  });
}

void RouteKeeper::take_step(const v1::FeedUpdate& step) {
  overlay::NetworkStep news;
  news.network_id = step.feed().network_id();
  news.complete = step.complete();
  if (!news.feed.ParseFromString(step.network())) {
    deps_.log->error("what the manager tells of network {} cannot be read", news.network_id);
    return;
  }
  Route& route = routes_[news.network_id];
  route.version = step.version();
  route.untold = true;
  const bool lost = fault(WorkerMutant::kRoutesLost) && !news.complete;
  if (!lost) book_.apply(news);
  ++route.asked;
  route.unkept.push_back(news);
  if (deps_.names != nullptr) route.names.push_back(std::move(news));
  pump_changed();
  pump(step.feed().network_id());
  feeds_changed();
}

void RouteKeeper::leave() {
  left_ = true;
  deps_.strand.cancel(std::exchange(timer_, 0));
  book_.leave();
  pump_changed();
}

void RouteKeeper::one_done() {
  if (--under_way_ == 0 && when_quiet_) std::exchange(when_quiet_, nullptr)();
}

void RouteKeeper::when_quiet(UniqueFunction<void()> next) {
  if (under_way_ == 0) return next();
  when_quiet_ = std::move(next);
}

// ---------------------------------------------------------------- carrying it out

void RouteKeeper::pump_changed() {
  for (const std::string& id : book_.take_changed()) {
    ++routes_[id].asked;
    pump(id);
  }
}

void RouteKeeper::pump(const std::string& network_id) {
  const auto at = routes_.find(network_id);
  if (at == routes_.end()) return;
  if (held_) {
    due_.insert(network_id);
    return;
  }
  Route& route = at->second;
  if (route.busy || local_busy_ || route.carried == route.asked) return;
  auto change = book_.next(network_id);
  Taken taken;
  taken.network_id = network_id;
  taken.asked = route.asked;
  taken.version = route.untold ? route.version : 0;
  taken.names = route.names.size();
  if (book_.is_ingress(network_id)) {
    taken.ingress_ports = book_.ingress_ports(network_id);
    taken.ingress_own = book_.fed_own(network_id);
  }
  std::vector<overlay::NetworkStep> unkept = take_unkept(network_id, route);
  if (!change && unkept.empty()) {
    route.failed = false;
    return settle(taken);
  }
  taken.forget = change && change->forget;
  if (taken.forget && fault(WorkerMutant::kRoutesKept)) return settle(taken);
  route.busy = true;
  on_pool(
      [network = &deps_.network, feeds = deps_.feeds, id = network_id, change = std::move(change),
       unkept = std::move(unkept)] {
        // Into the files first: a successor that tells the kernel less than it has would undo it.
        Outcome out;
        for (const overlay::NetworkStep& step : unkept) {
          if (out.kept.ok()) out.kept = feeds->save(step);
        }
        if (!change) return out;
        out.kernel = change->forget ? network->forget_network(id) : network->apply(change->step);
        if (change->forget) out.kept = feeds->remove(id);
        return out;
      },
      [this, taken = std::move(taken)](const Outcome& outcome) {
        kept(outcome.kept);
        finished(taken, outcome.kernel);
      });
}

std::vector<overlay::NetworkStep> RouteKeeper::take_unkept(const std::string& network_id,
                                                           Route& route) {
  std::vector<overlay::NetworkStep> out = std::exchange(route.unkept, {});
  if (out.empty()) return out;
  const bool whole =
      deps_.feeds->wants_whole(network_id) ||
      std::any_of(out.begin(), out.end(), [](const auto& step) { return step.complete; });
  auto fed = book_.fed(network_id);
  if (!fed) return {};
  if (!whole) return out;
  out.clear();
  out.push_back(*std::move(fed));
  return out;
}

void RouteKeeper::kept(const Status& status) {
  if (status.ok()) {
    files_said_.clear();
  } else if (std::exchange(files_said_, status.message()) != status.message()) {
    deps_.log->warn("what managers tell of networks is not kept for a restart: {}",
                    status.message());
  }
}

void RouteKeeper::finished(const Taken& taken, const Status& status) {
  Route& route = routes_[taken.network_id];
  route.busy = false;
  const bool newer = route.asked > taken.asked;
  const std::string said = route.said;
  if (!status.ok()) {
    if (std::exchange(route.said, status.message()) != status.message()) {
      deps_.log->error("network {} is not as it should be here: {}", taken.network_id,
                       status.message());
    }
    book_.failed(taken.network_id);
  } else if (!std::exchange(route.said, {}).empty()) {
    deps_.log->info("network {} is as it should be now", taken.network_id);
  }
  route.failed = !status.ok();
  const bool other_trouble = route.said != said;
  settle(taken);
  if (other_trouble) deps_.carried_out(taken.network_id, 0, false);
  if (newer) pump(taken.network_id);
}

std::vector<std::string> RouteKeeper::troubles() const {
  std::vector<std::string> out;
  for (const auto& [id, route] : routes_) {
    if (route.said.empty()) continue;
    const std::string name = book_.name_of(id);
    out.push_back(fmt::format("network {} is not as it should be here: {}",
                              name.empty() ? id : name, route.said));
  }
  return out;
}

// Whether or not the kernel did it all, names must not lead to what is gone.
void RouteKeeper::settle(const Taken& taken) {
  Route& route = routes_[taken.network_id];
  route.carried = taken.asked;
  for (size_t i = 0; i < taken.names; ++i) deps_.names->apply(route.names[i]);
  route.names.erase(route.names.begin(), route.names.begin() + static_cast<ptrdiff_t>(taken.names));
  if (book_.is_ingress(taken.network_id)) {
    ingress_ports_ = taken.ingress_ports;
    ingress_own_ = taken.ingress_own;
    ingress_id_ = taken.network_id;
    ingress_changed_ = true;
  } else if (taken.network_id == ingress_id_) {
    ingress_ports_.clear();
    ingress_own_.clear();
    ingress_id_.clear();
    ingress_changed_ = true;
  }
  const bool failed = route.failed;
  if (!failed && route.version == taken.version) route.untold = false;
  // A step that comes late, of a network that was left, is the last of it.
  const bool done = drop_unknown(taken.network_id);
  // Where the node takes no part, nothing of it leads anywhere: that is in force, too.
  const uint64_t version = failed ? 0 : taken.version;
  const bool forgotten = !failed && (taken.forget || done);
  if (version != 0 || forgotten || ingress_changed_) {
    deps_.carried_out(taken.network_id, version, forgotten);
  }
  release_waiters();
  repair_when_idle();
}

// ---------------------------------------------------------------- waiting for it

void RouteKeeper::after(const std::vector<std::string>& networks, UniqueFunction<void()> next) {
  Waiter waiter;
  for (const std::string& id : networks) {
    const auto route = routes_.find(id);
    if (route != routes_.end() && route->second.carried < route->second.asked) {
      waiter.needs[id] = route->second.asked;
    }
  }
  if (waiter.needs.empty()) return next();
  waiter.next = std::move(next);
  waiters_.push_back(std::move(waiter));
}

void RouteKeeper::after_all(UniqueFunction<void()> next) {
  std::vector<std::string> all;
  for (const auto& [id, route] : routes_) all.push_back(id);
  after(all, std::move(next));
}

void RouteKeeper::after_task(const v1::LocalTask& task, UniqueFunction<void()> next) {
  after(RouteBook::networks_of(task), std::move(next));
}

bool RouteKeeper::behind(const v1::LocalTask& task) const {
  const std::vector<std::string> networks = RouteBook::networks_of(task);
  return std::any_of(networks.begin(), networks.end(), [&](const std::string& id) {
    const auto route = routes_.find(id);
    return route != routes_.end() && route->second.carried < route->second.asked;
  });
}

void RouteKeeper::release_waiters() {
  std::vector<UniqueFunction<void()>> due;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    std::erase_if(it->needs, [&](const auto& need) {
      const auto route = routes_.find(need.first);
      return route == routes_.end() || route->second.carried >= need.second;
    });
    if (!it->needs.empty()) {
      ++it;
      continue;
    }
    due.push_back(std::move(it->next));
    it = waiters_.erase(it);
  }
  for (auto& next : due) next();
}

void RouteKeeper::before_start(const v1::LocalTask& task, UniqueFunction<void()> next) {
  FeedWaiter waiter;
  for (const std::string& id : RouteBook::networks_of(task)) {
    if (!book_.fresh(id)) waiter.networks.insert(id);
  }
  if (waiter.networks.empty()) return after_task(task, std::move(next));
  waiter.task = task;
  waiter.next = std::move(next);
  const auto at = feed_waiters_.insert(feed_waiters_.end(), std::move(waiter));
  at->timer = deps_.strand.after(kFeedLimit, [this, at] { feed_waited(at); });
}

void RouteKeeper::feeds_changed() {
  for (auto it = feed_waiters_.begin(); it != feed_waiters_.end();) {
    const auto at = it++;
    std::erase_if(at->networks, [&](const std::string& id) { return book_.fresh(id); });
    if (!at->networks.empty()) continue;
    deps_.strand.cancel(at->timer);
    feed_waited(at);
  }
}

void RouteKeeper::feed_waited(std::list<FeedWaiter>::iterator waiter) {
  FeedWaiter done = std::move(*waiter);
  feed_waiters_.erase(waiter);
  for (const std::string& id : done.networks) book_.settle_for(id);
  pump_changed();
  after_task(done.task, std::move(done.next));
}

// ---------------------------------------------------------------- who this node is

void RouteKeeper::tell_local_node() {
  if (local_busy_ || (local_known_ && local_set_ == local_wanted_)) return;
  local_busy_ = true;
  local_set_ = local_wanted_;
  on_pool([network = &deps_.network, node = local_set_] { return network->set_local_node(node); },
          [this](const Status& status) {
            local_busy_ = false;
            local_known_ = status.ok();
            if (!status.ok() && std::exchange(local_said_, status.message()) != status.message()) {
              deps_.log->error("this node's data path: {}", status.message());
            }
            if (status.ok()) local_said_.clear();
            if (local_set_ != local_wanted_) return tell_local_node();
            std::vector<std::string> waiting;
            for (const auto& [id, route] : routes_) waiting.push_back(id);
            for (const std::string& id : waiting) {
              if (routes_.contains(id)) pump(id);
            }
            repair_when_idle();
          });
}

void RouteKeeper::set_encryption(overlay::Encryption encryption, uint64_t version) {
  encryption_wanted_ = std::move(encryption);
  encryption_version_ = version;
  tell_encryption();
}

void RouteKeeper::tell_encryption() {
  if (encryption_busy_ || left_) return;
  if (encryption_known_ && encryption_set_ == encryption_wanted_) {
    const uint64_t version = std::exchange(encryption_version_, 0);
    if (version != 0 && deps_.encrypted) deps_.encrypted(version);
    return;
  }
  encryption_busy_ = true;
  encryption_set_ = encryption_wanted_;
  on_pool([network = &deps_.network,
           encryption = encryption_set_] { return network->set_encryption(encryption); },
          [this](const Status& status) {
            encryption_busy_ = false;
            encryption_known_ = status.ok();
            if (status.ok()) {
              encryption_said_.clear();
              return tell_encryption();
            }
            if (std::exchange(encryption_said_, status.message()) != status.message()) {
              deps_.log->error("encrypted networks: {}", status.message());
            }
            if (encryption_set_ != encryption_wanted_) tell_encryption();
          });
}

// ---------------------------------------------------------------- repair

void RouteKeeper::tick() {
  timer_ = deps_.strand.after(kPeriod, [this] { tick(); });
  if (!local_known_ && !local_set_.node_id.empty()) tell_local_node();
  if (!encryption_known_) tell_encryption();
  std::vector<std::string> failed;
  for (const auto& [id, route] : routes_) {
    if (route.failed) failed.push_back(id);
  }
  for (const std::string& id : failed) {
    ++routes_[id].asked;
    pump(id);
  }
  if (!repair_due_) repair_due_ = deps_.strand.clock().now();
  repair_when_idle();
}

// Steps would only wait for it; but of many networks one may be busy at any time.
void RouteKeeper::repair_when_idle() {
  if (!repair_due_ || repairing_ || local_busy_ || left_) return;
  if (deps_.strand.clock().now() - *repair_due_ < kRepairPatience) {
    for (const auto& [id, route] : routes_) {
      if (route.busy) return;
    }
  }
  repair_due_.reset();
  repairing_ = true;
  on_pool([network = &deps_.network] { return network->repair(); },
          [this](const std::vector<std::string>& found) {
            repairing_ = false;
            for (const std::string& what : found) deps_.log->warn("repaired: {}", what);
            if (deps_.repaired) deps_.repaired(found);
          });
}

}  // namespace muster::agent
