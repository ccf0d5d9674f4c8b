#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/dataplane/container/attach_plan.h"
#include "overlay/dataplane/container/change_watch.h"
#include "overlay/dataplane/container/inside_state.h"
#include "overlay/dataplane/kernel/namespaces.h"

namespace muster::overlay {

// Looks after what this node has made inside of its containers: addresses, the default route, and a
// mesh task's rules, routes and gateways. (Virtual addresses are ClientBalancers'.) A container
// with NET_ADMIN may have set its interface down or taken it away: that is let be, and told once;
// so is a default route of its own.
//
// What each was given is in a file, <records>/<container id> (inside_record.h), so that a process
// that finds it running knows what is missing. Not synced: containers end with the host.
//
// A look at a container in which nothing has changed is one system call; else its namespace is
// entered and listed, by six requests. Thread-safe; repair() blocks the others.
class ContainerUpkeep {
 public:
  // `records`: a directory for the files.
  ContainerUpkeep(const NamespaceDir& pins, std::string records, Log log)
      : pins_(pins), records_(std::move(records)), log_(std::move(log)) {}

  // Makes the directory, and removes records of others than these. Before anything else.
  Status open(const std::vector<std::string>& container_ids);
  // Removes the directory, once all are detached.
  Status remove_directory();

  // A container as it was made by this plan. One of that name is forgotten.
  Status attach(const std::string& container_id, const AttachPlan& plan);
  // One found after a restart. What it lacks of what was made is put back at once; the next
  // repair() says what that was. Without a record of it (a former version made it) what it has of
  // ours is what it is to have.
  Status adopt(const std::string& container_id);
  void detach(const std::string& container_id);

  // It enters and leaves networks: until changed() nothing of it is missed.
  void begin_change(const std::string& container_id);
  // `made`: the links that it has got, or had and keeps. `left`: names of interfaces that went.
  // `way_left`: so did the way to its node.
  Status changed(const std::string& container_id, const AttachPlan& made,
                 const std::vector<std::string>& left, bool way_left);

  // Compares what changed, mends it, and adds a sentence to `said` for each difference.
  void repair(std::vector<std::string>& said);

 private:
  struct Kept {
    ChangeWatch watch;
    InsideState wanted;
    bool changing = false;
    bool behind = true;  // to be looked at in any case
    std::string told;    // of interfaces that are left as they are, or of what failed
  };

  std::string record_path(const std::string& container_id) const {
    return records_ + "/" + container_id;
  }
  void save(const std::string& container_id, const InsideState& wanted, bool changing);
  Status adopt_here(const std::string& container_id, Kept& kept, std::vector<std::string>& said);
  Status mend(const std::string& container_id, Kept& kept, const InsideState& now,
              NetlinkSocket& socket, std::vector<std::string>& said);
  Status look(const std::string& container_id, Kept& kept, std::vector<std::string>& said);
  void tell(const std::string& container_id, Kept& kept, const std::string& sentence);

  const NamespaceDir& pins_;
  const std::string records_;
  Log log_;
  std::mutex mutex_;
  std::map<std::string, Kept> kept_;  // by container id
  std::vector<std::string> adopted_;  // what was put back since the last repair()
};

}  // namespace muster::overlay
