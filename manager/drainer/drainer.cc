#include "manager/drainer/drainer.h"

#include <algorithm>
#include <map>
#include <utility>
#include <variant>
#include <vector>

#include "base/backoff.h"
#include "base/check.h"
#include "manager/drainer/drain_book.h"
#include "manager/mutant.h"

namespace muster::manager::drainer {
namespace {

constexpr size_t kNamesMax = 5;     // in a sentence
constexpr size_t kMissingMax = 64;  // that the task keeps

bool drains(const v1::Task& task) {
  return task.has_drain() && task.endpoint_state() == v1::ENDPOINT_DRAINING;
}

// Those that nodes lead flows into. In the others, a node's own, each node has its own tasks alone
// and knows of them first.
std::vector<std::string> overlays_of(const v1::Task& task, const store::Snapshot& view) {
  std::vector<std::string> out;
  for (const auto& attachment : task.networks()) {
    const auto network = view.get<v1::Network>(attachment.network_id());
    if (network != nullptr && network->spec().driver() == "overlay") out.push_back(network->id());
  }
  return out;
}

Duration ack_timeout(const store::Snapshot& view) {
  const auto cluster = view.cluster();
  const int64_t wanted = cluster == nullptr ? 0 : cluster->spec().drain_ack_timeout_ns();
  return wanted > 0 ? Duration(wanted) : kDefaultAckTimeout;
}

std::vector<std::string> hostnames(const std::vector<std::string>& node_ids,
                                   const store::Snapshot& view) {
  std::vector<std::string> out;
  for (const std::string& id : node_ids) {
    const auto node = view.get<v1::Node>(id);
    const bool named = node != nullptr && !node->description().hostname().empty();
    out.push_back(named ? node->description().hostname() : id);
  }
  return out;
}

v1::Task released(const v1::Task& task, const std::vector<std::string>& missing, Duration waited) {
  v1::Task out = task;
  out.set_endpoint_state(v1::ENDPOINT_RELEASED);
  if (missing.empty()) return out;
  const size_t named = std::min(missing.size(), kMissingMax);
  for (size_t i = 0; i < named; ++i) out.mutable_drain()->add_missing_nodes(missing[i]);
  out.mutable_drain()->set_missing_more(static_cast<uint32_t>(missing.size() - named));
  std::string& error = *out.mutable_status()->mutable_error();
  const std::string why = missing_nodes_message(missing, waited);
  error = error.empty() ? why : error + "; " + why;
  return out;
}

}  // namespace

std::string missing_nodes_message(const std::vector<std::string>& hostnames, Duration waited) {
  const size_t named = std::min(hostnames.size(), kNamesMax);
  std::string names =
      fmt::format("{}", fmt::join(hostnames.begin(), hostnames.begin() + named, ", "));
  if (named < hostnames.size()) names += fmt::format(" and {} more", hostnames.size() - named);
  return fmt::format("did not learn within {} from {} {} that new connections go elsewhere",
                     format_duration(waited), hostnames.size() == 1 ? "node" : "nodes", names);
}

struct Drainer::Impl : std::enable_shared_from_this<Drainer::Impl> {
  Impl(Executor& executor, store::Store& s, dispatcher::Routes& r, Log l)
      : strand(executor), store(s), routes(r), log(std::move(l)) {}

  void start();
  void stop();
  void listen();
  void on_commit(const store::CommitEvent& event);
  void add(const v1::Task& task, const store::Snapshot& view);
  void look_soon();
  void look();
  void arm();
  void flush();
  Status write(store::Transaction& tx);
  void written(const store::Commit& commit);

  Executor& strand;
  store::Store& store;
  dispatcher::Routes& routes;
  Log log;
  bool running = false;
  uint64_t term = 0;  // counts stop(): whose answers still count
  bool looking = false;
  bool writing = false;  // or waiting for the time to try again
  DrainBook book;
  std::map<std::string, std::vector<std::string>> due;    // missing nodes, by task
  std::map<std::string, std::vector<std::string>> taken;  // of these, in the write under way
  Backoff backoff{100ms, 5s};
  Executor::TimerId timer = 0;
  std::optional<TimePoint> armed_for;
  Executor::TimerId retry = 0;
  store::Store::Subscription subscription;
};

void Drainer::Impl::start() {
  MUSTER_CHECK(!running, "started twice");
  running = true;
  listen();
  const store::Snapshot view = store.snapshot();
  const auto keep_watching = [weak = weak_from_this()](const store::CommitEvent& event) {
    if (const auto self = weak.lock()) self->on_commit(event);
  };
  subscription = store.watch(keep_watching);
  view.tasks_in_state(v1::TASK_RUNNING, [&](const store::Ptr<v1::Task>& task) {
    if (drains(*task)) add(*task, view);
    return true;
  });
  look_soon();
}

void Drainer::Impl::stop() {
  if (!running) return;
  running = false;
  ++term;
  routes.listen({});
  subscription = {};
  strand.cancel(std::exchange(timer, 0));
  strand.cancel(std::exchange(retry, 0));
  armed_for.reset();
  looking = writing = false;
  book = {};
  due.clear();
  taken.clear();
}

void Drainer::Impl::listen() {
  const auto told = [weak = weak_from_this()](auto change) {
    const auto self = weak.lock();
    if (self == nullptr || !self->running) return;
    change(self->book);
    self->look_soon();
  };
  dispatcher::RouteEvents events;
  events.routes = [told](const std::string& node, const std::string& network, uint64_t version) {
    told([&](DrainBook& book) { book.routes(node, network, version); });
  };
  events.leaves = [told](const std::string& node, const std::string& network) {
    told([&](DrainBook& book) { book.leaves(node, network); });
  };
  events.gone = [told](const std::string& node) {
    told([&](DrainBook& book) { book.gone(node); });
  };
  routes.listen(std::move(events));
}

void Drainer::Impl::add(const v1::Task& task, const store::Snapshot& view) {
  // Whatever was written last to it, it was on its way out by then.
  book.add(task.id(), task.meta().version(), overlays_of(task, view),
           strand.clock().now() + ack_timeout(view), [this](const std::string& network_id) {
             if (fault(ManagerMutant::kReleasesUnasked)) return dispatcher::Routers();
             return routes.routers(network_id);
           });
}

void Drainer::Impl::on_commit(const store::CommitEvent& event) {
  if (!running) return;
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr) continue;
    if (change->after != nullptr && drains(*change->after)) {
      const std::string& id = change->after->id();
      if (!due.contains(id) && !taken.contains(id)) add(*change->after, event.after);
    } else if (change->before != nullptr && drains(*change->before)) {
      book.remove(change->before->id());
      due.erase(change->before->id());
    }
  }
  look_soon();
}

// Not in the middle of what the dispatcher does: a session that takes another's place first ends
// that one.
void Drainer::Impl::look_soon() {
  if (looking || (book.size() == 0 && due.empty())) return;
  looking = true;
  strand.post([weak = weak_from_this(), of = term] {
    const auto self = weak.lock();
    if (self != nullptr && self->running && self->term == of) self->look();
  });
}

void Drainer::Impl::look() {
  looking = false;
  for (auto& released : book.take_released(strand.clock().now())) {
    due.insert_or_assign(std::move(released.task_id), std::move(released.missing));
  }
  arm();
  flush();
}

void Drainer::Impl::arm() {
  const auto deadline = book.next_deadline();
  if (!deadline || (armed_for && *armed_for <= *deadline)) return;
  strand.cancel(timer);
  armed_for = deadline;
  const Duration delay = std::max(Duration(0), *deadline - strand.clock().now());
  timer = strand.after(delay, [weak = weak_from_this(), of = term] {
    const auto self = weak.lock();
    if (self == nullptr || !self->running || self->term != of) return;
    self->timer = 0;
    self->armed_for.reset();
    self->look();
  });
}

void Drainer::Impl::flush() {
  if (writing || due.empty()) return;
  writing = true;
  store.update(
      [self = shared_from_this(), of = term](store::Transaction& tx) -> Status {
        return self->running && self->term == of ? self->write(tx) : ok_status();
      },
      [self = shared_from_this(), of = term](const store::Commit& commit) {
        if (self->running && self->term == of) self->written(commit);
      });
}

// The store may run it twice, so what was taken stays so.
Status Drainer::Impl::write(store::Transaction& tx) {
  std::vector<v1::Task> changed;
  {
    const store::Snapshot view = tx.view();
    size_t bytes = 0;
    const auto take = [&](const std::string& task_id, const std::vector<std::string>& missing) {
      const auto task = view.get<v1::Task>(task_id);
      if (task == nullptr || !drains(*task)) return;
      changed.push_back(released(*task, hostnames(missing, view), ack_timeout(view)));
      bytes += changed.back().ByteSizeLong();
    };
    for (const auto& [task_id, missing] : taken) take(task_id, missing);
    while (!due.empty() && taken.size() < kTasksMax && bytes < kBytesMax) {
      const auto added = taken.insert(due.extract(due.begin())).position;
      take(added->first, added->second);
    }
  }
  for (v1::Task& task : changed) MUSTER_TRY(tx.update(std::move(task)));
  return ok_status();
}

void Drainer::Impl::written(const store::Commit& commit) {
  if (commit.status.ok()) {
    writing = false;
    backoff.reset();
    const store::Snapshot view = store.snapshot();
    for (const auto& [task_id, missing] : std::exchange(taken, {})) {
      if (missing.empty()) continue;
      log->warn("task {} {}", task_id,
                missing_nodes_message(hostnames(missing, view), ack_timeout(view)));
    }
    flush();
    return;
  }
  due.merge(taken);
  taken.clear();
  if (backoff.fresh()) {
    log->warn("tasks that leave their networks were not released, trying again: {}",
              commit.status.message());
  }
  retry = strand.after(backoff.next(), [weak = weak_from_this(), of = term] {
    const auto self = weak.lock();
    if (self == nullptr || !self->running || self->term != of) return;
    self->retry = 0;
    self->writing = false;
    self->flush();
  });
}

Drainer::Drainer(Executor& strand, store::Store& store, dispatcher::Routes& routes, Log log)
    : impl_(std::make_shared<Impl>(strand, store, routes, std::move(log))) {}

Drainer::~Drainer() {
  stop();
}

void Drainer::start() {
  impl_->start();
}

void Drainer::stop() {
  impl_->stop();
}

}  // namespace muster::manager::drainer
