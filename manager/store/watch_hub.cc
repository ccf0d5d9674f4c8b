#include "manager/store/watch_hub.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

#include "manager/store/state.h"

namespace muster::manager::store {

using Link = Store::Subscription::Link;

namespace {

// Payloads are not kept in memory for the sake of watchers that may resume.
std::shared_ptr<const std::vector<AnyChange>> without_blobs(
    const std::shared_ptr<const std::vector<AnyChange>>& changes) {
  const auto is_blob = [](const AnyChange& change) {
    return std::holds_alternative<Change<v1::Blob>>(change);
  };
  if (std::none_of(changes->begin(), changes->end(), is_blob)) return changes;
  auto kept = std::make_shared<std::vector<AnyChange>>();
  std::remove_copy_if(changes->begin(), changes->end(), std::back_inserter(*kept), is_blob);
  return kept;
}

Duration retention(const Snapshot& state) {
  const auto cluster = state.cluster();
  const int64_t wanted = cluster == nullptr ? 0 : cluster->spec().event_retention_ns();
  return wanted > 0 ? Duration(wanted) : Store::kHistoryKept;
}

}  // namespace

void WatchHub::publish(const CommitEvent& event) {
  history_.push_back({event.version, event.time, without_blobs(event.changes)});
  history_changes_ += history_.back().changes->size();
  const WallTime oldest = event.time - retention(event.after);
  while (history_.size() > Store::kHistoryCommitsMax || history_changes_ > kHistoryChangesMax ||
         (!history_.empty() && history_.front().time < oldest)) {
    history_base_ = history_.front().version;
    base_time_ = history_.front().time;
    history_changes_ -= history_.front().changes->size();
    history_.pop_front();
  }
  std::erase_if(links_, [](const auto& link) { return !link->active; });
  // Watchers may subscribe and unsubscribe from inside.
  const std::vector<std::shared_ptr<Link>> links = links_;
  for (const auto& link : links) {
    if (link->backlog.empty()) {
      link->deliver(event);
    } else {
      link->backlog.push_back(event);
    }
  }
}

void WatchHub::reset(uint64_t version) {
  history_.clear();
  history_changes_ = 0;
  history_base_ = version;
  base_time_ = WallTime{INT64_MAX};  // nobody knows when the last of them was
}

// From the newest back: clocks of successive leaders may differ, and what is wanted then is
// everything after the last commit that is surely older.
Store::HistoryStart WatchHub::since(WallTime time) const {
  for (auto past = history_.rbegin(); past != history_.rend(); ++past) {
    if (past->time < time) return {past->version, true};
  }
  return {history_base_, history_base_ == 0 || base_time_ < time};
}

Result<std::shared_ptr<Link>> WatchHub::watch(uint64_t after_version, const Snapshot& present,
                                              UniqueFunction<void(const CommitEvent&)> watcher) {
  if (after_version < history_base_) {
    return fail(StatusCode::kOutOfRange,
                fmt::format("changes after version {} are no longer kept (oldest is {})",
                            after_version, history_base_),
                "history-gone");
  }
  if (after_version > present.version()) {
    // Of another cluster's life: waiting for its versions would miss everything until then.
    return fail(StatusCode::kOutOfRange,
                fmt::format("version {} is not reached yet (the store is at {})", after_version,
                            present.version()),
                "history-gone");
  }
  auto link = std::make_shared<Link>();
  link->watcher = std::move(watcher);
  link->after_version = after_version;
  link->backlog = rebuild(after_version, present);
  if (!link->backlog.empty()) {
    strand_.post([link] {
      while (link->active && !link->backlog.empty()) {
        // Stays in the queue while delivered, so that a commit meanwhile lines up behind.
        const CommitEvent event = link->backlog.front();
        link->deliver(event);
        link->backlog.pop_front();
      }
    });
  }
  links_.push_back(link);
  return link;
}

std::deque<CommitEvent> WatchHub::rebuild(uint64_t after_version, const Snapshot& present) const {
  std::deque<CommitEvent> events;
  Snapshot state = present;
  for (auto past = history_.rbegin(); past != history_.rend(); ++past) {
    if (past->version <= after_version) break;
    events.push_front({past->version, past->time, past->changes, state});
    const auto next = std::next(past);
    if (next == history_.rend() || next->version <= after_version) break;
    auto earlier = std::make_shared<State>(*state.state());
    const uint64_t token = next_edit_token();
    for (auto change = past->changes->rbegin(); change != past->changes->rend(); ++change) {
      earlier->undo(token, *change);
    }
    earlier->version = next->version;
    state = Snapshot(std::move(earlier));
  }
  return events;
}

}  // namespace muster::manager::store
