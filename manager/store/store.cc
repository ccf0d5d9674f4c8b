#include "manager/store/store.h"

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "manager/mutant.h"
#include "manager/store/codec.h"
#include "manager/store/flight.h"
#include "manager/store/transaction_impl.h"
#include "manager/store/version_ages.h"
#include "manager/store/watch_hub.h"

namespace muster::manager::store {
namespace {

Status not_leader() {
  return Status(StatusCode::kUnavailable, "this manager is not the leader", "not-leader");
}

Status outcome_unknown() {
  return Status(StatusCode::kUnknown,
                "leadership was lost while the change was being written; it may or may not have "
                "happened",
                "outcome-unknown");
}

}  // namespace

// A queued transaction. Both forms of update() end here; a plain body records no object id.
struct Queued {
  UpdateOptions options;
  UniqueFunction<Result<std::string>(Transaction&)> body;
  Store::Done done;
};

struct Store::Impl {
  Impl(Executor& strand_in, Proposer* proposer_in, Log log_in)
      : strand(strand_in), proposer(proposer_in), log(std::move(log_in)), hub(strand_in) {}

  void enqueue(Queued transaction);
  void pump();
  void run_queue(Flight& flight);
  enum class Ran { kDone, kDoesNotFit };
  Ran run_one(Flight& flight, Queued& transaction);
  Ran take_changes(Flight& flight, Queued& transaction, Commit& commit);
  void settle(Flight& flight, Queued& transaction, Commit commit, bool changed);
  void collect_requests(Flight& flight);
  void propose(std::unique_ptr<Flight> flight);
  void proposal_ended(ProposalResult result);
  void committed(Flight& flight, uint64_t index);
  void publish(std::shared_ptr<const State> state, WallTime time, std::vector<AnyChange> changes);
  void post_done(Done done, Commit commit);
  void fail_queue(const Status& status);

  const std::shared_ptr<const State>& state() const { return published.state(); }

  Executor& strand;
  Proposer* proposer;
  Log log;
  uint64_t term = 0;  // 0: not leading
  std::deque<Queued> queue;
  // Its waiters are gone when leadership ended under way, but it is applied if it was committed.
  std::unique_ptr<Flight> in_flight;
  bool delivering = false;  // a commit's watchers and waiters are being called
  bool pump_posted = false;
  WatchHub hub;
  VersionAges ages{kRequestsKept, 1min};
  std::shared_ptr<State> loading;
  uint64_t loading_token = 0;
  // Guards only the pointer, for snapshot() from other threads; the strand reads without it.
  mutable std::mutex mutex;
  Snapshot published;
  // Closures that may outlive the store hold a weak reference to this.
  std::shared_ptr<Impl*> alive = std::make_shared<Impl*>(this);
};

void Store::Impl::post_done(Done done, Commit commit) {
  strand.post([done = std::move(done), commit = std::move(commit)]() mutable { done(commit); });
}

void Store::Impl::fail_queue(const Status& status) {
  std::deque<Queued> dropped;
  dropped.swap(queue);
  for (Queued& transaction : dropped) post_done(std::move(transaction.done), {status, 0, {}});
}

void Store::Impl::enqueue(Queued transaction) {
  if (term == 0) {
    post_done(std::move(transaction.done), {not_leader(), 0, {}});
    return;
  }
  if (queue.size() >= kQueuedTransactionsMax) {
    post_done(std::move(transaction.done),
              {resource_exhausted("{} changes wait to be written; try again later", queue.size()),
               0,
               {}});
    return;
  }
  queue.push_back(std::move(transaction));
  pump();
}

// Builds and proposes the next entry when none is in flight.
void Store::Impl::pump() {
  if (in_flight != nullptr || delivering || queue.empty() || term == 0) return;
  auto flight = std::make_unique<Flight>(*state(), strand.clock().wall_now());
  delivering = true;  // a body that calls update() only queues
  run_queue(*flight);
  if (!flight->changes.empty()) collect_requests(*flight);
  flight->finish();
  delivering = false;
  if (!flight->changes.empty()) {
    propose(std::move(flight));
    return;
  }
  for (Waiter& waiter : flight->waiters) {
    post_done(std::move(waiter.done), std::move(waiter.commit));
  }
  if (queue.empty() || pump_posted) return;
  pump_posted = true;
  strand.post([weak = std::weak_ptr(alive)] {
    if (const auto self = weak.lock()) {
      (*self)->pump_posted = false;
      (*self)->pump();
    }
  });
}

void Store::Impl::run_queue(Flight& flight) {
  for (size_t ran = 0; ran < kEntryTransactionsMax && !queue.empty(); ++ran) {
    Queued transaction = std::move(queue.front());
    queue.pop_front();
    if (run_one(flight, transaction) == Ran::kDoesNotFit) {
      queue.push_front(std::move(transaction));
      return;
    }
    if (term == 0) return;  // the body ended the leadership
  }
}

Store::Impl::Ran Store::Impl::run_one(Flight& flight, Queued& transaction) {
  Commit commit;
  commit.version = state()->version;
  const std::string& request = transaction.options.request_id;
  if (!request.empty()) {
    if (const auto known = flight.tx.working->get<v1::AppliedRequest>(request)) {
      commit.object_id = known->object_id();
      settle(flight, transaction, std::move(commit), false);
      return Ran::kDone;
    }
  }
  Transaction tx(flight.tx);
  Result<std::string> result = transaction.body(tx);
  if (result && !request.empty() && !flight.tx.changes.empty()) {
    v1::AppliedRequest applied;
    applied.set_id(request);
    applied.set_object_id(*result);
    if (Status status = tx.create(std::move(applied)); !status.ok()) result = fail(status);
  }
  if (!result) {
    flight.tx.undo();
    commit.status = std::move(result).error();
    settle(flight, transaction, std::move(commit), false);
    return Ran::kDone;
  }
  commit.object_id = *std::move(result);
  if (flight.tx.changes.empty()) {
    settle(flight, transaction, std::move(commit), false);
    return Ran::kDone;
  }
  return take_changes(flight, transaction, commit);
}

Store::Impl::Ran Store::Impl::take_changes(Flight& flight, Queued& transaction, Commit& commit) {
  size_t bytes = 0;
  for (const AnyChange& change : flight.tx.changes) bytes += encoded_bytes(change);
  if (bytes > kEntryBytesMax) {
    flight.tx.undo();
    commit.status = resource_exhausted("a change of {} bytes is larger than the limit of {} bytes",
                                       bytes, kEntryBytesMax);
    settle(flight, transaction, std::move(commit), false);
    return Ran::kDone;
  }
  if (flight.bytes + bytes > kEntryBytesMax) {
    flight.tx.undo();
    return Ran::kDoesNotFit;
  }
  flight.bytes += bytes;
  flight.absorb();
  settle(flight, transaction, std::move(commit), true);
  return Ran::kDone;
}

// A result that rests on changes not yet committed waits for them; others are told at once.
void Store::Impl::settle(Flight& flight, Queued& transaction, Commit commit, bool changed) {
  if (!changed && flight.changes.empty()) {
    post_done(std::move(transaction.done), std::move(commit));
  } else {
    flight.waiters.push_back({std::move(transaction.done), std::move(commit), changed});
  }
}

// Request ids past their time go with an entry that is written anyway. Not by the wall clock: one
// that is set on would make a change that its client repeats happen twice. Ids are in the order of
// the times that are written on them, so that one which was written while a clock was ahead may
// stay for longer.
void Store::Impl::collect_requests(Flight& flight) {
  constexpr size_t kCollectedMax = 1'000;
  const uint64_t before = ages.there_for_long(strand.clock().now());
  if (before == 0) return;
  std::vector<std::string> old;
  flight.tx.working->requests_by_age.visit_all([&](const auto& entry) {
    if (entry.value->meta().version() > before || old.size() >= kCollectedMax) return false;
    old.push_back(entry.value->id());
    return true;
  });
  Transaction tx(flight.tx);
  for (const std::string& id : old) {
    const Status status = tx.remove<v1::AppliedRequest>(id);
    MUSTER_CHECK(status.ok(), status.message());
  }
  flight.absorb();
}

void Store::Impl::propose(std::unique_ptr<Flight> flight) {
  const auto cluster = Snapshot(flight->tx.working).cluster();
  const uint32_t level = std::max(1U, cluster == nullptr ? 0U : cluster->feature_level());
  std::string entry = encode_entry(level, flight->tx.now, flight->changes, flight->bytes);
  in_flight = std::move(flight);
  proposer->propose(term, std::move(entry), [weak = std::weak_ptr(alive)](ProposalResult result) {
    if (const auto self = weak.lock()) {
      (*self)->proposal_ended(std::move(result));
    }
  });
}

void Store::Impl::proposal_ended(ProposalResult result) {
  MUSTER_CHECK(in_flight != nullptr, "an outcome without a proposal");
  const std::unique_ptr<Flight> flight = std::move(in_flight);
  switch (result.outcome) {
    case ProposalOutcome::kCommitted: committed(*flight, result.index); break;
    case ProposalOutcome::kRejected: {
      Status why = not_leader();
      if (proposer->leading_term() == term && !result.why.ok()) why = result.why;
      for (Waiter& waiter : flight->waiters) post_done(std::move(waiter.done), {why, 0, {}});
      break;
    }
    case ProposalOutcome::kUnknown:
      for (Waiter& waiter : flight->waiters) {
        post_done(std::move(waiter.done),
                  {waiter.changed ? outcome_unknown() : not_leader(), 0, {}});
      }
      // Whatever queues behind an unknown outcome cannot know what state it would run on.
      term = 0;
      fail_queue(not_leader());
      break;
  }
  if (term != 0 && proposer->leading_term() != term) {
    term = 0;
    fail_queue(not_leader());
  }
  pump();
}

void Store::Impl::committed(Flight& flight, uint64_t index) {
  MUSTER_CHECK(index > state()->version, "the log went backwards");
  for (const AnyChange& change : flight.changes) {
    std::visit(
        [&](const auto& c) {
          using T =
              std::remove_const_t<typename std::remove_cvref_t<decltype(c.after)>::element_type>;
          // Made by this entry's transactions and not yet published: nobody else reads it.
          if (c.after != nullptr) {
            std::const_pointer_cast<T>(c.after)->mutable_meta()->set_version(index);
          }
        },
        change);
  }
  flight.tx.edit().version = index;
  delivering = true;
  publish(std::move(flight.tx.working), flight.tx.now, std::move(flight.changes));
  for (Waiter& waiter : flight.waiters) {
    waiter.commit.version = index;
    waiter.done(waiter.commit);
  }
  delivering = false;
}

void Store::Impl::publish(std::shared_ptr<const State> next, WallTime time,
                          std::vector<AnyChange> changes) {
  Snapshot previous = published;  // freed after the lock, when nobody else holds it
  {
    const std::lock_guard lock(mutex);
    published = Snapshot(std::move(next));
  }
  ages.saw(strand.clock().now(), published.version());
  const bool outer = std::exchange(delivering, true);
  if (fault(ManagerMutant::kWatchDropsSecond) && changes.size() > 1) {
    changes.erase(changes.begin() + 1);
  }
  hub.publish({published.version(), time,
               std::make_shared<const std::vector<AnyChange>>(std::move(changes)), published});
  delivering = outer;
}

Store::Store(Executor& strand, Proposer* proposer, Log log)
    : impl_(std::make_unique<Impl>(strand, proposer, std::move(log))) {}

Store::~Store() = default;

Snapshot Store::snapshot() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->published;
}

void Store::lead(uint64_t term) {
  MUSTER_CHECK(impl_->strand.is_current());
  MUSTER_CHECK(impl_->proposer != nullptr && term != 0, "leading needs a proposer and a term");
  impl_->term = term;
  impl_->log->info("leading term {} at version {}", term, impl_->state()->version);
}

void Store::end_leading() {
  MUSTER_CHECK(impl_->strand.is_current());
  impl_->term = 0;
  impl_->fail_queue(not_leader());
  if (impl_->in_flight == nullptr) return;
  for (Waiter& waiter : impl_->in_flight->waiters) {
    impl_->post_done(std::move(waiter.done),
                     {waiter.changed ? outcome_unknown() : not_leader(), 0, {}});
  }
  impl_->in_flight->waiters.clear();
}

bool Store::leading() const {
  return impl_->term != 0;
}

void Store::update(Body body, Done done) {
  update(
      UpdateOptions(),
      [body = std::move(body)](Transaction& tx) mutable -> Result<std::string> {
        MUSTER_TRY(body(tx));
        return std::string();
      },
      std::move(done));
}

void Store::update(UpdateOptions options, UniqueFunction<Result<std::string>(Transaction&)> body,
                   Done done) {
  MUSTER_CHECK(impl_->strand.is_current());
  impl_->enqueue({std::move(options), std::move(body), std::move(done)});
}

namespace {

// Puts what an entry or a chunk says into `state`; adds each difference to `changes` if given.
Status apply_read(State& state, uint64_t token, const ReadChange& read, uint64_t version,
                  std::vector<AnyChange>* changes) {
  if (const auto* removed = std::get_if<Removed>(&read)) {
    for_each_kind([&]<class T>(std::type_identity<T>) {
      if (TableTraits<T>::kTable != removed->table) return;
      const Ptr<T> before = state.get<T>(removed->id);
      if (before == nullptr) return;
      state.replace<T>(token, before, nullptr);
      if (changes != nullptr) changes->emplace_back(Change<T>{before, nullptr});
    });
    return ok_status();
  }
  return std::visit(
      [&]<class R>(const R& object) -> Status {
        if constexpr (!std::is_same_v<R, Removed>) {
          using T = std::remove_const_t<typename R::element_type>;
          if (object->id().empty()) {
            return data_loss("a {} without an id", TableTraits<T>::kKind);
          }
          // Just parsed, so not yet shared.
          if (version != 0) {
            std::const_pointer_cast<T>(object)->mutable_meta()->set_version(version);
          }
          const Ptr<T> before = state.get<T>(object->id());
          state.replace<T>(token, before, object);
          if (changes != nullptr) changes->emplace_back(Change<T>{before, object});
        }
        return ok_status();
      },
      read);
}

// What became of each object between two states, by walking both in the order of ids.
std::vector<AnyChange> difference(const State& before, const State& after) {
  std::vector<AnyChange> changes;
  for_each_kind([&]<class T>(std::type_identity<T>) {
    before.table<T>().by_id.visit_all([&](const auto& entry) {
      const Ptr<T> now = after.get<T>(entry.value->id());
      if (now == nullptr) {
        changes.emplace_back(Change<T>{entry.value, nullptr});
      } else if (now->meta().version() != entry.value->meta().version()) {
        changes.emplace_back(Change<T>{entry.value, now});
      }
      return true;
    });
    after.table<T>().by_id.visit_all([&](const auto& entry) {
      if (before.get<T>(entry.value->id()) == nullptr) {
        changes.emplace_back(Change<T>{nullptr, entry.value});
      }
      return true;
    });
  });
  return changes;
}

}  // namespace

Status Store::apply(uint64_t index, std::string_view entry) {
  MUSTER_CHECK(impl_->strand.is_current());
  if (impl_->in_flight != nullptr) {
    return failed_precondition("entry {} cannot be applied while a proposal is in flight", index);
  }
  if (index <= impl_->state()->version) {
    return failed_precondition("entry {} was already applied (the store is at {})", index,
                               impl_->state()->version);
  }
  const auto where = [&](Status status) {
    return status.with_context(fmt::format("entry {}", index));
  };
  auto read = decode_entry(entry, kFeatureLevel);
  if (!read) return where(std::move(read).error());
  auto next = std::make_shared<State>(*impl_->state());
  const uint64_t token = next_edit_token();
  std::vector<AnyChange> changes;
  changes.reserve(read->changes.size());
  for (const ReadChange& change : read->changes) {
    if (Status status = apply_read(*next, token, change, index, &changes); !status.ok()) {
      return where(std::move(status));
    }
  }
  next->version = index;
  impl_->publish(std::move(next), read->proposed_at, std::move(changes));
  impl_->pump();
  return ok_status();
}

Status Store::save(const Snapshot& snapshot, size_t chunk_bytes,
                   const std::function<Status(std::string chunk)>& sink) {
  std::string objects;
  Status status;
  const auto flush = [&](bool last) {
    return sink(finish_chunk(snapshot.version(), last, std::exchange(objects, {})));
  };
  for_each_kind([&]<class T>(std::type_identity<T>) {
    snapshot.each<T>([&](const Ptr<T>& object) {
      if (!status.ok()) return false;
      append_object(objects, v1::StoreSnapshotChunk::kObjectsFieldNumber, *object);
      if (objects.size() >= chunk_bytes) status = flush(false);
      return status.ok();
    });
  });
  MUSTER_TRY(status);
  return flush(true);
}

Status Store::load_begin() {
  MUSTER_CHECK(impl_->strand.is_current());
  if (impl_->in_flight != nullptr) {
    return failed_precondition("a snapshot cannot be loaded while a proposal is in flight");
  }
  impl_->loading = std::make_shared<State>();
  impl_->loading_token = next_edit_token();
  return ok_status();
}

Status Store::load_chunk(std::string_view bytes) {
  MUSTER_CHECK(impl_->strand.is_current());
  if (impl_->loading == nullptr) return failed_precondition("no snapshot is being loaded");
  State& state = *impl_->loading;
  if (state.version != 0) return data_loss("the snapshot goes on after its last chunk");
  MUSTER_ASSIGN(const ReadChunk chunk, decode_chunk(bytes));
  for (const ReadChange& object : chunk.objects) {
    MUSTER_TRY(apply_read(state, impl_->loading_token, object, 0, nullptr));
  }
  if (chunk.last) state.version = chunk.index;
  return ok_status();
}

Status Store::load_end() {
  MUSTER_CHECK(impl_->strand.is_current());
  const auto loaded = std::exchange(impl_->loading, nullptr);
  if (loaded == nullptr) return failed_precondition("no snapshot is being loaded");
  if (loaded->version == 0) return data_loss("the snapshot ends before its last chunk");
  if (const auto cluster = Snapshot(loaded).cluster()) {
    MUSTER_TRY(check_feature_level(cluster->feature_level(), kFeatureLevel));
  }
  if (loaded->version < impl_->state()->version) {
    return failed_precondition("the snapshot at {} is older than the store at {}", loaded->version,
                               impl_->state()->version);
  }
  // Watchers that are there see one commit that makes the old state the new one.
  std::vector<AnyChange> changes;
  if (impl_->hub.watched()) changes = difference(*impl_->state(), *loaded);
  impl_->publish(loaded, impl_->strand.clock().wall_now(), std::move(changes));
  impl_->hub.reset(loaded->version);
  return ok_status();
}

Store::Subscription::Subscription(Subscription&&) noexcept = default;
Store::Subscription& Store::Subscription::operator=(Subscription&& other) noexcept {
  if (link_ != nullptr && link_ != other.link_) link_->active = false;
  link_ = std::move(other.link_);
  return *this;
}
Store::Subscription::~Subscription() {
  if (link_ != nullptr) link_->active = false;
}

Result<Store::Subscription> Store::watch(uint64_t after_version,
                                         UniqueFunction<void(const CommitEvent&)> watcher) {
  MUSTER_CHECK(impl_->strand.is_current());
  Subscription subscription;
  MUSTER_ASSIGN(subscription.link_,
                impl_->hub.watch(after_version, impl_->published, std::move(watcher)));
  return subscription;
}

Store::HistoryStart Store::history_since(WallTime time) const {
  MUSTER_CHECK(impl_->strand.is_current());
  return impl_->hub.since(time);
}

Store::Subscription Store::watch(UniqueFunction<void(const CommitEvent&)> watcher) {
  auto subscription = watch(impl_->state()->version, std::move(watcher));
  MUSTER_CHECK(subscription.has_value());
  return *std::move(subscription);
}

}  // namespace muster::manager::store
