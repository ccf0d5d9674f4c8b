#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's containers. They outlive musterd and not the host.
class SimRuntime final : public agent::Runtime {
 public:
  struct Container {
    agent::ContainerRequest request;
    agent::ContainerState state;
    bool stubborn = false;           // ends only by SIGKILL
    std::optional<TimePoint> ill;    // from then on its health checks fail
    bool seen_ill = false;           // by one of them
    std::optional<TimePoint> asked;  // to end, first
    std::function<void(agent::ContainerExit)> exited;

    bool runs() const { return state.phase == agent::ContainerState::Phase::kRunning; }
    const std::string& task_id() const { return request.task_id.str(); }
    Duration grace() const;
  };
  struct Events {
    std::function<void(const Container&)> started;
    std::function<void(const Container&)> ended;
    // musterd sends it a signal, or removes it while it runs (0).
    std::function<void(const Container&, int signal)> signalled;
  };

  SimRuntime(SimMachine& machine, Events events) : machine_(machine), events_(std::move(events)) {}

  agent::RuntimeInfo info() const override { return {}; }
  Result<agent::ContainerState> start(const agent::ContainerRequest& request) override;
  Status watch_exit(const std::string& id, const std::string&,
                    std::function<void(agent::ContainerExit)> exited) override;
  Result<agent::ContainerState> inspect(const std::string& id, const std::string&) override;
  Status kill(const std::string& id, int signal) override;
  Status remove(const std::string& id, const std::string&) override;
  Result<std::vector<std::string>> list() override;

  const std::map<std::string, Container>& containers() const { return containers_; }
  // A health check's command begins in it: whether it will fail; nothing when it does not run.
  std::optional<bool> probe(const std::string& id);
  // Its process ends after a while, by itself.
  void end_after(const std::string& id, Duration d, int exit_code);
  // Nobody is told of an end any more.
  void process_ended();
  void power_off();

 private:
  void run(Container& c);
  void end(const std::string& id, int exit_code);

  SimMachine& machine_;
  Events events_;
  std::map<std::string, Container> containers_;
  int64_t pids_ = 100;
};

}  // namespace muster::sim
