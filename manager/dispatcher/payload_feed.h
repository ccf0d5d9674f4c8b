#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "manager/store/snapshot.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::dispatcher {

// Whether a task entitles its node to the secrets and configs it refers to: from its assignment
// until it has ended or is to be stopped.
bool entitles(const v1::Task& task);

// Whether the task's revision refers to any. False when the revision is not there (any more).
bool refers_to_payloads(const store::Snapshot& view, const v1::Task& task);

// The SECRETS feed of one session: exactly the secrets and configs that the node's entitling tasks
// refer to. Pure: told what the state is, says what to send.
//
// One step is under way at a time and holds about kStepBytes, however many payloads a node needs,
// so that they neither fill the session's queue nor stand before everything else for long; the
// agent's acknowledgement asks for the next one. Steps are numbered by the session itself.
class PayloadFeed {
 public:
  static constexpr size_t kStepBytes = 1 << 20;

  // Works out what the node is to have.
  void refresh(const store::Snapshot& view, std::string_view node_id);
  // The step to send now, if any; the first one is complete, even when it is empty. What is not in
  // the view (removed meanwhile) is left out.
  std::optional<v1::FeedUpdate> next(const store::Snapshot& view);
  void acknowledged(uint64_t version);

  // Whether the node has, or is to have, anything; or this.
  bool empty() const { return wanted_.empty() && sent_.empty(); }
  bool concerns(const std::string& id) const { return wanted_.contains(id) || sent_.contains(id); }

 private:
  enum class Kind { kSecret, kConfig };

  size_t add(const store::Snapshot& view, const std::string& id, Kind kind, v1::FeedUpdate& step);

  std::map<std::string, Kind> wanted_;  // by id
  std::set<std::string> sent_;
  uint64_t version_ = 0;  // of the last step sent
  uint64_t acknowledged_ = 0;
};

}  // namespace muster::manager::dispatcher
