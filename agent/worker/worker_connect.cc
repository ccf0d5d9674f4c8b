// The worker's part in networks that a container enters and leaves while it runs.
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>

#include "agent/worker/worker.h"
#include "agent/worker/worker_entry.h"

namespace muster::agent {
namespace {

// After a failure: the kernel has no memory, or somebody else has the name.
constexpr Duration kReconnectRetry = 5s;

template <class Repeated>
bool same(const Repeated& a, const Repeated& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return google::protobuf::util::MessageDifferencer::Equals(x, y);
  });
}

constexpr const char* kNotConnected = "started; its networks are not as they should be: ";

}  // namespace

// Into the record first: a successor carries out what this process does not.
void Worker::networks_assigned(Entry& entry, const v1::TaskAssignment& assignment) {
  v1::TaskAssignment& known = *entry.machine.mutable_task().mutable_assignment();
  const v1::Task& task = assignment.task();
  if (entry.machine.ended() || same(known.task().networks(), task.networks())) return;
  const auto& now = task.networks();
  for (const v1::NetworkAttachment& was : known.task().networks()) {
    const bool stays = std::any_of(now.begin(), now.end(), [&](const auto& attachment) {
      return attachment.network_id() == was.network_id();
    });
    entry.leaving = entry.leaving || !stays;
  }
  *known.mutable_task()->mutable_networks() = task.networks();
  *known.mutable_task()->mutable_connected() = task.connected();
  *known.mutable_networks() = assignment.networks();
  save(entry);
  reconnect(entry);
}

void Worker::reconnect(Entry& entry) {
  // One that is not made yet is made with all of them.
  if (entry.machine.ended() || !entry.machine.task().started()) return;
  if (entry.reconnecting) {
    entry.reconnect_again = true;
    return;
  }
  entry.reconnecting = true;
  deps_.strand.cancel(std::exchange(entry.reconnect_timer, 0));
  deps_.step_pool.post([this, self = self_, strand = &deps_.strand, steps = steps_,
                        task = entry.machine.task(), mesh = options_.mesh]() mutable {
    bool left = false;
    const Status status = steps.reconnect(task, mesh, &left);
    strand->post([this, self, id = task.assignment().task().id(), status, left] {
      if (*self != nullptr) reconnected(id, status, left);
    });
  });
}

void Worker::reconnected(const Id& task_id, const Status& status, bool left) {
  Entry* entry = find(task_id);
  if (entry == nullptr) return;
  entry->reconnecting = false;
  if (std::exchange(entry->clean_up_waits, false)) {
    tell_tasks_applied();
    return clean_up_now(*entry);
  }
  if (entry->machine.ended()) return tell_tasks_applied();
  const bool again = std::exchange(entry->reconnect_again, false);
  if (left && !again) entry->leaving = false;
  const bool news = std::exchange(entry->reconnect_said, status.message()) != status.message();
  if (status.ok()) {
    if (entry->machine.task().status().message().starts_with(kNotConnected)) {
      run(*entry, entry->machine.note("started", now()));
    }
    names_changed(*entry);
  } else {
    if (news) {
      deps_.log->error("networks of container {}: {}", entry->machine.task().container_id(),
                       status.message());
      run(*entry, entry->machine.note(kNotConnected + status.message(), now()));
    }
    if (!again) {
      entry->reconnect_timer = deps_.strand.after(kReconnectRetry, [this, task_id] {
        Entry* found = find(task_id);
        if (found == nullptr) return;
        found->reconnect_timer = 0;
        reconnect(*found);
      });
    }
  }
  if (again) reconnect(*entry);
  tell_tasks_applied();
}

// Who has left a network has left it in the kernel, or others get its address too early. Who cannot
// enter one keeps nobody waiting after the first try.
void Worker::tell_tasks_applied() {
  if (!tasks_unsaid_) return;
  const bool changing = std::any_of(entries_.begin(), entries_.end(), [](const auto& item) {
    const Entry& entry = *item.second;
    if (entry.leaving && (entry.reconnecting || entry.reconnect_timer != 0)) return true;
    return entry.reconnecting && entry.reconnect_said.empty();
  });
  if (changing) return;
  v1::FeedId feed;
  feed.set_kind(v1::FeedId::TASKS);
  const uint64_t version = *std::exchange(tasks_unsaid_, std::nullopt);
  if (deps_.applied) deps_.applied(feed, version);
}

// A former process may have died in the middle.
void Worker::adopt_networks() {
  for (const auto& [id, entry] : entries_) {
    const v1::LocalTask& task = entry->machine.task();
    if (entry->machine.ended()) continue;
    if (task.assignment().task().connected().empty() &&
        !steps_.was_reconnected(task.container_id())) {
      continue;
    }
    entry->leaving = true;  // it may not be out of all that it was in
    reconnect(*entry);
  }
}

}  // namespace muster::agent
