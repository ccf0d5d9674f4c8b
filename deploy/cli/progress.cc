#include "deploy/cli/progress.h"

#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/time.h"
#include "deploy/cli/leader_watch.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kDefaultMonitor = 5 * kSecond;
constexpr int64_t kBlockedGrace = 10 * kSecond;
constexpr int64_t kRelistDelay = 1 * kSecond;  // after a lost stream
constexpr int kStreamLossesMax = 30;
constexpr int kLossesSilent = 2;

class Waiter {
 public:
  Waiter(Run& run, const WaitOptions& options, Signals& signals)
      : run_(run), options_(options), signals_(signals) {}

  Result<int> wait(const std::vector<v1::Service>& services) {
    for (const auto& service : services) {
      Entry entry;
      entry.view.service = service;
      entry.view.since_version = service.meta().version();
      entry.rolled_back_before =
          service.update_status().state() == v1::UpdateStatus::ROLLBACK_COMPLETED;
      if (!entries_.contains(service.id())) order_.push_back(service.id());
      entries_[service.id()] = std::move(entry);
    }
    MUSTER_TRY(list());
    for (;;) {
      const int64_t now = run_.world.now_ns();
      tell(leader_.look());
      const std::optional<int> code = judge(now);
      paint(now, code.has_value());
      if (code) return *code;
      if (stream_ == nullptr && now >= relist_at_) {
        MUSTER_TRY(list());
        continue;  // what was learned is judged before anything is waited for
      }
      wait_readable({stream_ == nullptr ? -1 : stream_->fd(), signals_.fd(), leader_.fd()},
                    (next_wake(now) - now) / 1'000'000 + 1);
      if (signals_.pop() != 0) return interrupted();
      MUSTER_TRY(drain());
    }
  }

 private:
  struct Entry {
    ServiceView view;
    Assessment now;
    int64_t converged_at = 0;  // 0 = it has not
    int64_t blocked_at = 0;
    std::string blocked_shown, going_back_shown, failure;
    uint64_t done_shown = UINT64_MAX;
    bool verified = false;
    bool rolled_back_before = false;  // an older story
  };

  // Nothing changes while nobody leads: who waits should know what for.
  void tell(LeaderWatch::Change change) {
    if (change == LeaderWatch::Change::kNone || options_.quiet) return;
    run_.warn(change == LeaderWatch::Change::kFound
                  ? "muster: the swarm has a leader again"
                  : "muster: the swarm does not have a leader: nothing changes until there is one; "
                    "waiting (`muster node ls` says how many managers are missing)");
    painted_ = 0;
  }

  // The state as it is, and a stream of what changes from there. Replayed changes do no harm, but
  // one that neither the list nor the stream has is missed for ever: the stream begins with what
  // the tasks show to be so, which are read first. A commit changes tasks and their service
  // together.
  Status list() {
    v1::ListTasksRequest request;
    uint64_t version = 0;
    for (const auto& id : order_) {
      request.mutable_filter()->add_service_ids(id);
      version = std::max(version, entries_[id].view.since_version);
    }
    const auto tasks = run_.client().call(request);
    if (!tasks) return lost(tasks.error());
    std::map<std::string, std::optional<v1::Service>> services;  // absent = removed
    for (const auto& id : order_) {
      v1::GetServiceRequest get;
      get.set_service(id);
      const auto got = run_.client().call(get);
      if (!got && got.error().code() != StatusCode::kNotFound) return lost(got.error());
      services[id] = got ? std::optional(got->service()) : std::nullopt;
    }
    const auto nodes = run_.client().call(v1::ListNodesRequest());
    if (!nodes) return lost(nodes.error());
    // Only what arrived whole replaces what was known.
    for (auto& [id, service] : services) {
      ServiceView& view = entries_[id].view;
      view.removed = !service;
      if (service) view.service = *std::move(service);
      view.tasks.clear();
    }
    for (const auto& task : tasks->tasks()) {
      version = std::max(version, task.meta().version());
      take_task(task, false);
    }
    node_names_.clear();
    for (const auto& node : nodes->nodes()) take_node(node, false);
    v1::WatchRequest watch;
    for (const char* kind : {"service", "task", "node"}) watch.add_kinds(kind);
    // A version too old to be kept: from now on, and list again soon to close the gap.
    watch.set_resume_from(too_old_ ? 0 : version);
    *watch.mutable_filter() = request.filter();
    stream_ = run_.client().watch(watch);
    relist_at_ = too_old_ ? run_.world.now_ns() + kRelistDelay : INT64_MAX;
    return ok_status();
  }

  // A manager that is away for a moment does not end the waiting.
  Status lost(const Status& status) {
    stream_ = nullptr;
    relist_at_ = run_.world.now_ns() + kRelistDelay;
    if (status.code() == StatusCode::kOutOfRange) {
      too_old_ = true;
      relist_at_ = 0;
      return ok_status();
    }
    if (status.code() != StatusCode::kUnavailable) return status;
    if (++losses_ > kStreamLossesMax)
      return status.with_context("gave up waiting, the work itself may go on");
    // Once for a musterd that is restarted; nothing for a stream that merely ended.
    if (losses_ == kLossesSilent && !options_.quiet) {
      run_.warn(fmt::format("muster: {}; waiting for it to come back", status.message()));
      painted_ = 0;
    }
    return ok_status();
  }

  Status drain() {
    if (stream_ == nullptr) return ok_status();
    v1::WatchResponse message;
    bool any = false;
    while (stream_->pop(&message)) {
      any = true;
      losses_ = 0;
      for (const auto& event : message.events()) take(event);
    }
    // What came is judged first, even if it was the last of this stream.
    if (!any && stream_->ended()) {
      Status status = stream_->status();
      if (status.ok()) status = unavailable("the stream of changes ended");
      return lost(status);
    }
    // The stream from "now" may have begun after the list.
    if (too_old_ && run_.world.now_ns() >= relist_at_) {
      too_old_ = false;
      return relist();
    }
    return ok_status();
  }

  Status relist() {
    auto stream = std::move(stream_);
    MUSTER_TRY(list());
    stream_ = std::move(stream);
    return ok_status();
  }

  void take(const v1::ObjectEvent& event) {
    const bool gone = event.action() == v1::ObjectEvent::REMOVE;
    if (event.has_task()) {
      take_task(event.task(), gone);
    } else if (event.has_node()) {
      take_node(event.node(), gone);
    } else if (event.has_service()) {
      const auto it = entries_.find(event.service().id());
      if (it == entries_.end()) return;
      ServiceView& view = it->second.view;
      if (gone)
        view.removed = true;
      else if (event.service().meta().version() >= view.service.meta().version())
        view.service = event.service();
    }
  }

  void take_task(const v1::Task& task, bool gone) {
    const auto it = entries_.find(task.service_id());
    if (it == entries_.end()) return;
    auto& tasks = it->second.view.tasks;
    const auto old = tasks.find(task.id());
    if (gone)
      tasks.erase(task.id());
    else if (old == tasks.end() || task.meta().version() >= old->second.meta().version())
      tasks[task.id()] = task;
  }

  void take_node(const v1::Node& node, bool gone) {
    if (gone || node.status().state() == v1::NodeStatus::DOWN)
      node_names_.erase(node.id());
    else
      node_names_[node.id()] =
          node.description().hostname().empty() ? node.id() : node.description().hostname();
  }

  int64_t monitor_ns(const Entry& entry) const {
    // What is done stays done.
    const auto& spec = entry.view.service.spec();
    if (spec.has_replicated_job() || spec.has_global_job()) return 0;
    if (options_.monitor) return parse_duration_ns(*options_.monitor).value_or(kDefaultMonitor);
    if (const std::string text = run_.env("MUSTER_MONITOR"); !text.empty())
      return parse_duration_ns(text).value_or(kDefaultMonitor);
    if (spec.update().has_monitor_ns()) return spec.update().monitor_ns();
    return kDefaultMonitor;
  }

  std::optional<int> judge(int64_t now) {
    bool all = true;
    for (const auto& id : order_) {
      Entry& entry = entries_[id];
      entry.now = assess(entry.view, node_names_);
      if (!entry.now.failure.empty()) {
        entry.failure = entry.now.failure;
        return 1;
      }
      // Without a leader nodes cannot report what becomes of their tasks.
      const bool blind = stream_ == nullptr || leader_.lost();
      if (blind || entry.now.blocked.empty() || entry.now.done != entry.done_shown)
        entry.blocked_at = 0;
      if (!blind && !entry.now.blocked.empty()) {
        if (entry.blocked_at == 0) entry.blocked_at = now;
        if (now - entry.blocked_at >= kBlockedGrace) {
          entry.failure = entry.now.blocked + " (muster goes on trying)";
          return 1;
        }
      }
      // What nobody watched cannot be said to have stayed up.
      if (!entry.now.converged || blind) {
        entry.converged_at = 0;
      } else if (entry.converged_at == 0) {
        entry.converged_at = now;
      }
      // The manager watches for as long; its word counts, unless nobody wants to wait for it.
      const bool watched =
          entry.now.updating && (monitor_ns(entry) > 0 || !entry.now.going_back.empty());
      entry.verified =
          entry.converged_at != 0 && now - entry.converged_at >= monitor_ns(entry) && !watched;
      all = all && entry.verified;
    }
    return all ? std::optional<int>(rolled_back() ? 1 : 0) : std::nullopt;
  }

  bool rolled_back() {
    for (auto& [id, entry] : entries_) {
      if (!entry.now.rolled_back || entry.rolled_back_before) continue;
      entry.failure = entry.view.service.update_status().message();
      if (entry.failure.empty()) entry.failure = "the update was rolled back";
      return true;
    }
    return false;
  }

  int64_t next_wake(int64_t now) const {
    int64_t wake = now + 600 * kSecond;
    if (stream_ == nullptr || too_old_) wake = std::max(now, relist_at_);
    for (const auto& [id, entry] : entries_) {
      const int64_t stable = entry.converged_at + monitor_ns(entry);
      if (entry.converged_at != 0 && !entry.verified && stable > now) wake = std::min(wake, stable);
      if (entry.blocked_at != 0) wake = std::min(wake, entry.blocked_at + kBlockedGrace);
      // The seconds count down on a terminal.
      if (run_.world.out_is_terminal && entry.converged_at != 0 && !entry.verified)
        wake = std::min(wake, now + kSecond);
    }
    return std::max(std::min(wake, leader_.wake()), now);
  }

  int interrupted() {
    run_.out(run_.world.out_is_terminal ? "\n" : "");
    run_.line("Operation continuing in background.");
    if (order_.size() == 1)
      run_.line(fmt::format("Use `muster service ps {}` to check progress.",
                            name_of(entries_[order_[0]])));
    return 0;
  }

  static std::string name_of(const Entry& entry) {
    return entry.view.service.spec().annotations().name();
  }

  // As Docker shows it.
  std::string overall(const Entry& entry) const {
    if (entry.now.job) {
      const size_t width = std::to_string(entry.now.wanted).size();
      return fmt::format("job progress: {:>{}} out of {} complete", entry.now.done, width,
                         entry.now.wanted);
    }
    return fmt::format("overall progress: {} out of {} tasks", entry.now.done, entry.now.wanted);
  }

  std::string verify_text(const Entry& entry, int64_t now) const {
    if (entry.now.job) return "job complete";
    if (entry.verified) return fmt::format("verify: Service {} converged", name_of(entry));
    const int64_t left = std::max<int64_t>(0, entry.converged_at + monitor_ns(entry) - now);
    return fmt::format("verify: Waiting {} seconds to verify that tasks are stable...",
                       (left + kSecond - 1) / kSecond);
  }

  void paint(int64_t now, bool last) {
    if (!options_.quiet) {
      if (run_.world.out_is_terminal)
        paint_live(now);
      else
        paint_plain(now);
    }
    for (auto& [id, entry] : entries_) entry.done_shown = entry.now.done;
    if (!last) return;
    for (const auto& id : order_) {
      const Entry& entry = entries_[id];
      for (const std::string& note : entry.now.notes) run_.warn("WARNING: " + note);
      if (!entry.failure.empty())
        run_.warn(fmt::format("muster: service {}: {}", name_of(entry), entry.failure));
    }
  }

  void paint_plain(int64_t now) {
    const bool single = order_.size() == 1;
    for (const auto& id : order_) {
      Entry& entry = entries_[id];
      const std::string prefix = single ? "" : name_of(entry) + ": ";
      if (entry.now.done != entry.done_shown) run_.line(prefix + overall(entry));
      if (entry.now.blocked != entry.blocked_shown && !entry.now.blocked.empty())
        run_.line(prefix + entry.now.blocked);
      entry.blocked_shown = entry.now.blocked;
      if (entry.now.going_back != entry.going_back_shown && !entry.now.going_back.empty())
        run_.line(prefix + "rollback: " + entry.now.going_back);
      entry.going_back_shown = entry.now.going_back;
      if (entry.verified && !entry.failure.empty()) continue;
      if (entry.verified && !told_.contains(id)) {
        told_[id] = true;
        run_.line(verify_text(entry, now));
      }
    }
  }

  void paint_live(int64_t now) {
    winsize size{};
    const bool sized = ioctl(run_.world.out_fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    const size_t width = sized ? size.ws_col - 1U : 79;
    const size_t height = sized && size.ws_row > 4 ? size.ws_row - 2U : 22;
    std::vector<std::string> lines;
    for (const auto& id : order_) {
      const Entry& entry = entries_[id];
      const bool single = order_.size() == 1;
      lines.push_back(single
                          ? overall(entry)
                          : fmt::format("{}: {}/{} {}", name_of(entry), entry.now.done,
                                        entry.now.wanted, entry.now.job ? "complete" : "running"));
      if (single && entry.now.job && entry.view.service.spec().has_replicated_job())
        lines.push_back(fmt::format("active tasks: {} out of {} tasks", entry.now.active,
                                    entry.now.active_wanted));
      const size_t shown = std::min(entry.now.slots.size(), kSlotLinesMax);
      for (size_t i = 0; i < shown && single; ++i)
        lines.push_back(entry.now.slots[i].label + ": " + entry.now.slots[i].text);
      if (!single && !entry.now.blocked.empty()) lines.push_back("  " + entry.now.blocked);
      if (!entry.now.going_back.empty()) lines.push_back("rollback: " + entry.now.going_back);
      if (entry.converged_at != 0 && entry.failure.empty() && single)
        lines.push_back(verify_text(entry, now));
    }
    if (lines.size() > height) lines.resize(height);
    std::string out;
    if (painted_ > 0) out += fmt::format("\x1b[{}A", painted_);
    for (std::string& line : lines) {
      if (line.size() > width) line = line.substr(0, width);
      out += "\r\x1b[K" + line + "\n";
    }
    out += "\x1b[J";
    painted_ = lines.size();
    run_.out(out);
  }

  Run& run_;
  const WaitOptions& options_;
  Signals& signals_;
  LeaderWatch leader_{run_};
  std::vector<std::string> order_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> node_names_;
  std::map<std::string, bool> told_;
  std::unique_ptr<Stream<v1::WatchResponse>> stream_;
  int64_t relist_at_ = 0;
  bool too_old_ = false;
  int losses_ = 0;
  size_t painted_ = 0;
};

}  // namespace

void WaitOptions::declare(Flags& flags) {
  flags.toggle("detach,d", &detach, "do not wait for the service to converge");
  flags.toggle("quiet,q", &quiet, "show no progress");
  flags.value("monitor", &monitor, "DURATION",
              "time tasks have to stay up (default: the update monitor, 5s)");
}

Status WaitOptions::check() const {
  if (monitor && !parse_duration_ns(*monitor))
    return usage_error(fmt::format("invalid argument \"{}\" for \"--monitor\" flag", *monitor));
  return ok_status();
}

Result<int> wait_for_services(Run& run, const std::vector<v1::Service>& services,
                              const WaitOptions& options, Signals& signals) {
  if (services.empty()) return 0;
  Waiter waiter(run, options, signals);
  return waiter.wait(services);
}

}  // namespace muster::deploy::cli
