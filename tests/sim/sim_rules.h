#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/sim_pace.h"
#include "tests/sim/sim_state_rules.h"

namespace muster::sim {

using Hosts = std::vector<std::unique_ptr<SimHost>>;

// What must hold in a simulated cluster; each says in words what does not.
class SimRules {
 public:
  SimRules(SimWorld& world, const Hosts& hosts, const SimClient& client,
           std::function<void(std::string)> broken)
      : world_(world),
        hosts_(hosts),
        client_(client),
        broken_(broken),
        pace_(broken),
        placement_(world, std::move(broken)) {}

  // After every commit.
  void on_commit(const manager::store::CommitEvent& event);
  // When the leader's dispatcher hears of a node.
  void on_heard(const std::string& node_id) { placement_.heard(node_id); }
  // Whether a host may have this secret or config.
  bool entitled(const SimHost& host, const std::string& payload_id) const {
    return placement_.entitled(host.id(), payload_id);
  }
  // When a container starts on a host.
  void on_start(const SimHost& host, const SimHost::Container& container,
                const manager::store::Snapshot& state);
  // When a container is told to end that is not ill. `served`: whether the leader has a session of
  // a node that is in a network, or reckons with one.
  using Served = std::function<bool(const std::string& node_id, const std::string& network_id)>;
  void on_stop(const SimHost& host, const SimHost::Container& container,
               const Served& served) const;
  // When the kernel of a host leads no more to a task that is still in a network.
  void on_passed_by(const SimHost& host, const std::string& network_id,
                    const std::string& task_id) const;
  // When a published port of a host leads nowhere any more.
  void on_port_closed(const SimHost& host, const overlay::PublishedPort& port) const;
  // When everything had time to settle.
  Status check_settled(const manager::store::Snapshot& state) const;
  // When everything was removed and had time to go.
  Status check_empty(const manager::store::Snapshot& state) const;

  void clocks_differ() {
    pace_.clocks_differ();
    clocks_differ_ = true;
  }

 private:
  // A task on its way out of its networks.
  struct Leaving {
    TimePoint since;
    std::map<std::string, uint64_t> sessions;  // of hosts that had one then, the how manieth
    // Tasks of its service that were READY then, and where.
    std::map<std::string, std::set<std::string>> others;
  };
  // Of a task that is let go and not ill, while it is not long ago and the host had a session all
  // the while; else null.
  const Leaving* lets_go(const SimHost& host, const std::string& task_id) const;
  // A task elsewhere that was READY when that began, and is: it could be led to.
  manager::store::Ptr<v1::Task> takes_its_place(const SimHost& host, const Leaving& leaving,
                                                const std::string& network_id) const;
  void note_leaving(const manager::store::CommitEvent& event);
  void note_keys(const manager::store::CommitEvent& event);
  void check_key_use(const manager::store::Snapshot& state, const v1::NetworkKey& key) const;
  Status check_keys(const manager::store::Snapshot& state, const SimHost& host) const;
  void check_slot(const manager::store::Snapshot& state, const v1::Task& task);
  void check_job(const manager::store::Snapshot& state, const v1::Task& task, bool fresh);
  void check_job_start(const SimHost& host, const SimHost::Container& container,
                       const manager::store::Snapshot& state) const;
  Status check_job_settled(const manager::store::Snapshot& state, const v1::Service& service) const;
  bool may_overlap(const SimHost& host, const SimHost::Container& other,
                   const manager::store::Snapshot& state) const;
  bool was_lost(const SimHost& host, const v1::Task& task,
                const manager::store::Snapshot& state) const;
  Status check_services(const manager::store::Snapshot& state) const;
  Status check_slots(const manager::store::Snapshot& state, const v1::Service& service) const;
  Status check_homes(const manager::store::Snapshot& state, const v1::Service& service) const;
  Status check_host(const manager::store::Snapshot& state, const SimHost& host) const;
  Status check_members(const manager::store::Snapshot& state, const SimHost& host) const;
  Status check_routes(const manager::store::Snapshot& state, const SimHost& host) const;
  Status check_attachments(const manager::store::Snapshot& state, const SimHost& host) const;
  Status check_route(const manager::store::Snapshot& state, const v1::Network& network,
                     const SimHost& host) const;
  Status check_revisions(const manager::store::Snapshot& state) const;
  void check_addresses(const v1::Task& task, const v1::Task& other) const;
  void check_files(const SimHost& host, const SimHost::Container& container,
                   const manager::store::Snapshot& state);
  Status check_payloads(const manager::store::Snapshot& state) const;
  Status check_host_payloads(const manager::store::Snapshot& state, const SimHost& host) const;

  SimWorld& world_;
  const Hosts& hosts_;
  const SimClient& client_;
  std::function<void(std::string)> broken_;
  bool clocks_differ_ = false;
  manager::store::Snapshot before_;  // the state of the last commit
  SimPace pace_;
  SimStateRules placement_;
  std::map<std::string, int64_t> last_down_ns_;  // wall time, by node
  std::map<std::string, Leaving> leaving_;       // by task
  Leaving key_made_;                             // the newest key of encrypted networks
  // What services went back to by themselves when an update failed, by name.
  std::map<std::string, v1::ServiceSpec> rolled_back_to_;
};

}  // namespace muster::sim
