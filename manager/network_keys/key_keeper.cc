#include "manager/network_keys/key_keeper.h"

#include <algorithm>
#include <set>
#include <utility>
#include <variant>

#include "base/backoff.h"
#include "base/check.h"
#include "manager/dispatcher/network_feed.h"
#include "manager/mutant.h"
#include "manager/network_keys/key_ring.h"
#include "overlay/ipam/mtu.h"

namespace muster::manager::network_keys {
namespace {

bool encrypted(const v1::Network& network) {
  return network.spec().driver() == "overlay" && overlay::is_encrypted(network.spec());
}

bool any_encrypted(const store::Snapshot& view) {
  bool found = false;
  view.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
    found = encrypted(*network);
    return !found;
  });
  return found;
}

// Nodes that send and receive in an encrypted network. One that cannot encrypt does neither.
std::set<std::string> participants(const store::Snapshot& view) {
  std::set<std::string> out;
  const auto add = [&](const std::string& node_id) {
    if (out.contains(node_id)) return;
    const auto node = view.get<v1::Node>(node_id);
    if (node != nullptr && node->description().no_encryption().empty()) out.insert(node_id);
  };
  view.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
    if (!encrypted(*network)) return true;
    if (network->spec().ingress()) {
      view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
        add(node->id());
        return true;
      });
    }
    view.tasks_of_network(network->id(), [&](const store::Ptr<v1::Task>& task) {
      if (dispatcher::is_member(*task)) add(task->node_id());
      return true;
    });
    return true;
  });
  return out;
}

uint64_t newest_number(const v1::Cluster& cluster) {
  const int count = cluster.network_keys_size();
  return count == 0 ? 0 : cluster.network_keys(count - 1).number();
}

std::string random_secret(Rng& rng) {
  std::string out;
  while (out.size() < kSecretBytes) {
    const uint64_t number = rng.next();
    out.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }
  return out;
}

}  // namespace

struct KeyKeeper::Impl : std::enable_shared_from_this<KeyKeeper::Impl> {
  explicit Impl(KeeperDeps d) : deps(std::move(d)) {}

  void start();
  void stop();
  void on_commit(const store::CommitEvent& event);
  void note_newest(const v1::Cluster& cluster, uint64_t version);
  RingView ring_view(const store::Snapshot& view, const v1::Cluster& cluster);
  void look_soon();
  void look();
  void arm(Duration delay);
  void write(RingStep step, uint64_t newest);
  void written(RingStep step, const Status& status);

  KeeperDeps deps;
  bool running = false;
  uint64_t term = 0;  // counts stop(): whose answers still count
  bool looking = false;
  bool writing = false;
  // The newest key, the version of the state since which it is known here, and since when.
  uint64_t newest = 0;
  uint64_t newest_version = 0;
  TimePoint newest_since;
  Backoff backoff{100ms, 5s};
  Executor::TimerId timer = 0;
  store::Store::Subscription subscription;
};

void KeyKeeper::Impl::start() {
  MUSTER_CHECK(!running, "started twice");
  running = true;
  newest = newest_version = 0;
  subscription = deps.store.watch([weak = weak_from_this()](const store::CommitEvent& event) {
    if (const auto self = weak.lock()) self->on_commit(event);
  });
  // The sessions of this leader begin with a feed that is at least as new as the cluster object.
  const auto cluster = deps.store.snapshot().cluster();
  if (cluster != nullptr) note_newest(*cluster, cluster->meta().version());
  look_soon();
}

void KeyKeeper::Impl::stop() {
  if (!running) return;
  running = false;
  ++term;
  subscription = {};
  deps.strand.cancel(std::exchange(timer, 0));
  looking = writing = false;
}

void KeyKeeper::Impl::note_newest(const v1::Cluster& cluster, uint64_t version) {
  const uint64_t number = newest_number(cluster);
  if (number == newest) return;
  newest = number;
  newest_version = version;
  newest_since = deps.strand.clock().now();
}

void KeyKeeper::Impl::on_commit(const store::CommitEvent& event) {
  if (!running) return;
  bool news = false;
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* cluster = std::get_if<store::Change<v1::Cluster>>(&any)) {
      if (cluster->after != nullptr) note_newest(*cluster->after, event.version);
      news = true;
    }
    news = news || std::holds_alternative<store::Change<v1::Network>>(any);
  }
  if (news) look_soon();
}

// Not in the middle of a commit.
void KeyKeeper::Impl::look_soon() {
  if (std::exchange(looking, true)) return;
  deps.strand.post([weak = weak_from_this(), of = term] {
    const auto self = weak.lock();
    if (self == nullptr || !self->running || self->term != of) return;
    self->looking = false;
    self->look();
  });
}

RingView KeyKeeper::Impl::ring_view(const store::Snapshot& view, const v1::Cluster& cluster) {
  RingView out;
  out.now = deps.strand.clock().wall_now();
  out.rotation = rotation_of(cluster);
  out.needed = any_encrypted(view);
  out.waited = deps.strand.clock().now() - newest_since;
  const int count = cluster.network_keys_size();
  const bool waits = count > 0 && cluster.network_keys(count - 1).used_from_ns() == 0;
  if (!out.needed || !waits) return out;
  const auto nodes = participants(view);
  out.everybody = std::all_of(nodes.begin(), nodes.end(), [&](const std::string& id) {
    return deps.applied(id) >= newest_version;
  });
  if (fault(ManagerMutant::kKeysUsedEarly)) out.everybody = true;
  return out;
}

void KeyKeeper::Impl::look() {
  if (writing) return;
  const store::Snapshot view = deps.store.snapshot();
  const auto cluster = view.cluster();
  if (cluster == nullptr) return;
  const RingView ring = ring_view(view, *cluster);
  const RingStep step = next_step(*cluster, ring);
  if (step != RingStep::kNothing) return write(step, newest_number(*cluster));
  const auto due = due_in(*cluster, ring);
  const int count = cluster->network_keys_size();
  const bool waits = count > 0 && cluster->network_keys(count - 1).used_from_ns() == 0;
  if (due) arm(waits ? std::min(*due, kLook) : *due);
}

void KeyKeeper::Impl::arm(Duration delay) {
  deps.strand.cancel(timer);
  timer = deps.strand.after(delay, [weak = weak_from_this(), of = term] {
    const auto self = weak.lock();
    if (self == nullptr || !self->running || self->term != of) return;
    self->timer = 0;
    self->look();
  });
}

void KeyKeeper::Impl::write(RingStep step, uint64_t number) {
  writing = true;
  const std::string secret = step == RingStep::kMake ? random_secret(deps.rng) : std::string();
  const auto taken = std::make_shared<bool>(false);
  deps.store.update(
      [self = shared_from_this(), of = term, step, number, secret,
       taken](store::Transaction& tx) -> Status {
        *taken = false;
        if (!self->running || self->term != of) return ok_status();
        const auto known = tx.view().cluster();
        // What was decided for a ring is not done to another.
        if (known == nullptr || newest_number(*known) != number) return ok_status();
        v1::Cluster cluster = *known;
        take_step(cluster, step, secret, tx.now());
        *taken = true;
        return tx.update(std::move(cluster));
      },
      [self = shared_from_this(), of = term, step, taken](const store::Commit& commit) {
        if (!self->running || self->term != of) return;
        self->written(*taken ? step : RingStep::kNothing, commit.status);
      });
}

void KeyKeeper::Impl::written(RingStep step, const Status& status) {
  writing = false;
  if (status.ok()) {
    backoff.reset();
    if (step == RingStep::kMake) deps.log->info("encrypted networks: key {} is made", newest);
    if (step == RingStep::kUse) deps.log->info("encrypted networks: key {} is sent with", newest);
    return look_soon();
  }
  if (backoff.fresh()) {
    deps.log->warn("keys of encrypted networks could not be written, trying again: {}",
                   status.message());
  }
  arm(backoff.next());
}

KeyKeeper::KeyKeeper(KeeperDeps deps) : impl_(std::make_shared<Impl>(std::move(deps))) {}

KeyKeeper::~KeyKeeper() {
  stop();
}

void KeyKeeper::start() {
  impl_->start();
}

void KeyKeeper::stop() {
  impl_->stop();
}

}  // namespace muster::manager::network_keys
