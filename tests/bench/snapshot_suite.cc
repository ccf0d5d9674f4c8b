#include "tests/bench/snapshot_suite.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/thread_executor.h"
#include "manager/store/durable/durable_store.h"
#include "tests/bench/samples.h"

namespace muster::bench {
namespace {

using manager::store::Commit;
using manager::store::DurableStore;
using manager::store::Transaction;
using Steady = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr uint64_t kNodes = 1'000;
constexpr uint64_t kChangesOfEntry = 200;
constexpr auto kAfter = std::chrono::milliseconds(500);

// How long each write of a phase took.
struct Phase {
  std::vector<double> ms;
  Steady::time_point began = Steady::now();
  double seconds = 0;  // once it is over

  void report_to(Report& report, const std::string& name) {
    std::sort(ms.begin(), ms.end());
    const size_t count = ms.size();
    report.add("pause_" + name + "_ms", "ms", ms.back());
    report.add("write_p99_" + name + "_ms", "ms", ms[count * 99 / 100]);
    report.add("writes_" + name + "_per_s", "1/s", static_cast<double>(count) / seconds);
  }
};

// The store, and a client that sends a change, waits for the answer and sends the next. Everything
// but the constructor and run() happens on the strand.
class SnapshotRun {
 public:
  explicit SnapshotRun(const SuiteOptions& options)
      : tasks_(options.smoke ? 2'000 : 100'000),
        before_(options.smoke ? std::chrono::milliseconds(50) : std::chrono::milliseconds(2'000)) {}
  ~SnapshotRun() {
    on_strand<bool>([this](auto done) {
      writing_ = false;
      durable_.reset();
      done(true);
    });
    std::filesystem::remove_all(dir_);
  }

  Status run(Report& report) {
    // Not under /tmp, which may be memory.
    dir_ = "/var/tmp/muster-bench-XXXXXX";
    if (mkdtemp(dir_.data()) == nullptr) return errno_status(errno, dir_);
    MUSTER_TRY(on_strand<Status>([this](auto done) { open(std::move(done)); }));
    MUSTER_TRY(on_strand<Status>([this](auto done) { fill(0, std::move(done)); }));
    on_strand<bool>([this](auto done) {
      writing_ = true;
      write();
      done(true);
    });
    MUSTER_TRY(
        measure([this](auto done) { strand_.after(before_, [done] { done(ok_status()); }); }));
    over_.report_to(report, "before");
    double seconds = 0;
    MUSTER_TRY(measure([this, &seconds](auto done) {
      const auto asked = Steady::now();
      durable_->take_snapshot([this, &seconds, asked, done](const Status& status) {
        seconds = Seconds(Steady::now() - asked).count();
        // What it leaves behind, the log's files for one, is worked off.
        strand_.after(kAfter, [done, status] { done(status); });
      });
    }));
    over_.report_to(report, "during");
    report.add("snapshot_100k_s", "s", seconds);
    report.add("snapshot_100k_mib", "MiB", snapshot_mib());
    return failed_;
  }

 private:
  template <class T>
  using Done = std::function<void(T)>;

  template <class T, class F>
  T on_strand(F&& f) {
    auto promise = std::make_shared<std::promise<T>>();
    auto future = promise->get_future();
    strand_.post([&f, promise] { f(Done<T>([promise](T value) { promise->set_value(value); })); });
    return future.get();
  }

  // A phase of writes as long as `f` says.
  template <class F>
  Status measure(F&& f) {
    return on_strand<Status>([&](auto done) {
      phase_ = Phase();
      f(Done<Status>([this, done](Status status) {
        // The write under way counts, for as long as it takes already.
        phase_.ms.push_back(1e3 * Seconds(Steady::now() - sent_).count());
        phase_.seconds = Seconds(Steady::now() - phase_.began).count();
        over_ = std::exchange(phase_, Phase());
        done(std::move(status));
      }));
    });
  }

  void open(Done<Status> done) {
    DurableStore::Options options;
    options.dir = dir_ + "/raft";
    options.log = null_log();
    options.snapshot_entries = UINT64_MAX;  // only when asked
    auto opened = DurableStore::open(strand_, std::move(options));
    if (!opened) return done(opened.error());
    durable_ = *std::move(opened);
    manager::store::ReplicationEvents events;
    events.on_lead = [done, first = true](uint64_t) mutable {
      if (std::exchange(first, false)) done(ok_status());
    };
    if (const Status started = durable_->start(std::move(events)); !started.ok()) done(started);
  }

  void fill(uint64_t from, Done<Status> done) {
    if (from >= tasks_) return done(ok_status());
    durable_->store().update(
        [this, from](Transaction& tx) -> Status {
          for (uint64_t i = from; i < std::min(tasks_, from + kChangesOfEntry); ++i) {
            MUSTER_TRY(tx.create(sample_task(rng_, i, kNodes)));
          }
          return ok_status();
        },
        [this, from, done](const Commit& commit) {
          if (!commit.status.ok()) return done(commit.status);
          fill(from + kChangesOfEntry, done);
        });
  }

  void write() {
    if (!writing_) return;
    sent_ = Steady::now();
    durable_->store().update(
        [number = ++written_](Transaction& tx) { return tx.create(sample_service(number)); },
        [this](const Commit& commit) {
          if (!commit.status.ok()) {
            failed_ = commit.status;
            writing_ = false;
            return;
          }
          phase_.ms.push_back(1e3 * Seconds(Steady::now() - sent_).count());
          write();
        });
  }

  double snapshot_mib() const {
    for (const auto& item : std::filesystem::directory_iterator(dir_ + "/raft")) {
      if (item.path().filename().string().starts_with("snapshot-")) {
        return static_cast<double>(item.file_size()) / (1 << 20);
      }
    }
    return 0;
  }

  const uint64_t tasks_;
  const std::chrono::milliseconds before_;
  std::string dir_;
  SeededRng rng_{1};
  std::unique_ptr<DurableStore> durable_;
  bool writing_ = false;
  uint64_t written_ = 0;
  Steady::time_point sent_;
  Phase phase_;  // that lasts
  Phase over_;
  Status failed_;
  ThreadExecutor strand_{"bench"};  // last: its thread uses everything above
};

}  // namespace

Status run_snapshot_suite(const SuiteOptions& options, Report& report) {
  for (int run = 0; run < options.runs; ++run) MUSTER_TRY(SnapshotRun(options).run(report));
  return ok_status();
}

}  // namespace muster::bench
