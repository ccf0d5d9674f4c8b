#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "manager/store/snapshot.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::dispatcher {

// What one session has been told of its node's tasks; the first feed of every session starts from
// an empty one.
struct SentTasks {
  std::set<std::string, std::less<>> tasks;
  std::set<std::string, std::less<>> revisions;
};

// Whether a node is to know of the task at all: from its assignment until its deletion.
bool is_assigned(const v1::Task& task);

// Whether a change of an assigned task concerns its agent. What the agent itself reported (status,
// endpoint state) does not; how the managers see it out of its networks does.
bool concerns_agent(const v1::Task& before, const v1::Task& after);

// Adds the task, its revision if not yet sent, and the networks it attaches to.
void add_task(const store::Snapshot& view, const v1::Task& task, SentTasks& sent,
              v1::FeedUpdate& step);
void add_removal(std::string_view task_id, SentTasks& sent, v1::FeedUpdate& step);

// The whole feed of a node; `sent` becomes what it holds.
v1::FeedUpdate complete_task_feed(const store::Snapshot& view, std::string_view node_id,
                                  SentTasks& sent);

}  // namespace muster::manager::dispatcher
