#include "tests/bench/store_suite.h"

#include <malloc.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "base/thread_executor.h"
#include "manager/store/durable/durable_store.h"
#include "tests/bench/samples.h"

namespace muster::bench {
namespace {

using manager::store::Commit;
using manager::store::CommitEvent;
using manager::store::DurableStore;
using manager::store::ProposalOutcome;
using manager::store::ProposalResult;
using manager::store::Proposer;
using manager::store::Snapshot;
using manager::store::Store;
using manager::store::Transaction;
using SteadyClock = std::chrono::steady_clock;

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

double rss_mib() {
  std::ifstream statm("/proc/self/statm");
  double total = 0;
  double resident = 0;
  statm >> total >> resident;
  return resident * 4096 / (1 << 20);
}

// Commits at once, to nowhere; keeps the entries when asked.
class MemoryLog final : public Proposer {
 public:
  explicit MemoryLog(Executor& strand) : strand_(strand) {}
  void propose(uint64_t, std::string entry, UniqueFunction<void(ProposalResult)> done) override {
    if (keep) entries.push_back(std::move(entry));
    strand_.post([this, done = std::move(done)]() mutable {
      done({ProposalOutcome::kCommitted, ++index_, {}});
    });
  }
  uint64_t leading_term() const override { return 1; }

  bool keep = false;
  std::vector<std::string> entries;

 private:
  Executor& strand_;
  uint64_t index_ = 0;
};

constexpr uint64_t kNodes = 10'000;

// A number of clients that each send a change, wait for the answer and send the next.
class Clients {
 public:
  Clients(Store& store, uint64_t total) : store_(store), total_(total) {}

  void start(size_t clients) {
    for (size_t i = 0; i < clients && sent_ < total_; ++i) send();
  }
  std::future<Status> finished() { return finished_.get_future(); }

 private:
  void send() {
    const uint64_t number = ++sent_;
    store_.update([number](Transaction& tx) { return tx.create(sample_service(number)); },
                  [this](const Commit& commit) { answered(commit); });
  }
  void answered(const Commit& commit) {
    if (!commit.status.ok()) failed_ = commit.status;
    if (++answered_ == total_) finished_.set_value(failed_);
    if (sent_ < total_) send();
  }

  Store& store_;
  uint64_t total_;
  uint64_t sent_ = 0;
  uint64_t answered_ = 0;
  Status failed_;
  std::promise<Status> finished_;
};

Status measure_disk(const SuiteOptions& options, Report& report, std::string_view name,
                    size_t clients, uint64_t total) {
  // Not under /tmp, which may be memory.
  std::string dir = (std::filesystem::current_path() / "build/bench-XXXXXX").string();
  std::filesystem::create_directories("build");
  if (mkdtemp(dir.data()) == nullptr) return errno_status(errno, dir);
  if (options.smoke) total = std::min<uint64_t>(total, 200);
  ThreadExecutor strand("bench");
  std::unique_ptr<DurableStore> durable;
  std::promise<Status> opened;
  strand.post([&] {
    DurableStore::Options store_options;
    store_options.dir = dir;
    store_options.log = null_log();
    auto result = DurableStore::open(strand, store_options);
    if (!result) return opened.set_value(result.error());
    durable = *std::move(result);
    manager::store::ReplicationEvents events;
    events.on_lead = [&opened, first = true](uint64_t) mutable {
      if (std::exchange(first, false)) opened.set_value(ok_status());
    };
    const Status started = durable->start(std::move(events));
    if (!started.ok()) opened.set_value(started);
  });
  Status status = opened.get_future().get();
  if (status.ok()) {
    Clients load(durable->store(), total);
    std::future<Status> finished = load.finished();
    const auto start = SteadyClock::now();
    strand.post([&] { load.start(clients); });
    status = finished.get();
    report.add(name, "tx/s", static_cast<double>(total) / seconds_since(start));
    // The last answer comes from inside the store: gone only after it has returned.
    std::promise<void> closed;
    strand.post([&] {
      durable.reset();
      closed.set_value();
    });
    closed.get_future().wait();
  }
  std::filesystem::remove_all(dir);
  return status;
}

Status measure_memory(const SuiteOptions& options, Report& report) {
  SimWorld world;
  SimExecutor strand(world);
  MemoryLog log(strand);
  Store store(strand, &log, null_log());
  store.lead(1);
  const uint64_t total = options.smoke ? 1'000 : 200'000;
  Clients load(store, total);
  std::future<Status> finished = load.finished();
  const auto start = SteadyClock::now();
  load.start(1'000);
  world.settle(UINT64_MAX);
  report.add("tx_memory_per_s", "tx/s", static_cast<double>(total) / seconds_since(start));
  return finished.get();
}

// The store of a million tasks and what is done with it.
class MillionTasks {
 public:
  MillionTasks(const SuiteOptions& options, Report& report)
      : report_(report), tasks_(options.smoke ? 10'000 : 1'000'000) {}

  Status run() {
    store_.lead(1);
    MUSTER_TRY(fill());
    MUSTER_TRY(change());
    MUSTER_TRY(fan_out());
    return transfer();
  }

 private:
  Status fill() {
    malloc_trim(0);
    const double before = rss_mib();
    SeededRng rng(1);
    std::vector<std::string> entries;
    {
      // The entries as a leader made them, to be replayed by the store that is measured.
      MemoryLog log(strand_);
      log.keep = true;
      Store leader(strand_, &log, null_log());
      leader.lead(1);
      Status failed;
      for (uint64_t at = 0; at < tasks_; at += 1'000) {
        leader.update(
            [&, at](Transaction& tx) -> Status {
              for (uint64_t i = at; i < at + 1'000; ++i)
                MUSTER_TRY(tx.create(sample_task(rng, i, kNodes)));
              return ok_status();
            },
            [&](const Commit& c) {
              if (!c.status.ok()) failed = c.status;
            });
        world_.settle(UINT64_MAX);
      }
      MUSTER_TRY(failed);
      entries = std::move(log.entries);
    }
    const auto start = SteadyClock::now();
    for (const std::string& entry : entries) MUSTER_TRY(store_.apply(++applied_, entry));
    report_.add("replay_1m_tasks_s", "s", seconds_since(start));
    entries = {};
    malloc_trim(0);
    report_.add("rss_1m_tasks_mib", "MiB", rss_mib() - before);
    log_.skip(applied_);
    return ok_status();
  }

  // Status changes as agents report them, 100 tasks a transaction; then handles for readers.
  Status change() {
    std::vector<std::string> ids;
    store_.snapshot().each<v1::Task>([&](const auto& t) {
      ids.push_back(t->id());
      return true;
    });
    SeededRng rng(2);
    constexpr int kTransactions = 500;
    constexpr int kTasks = 100;
    Status failed;
    const auto start = SteadyClock::now();
    for (int i = 0; i < kTransactions; ++i) {
      store_.update(
          [&](Transaction& tx) -> Status {
            for (int k = 0; k < kTasks; ++k) {
              v1::Task t = *tx.view().get<v1::Task>(ids[rng.below(ids.size())]);
              t.mutable_status()->set_state(v1::TASK_FAILED);
              MUSTER_TRY(tx.update(std::move(t)));
            }
            return ok_status();
          },
          [&](const Commit& c) {
            if (!c.status.ok()) failed = c.status;
          });
      world_.settle(UINT64_MAX);
    }
    report_.add("task_updates_per_s", "tasks/s", kTransactions * kTasks / seconds_since(start));
    MUSTER_TRY(failed);
    constexpr int kHandles = 100'000;
    const auto handles = SteadyClock::now();
    uint64_t versions = 0;
    for (int i = 0; i < kHandles; ++i) versions += store_.snapshot().version();
    report_.add("snapshot_take_us", "us", seconds_since(handles) * 1e6 / kHandles);
    return versions > 0 ? ok_status() : internal_error("the store is at version 0");
  }

  Status fan_out() {
    constexpr size_t kWatchers = 1'000;
    constexpr size_t kCommits = 500;
    uint64_t seen = 0;
    std::vector<Store::Subscription> subscriptions;
    for (size_t i = 0; i < kWatchers; ++i) {
      subscriptions.push_back(
          store_.watch([&](const CommitEvent& e) { seen += e.changes->size(); }));
    }
    const auto start = SteadyClock::now();
    for (size_t i = 0; i < kCommits; ++i) {
      store_.update([i](Transaction& tx) { return tx.create(sample_service(i)); },
                    [](const Commit&) {});
      world_.settle(UINT64_MAX);
    }
    report_.add("watch_events_per_s", "events/s", kWatchers * kCommits / seconds_since(start));
    return seen == kWatchers * kCommits ? ok_status()
                                        : internal_error("watchers saw {} changes", seen);
  }

  Status transfer() {
    std::vector<std::string> chunks;
    const auto saving = SteadyClock::now();
    MUSTER_TRY(Store::save(store_.snapshot(), 512 << 10, [&](std::string chunk) {
      chunks.push_back(std::move(chunk));
      return ok_status();
    }));
    report_.add("snapshot_save_s", "s", seconds_since(saving));
    Store other(strand_, nullptr, null_log());
    const auto loading = SteadyClock::now();
    MUSTER_TRY(other.load_begin());
    for (const std::string& chunk : chunks) MUSTER_TRY(other.load_chunk(chunk));
    MUSTER_TRY(other.load_end());
    report_.add("load_1m_tasks_s", "s", seconds_since(loading));
    return other.snapshot().count<v1::Task>() == tasks_ ? ok_status()
                                                        : internal_error("tasks were lost");
  }

  // A log that goes on after what was replayed.
  class ContinuedLog final : public Proposer {
   public:
    explicit ContinuedLog(Executor& strand) : strand_(strand) {}
    void skip(uint64_t index) { index_ = index; }
    void propose(uint64_t, std::string, UniqueFunction<void(ProposalResult)> done) override {
      strand_.post([this, done = std::move(done)]() mutable {
        done({ProposalOutcome::kCommitted, ++index_, {}});
      });
    }
    uint64_t leading_term() const override { return 1; }

   private:
    Executor& strand_;
    uint64_t index_ = 0;
  };

  Report& report_;
  uint64_t tasks_;
  uint64_t applied_ = 0;
  SimWorld world_;
  SimExecutor strand_{world_};
  ContinuedLog log_{strand_};
  Store store_{strand_, &log_, null_log()};
};

}  // namespace

Status run_store_suite(const SuiteOptions& options, Report& report) {
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_TRY(measure_disk(options, report, "tx_disk_1c_per_s", 1, 2'000));
    MUSTER_TRY(measure_disk(options, report, "tx_disk_1000c_per_s", 1'000, 100'000));
    MUSTER_TRY(measure_memory(options, report));
    MUSTER_TRY(MillionTasks(options, report).run());
  }
  return ok_status();
}

}  // namespace muster::bench
