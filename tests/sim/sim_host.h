#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/secrets/payloads.h"
#include "agent/session/session.h"
#include "base/rng.h"
#include "base/sim_executor.h"
#include "tests/sim/sim_network.h"

namespace muster::sim {

// A node: containers that outlive its agent, and an agent (the real session, a small task worker)
// that comes and goes. Its disk, which is `tasks()`, survives everything.
class SimHost {
 public:
  struct Container {
    v1::Task task;  // as last told
    v1::TaskState state = v1::TASK_ASSIGNED;
    std::string error;
    bool removed = false;  // not assigned any more: to be stopped, then forgotten
    bool alive = false;    // the container runs, whatever anybody knows
    // What it was prepared with, by id. In memory: a container keeps it, the host's reboot loses
    // it.
    agent::PayloadSet payloads;
    std::optional<int> exit_code;
    std::optional<TimePoint> stops_at;
    std::optional<TimePoint> ends_at;  // of a job: by itself
    std::optional<TimePoint> told_to_stop;
  };
  struct Deps {
    SimWorld& world;
    SimNetwork& network;
    Rng& rng;
    const bool& faults;  // whether containers and preparations fail
    std::function<void(const SimHost&, const Container&)> on_start;  // a container starts
    // Whether the host may have this secret or config (M7).
    std::function<bool(const SimHost&, const std::string& payload_id)> entitled;
    std::function<void(std::string)> broken;  // a rule was broken
  };

  SimHost(Deps deps, std::string id);
  ~SimHost();

  const std::string& id() const { return id_; }
  const std::map<std::string, Container>& tasks() const { return tasks_; }
  bool agent_up() const { return agent_ != nullptr; }
  bool established() const { return agent_ != nullptr && agent_->session.established(); }
  // What the network feeds say is in a network; by network, tasks.
  const std::map<std::string, std::set<std::string>>& members() const { return members_; }

  // Secrets and configs the agent holds.
  const agent::Payloads& payloads() const { return payloads_; }

  void start_agent();
  void kill_agent();                  // kill -9: containers go on
  void restart_agent(Duration away);  // orderly, with a goodbye
  void reboot();                      // containers and agent end
  // What the host has from now on; its agent says so at once, or when it comes back.
  void resize(int64_t memory_bytes);
  // Lets a random container end by itself, whether the agent lives or not.
  void end_a_container();

 private:
  struct Agent final : agent::FeedSink, agent::LinkFactory {
    explicit Agent(SimHost& host);
    void apply(const v1::FeedUpdate& step) override { host.apply(step); }
    void node_removed(const std::string& why) override { host.deps_.broken("removed: " + why); }
    std::unique_ptr<agent::ManagerLink> open(const std::string&,
                                             agent::LinkEvents events) override {
      return host.deps_.network.open(host.id_, strand, std::move(events));
    }
    SimHost& host;
    SimExecutor strand;
    agent::Session session;
  };

  void apply(const v1::FeedUpdate& step);
  void apply_tasks(const v1::FeedUpdate& step);
  void apply_network(const v1::FeedUpdate& step);
  void apply_secrets(const v1::FeedUpdate& step);
  bool take_payloads(Container& container);
  void tick();
  void work(Container& container);
  void stop(Container& container);
  void move(Container& container, v1::TaskState state, std::string error = {});
  void report(const Container& container);
  bool chance(uint64_t one_in) { return deps_.faults && deps_.rng.below(one_in) == 0; }

  Deps deps_;
  const std::string id_;
  SimExecutor strand_;  // the host's own, for what happens without an agent
  int64_t memory_bytes_ = 1 << 30;
  std::unique_ptr<Agent> agent_;
  std::map<std::string, Container> tasks_;
  std::map<std::string, v1::Revision> revisions_;
  agent::Payloads payloads_;
  std::map<std::string, std::set<std::string>> members_;
};

}  // namespace muster::sim
