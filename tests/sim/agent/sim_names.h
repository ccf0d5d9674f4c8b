#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "agent/names/name_server.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's resolver: what it was told, and what of it is in force. It outlives musterd, as netd
// does.
class SimNames final : public agent::NameServer {
 public:
  explicit SimNames(SimMachine& machine) : machine_(machine) {}

  void begin(const std::string&) override {
    if (!machine_.process.effect()) return;
    told_ = {};
    serving_ = false;
  }
  void serve() override {
    if (!machine_.process.effect()) return;
    serving_ = true;
    serves_.resolvers = told_.resolvers;
    tasks_changed();
  }
  Status attach(const v1::NetdContainer& container) override {
    if (!machine_.step(3ms)) return process_is_dead();
    told_.resolvers.insert(container.id());
    serves_.resolvers.insert(container.id());
    return {};
  }
  void adopt(const v1::NetdContainer& container) override {
    if (machine_.process.effect()) told_.resolvers.insert(container.id());
  }
  void detach(const std::string& container_id) override {
    if (!machine_.process.effect()) return;
    told_.resolvers.erase(container_id);
    serves_.resolvers.erase(container_id);
  }
  void set_task(const v1::LocalTask& task) override {
    if (!machine_.process.effect()) return;
    const std::string& id = task.assignment().task().id();
    if (task.endpoint_state() == v1::ENDPOINT_READY) {
      told_.tasks.insert(id);
    } else {
      told_.tasks.erase(id);
    }
    tasks_changed();
  }
  void forget_task(const std::string& task_id) override {
    if (!machine_.process.effect()) return;
    told_.tasks.erase(task_id);
    tasks_changed();
  }
  void apply(const overlay::NetworkStep&) override {}
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    const TimePoint now = machine_.world.now();
    strand.after(std::max(in_force_, now) - now, std::move(next));
  }

  // Whether a name leads to the task.
  bool leads_to(const std::string& task_id) const { return serves_.tasks.contains(task_id); }
  const std::set<std::string>& resolvers() const { return serves_.resolvers; }
  // What it had not yet said does not arrive.
  void process_ended() { ++life_; }
  void power_off() { told_ = serves_ = {}; }

 private:
  struct Table {
    std::set<std::string> resolvers;  // containers
    std::set<std::string> tasks;      // whose names lead to them
  };

  // Arrives a little later, in order.
  void tasks_changed() {
    if (!serving_) return;
    const TimePoint now = machine_.world.now();
    in_force_ = std::max(in_force_, now + machine_.up_to(3ms));
    machine_.strand.after(in_force_ - now, [this, life = life_, tasks = told_.tasks]() mutable {
      if (life == life_) serves_.tasks = std::move(tasks);
    });
  }

  SimMachine& machine_;
  uint64_t life_ = 0;
  bool serving_ = false;
  TimePoint in_force_;  // all that was said so far
  Table told_;
  Table serves_;
};

}  // namespace muster::sim
