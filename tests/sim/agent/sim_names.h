#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "agent/names/name_book.h"
#include "agent/names/name_server.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's resolver: what it was told, and what of it is in force. It outlives musterd, as netd
// does.
class SimNames final : public agent::NameServer {
 public:
  explicit SimNames(SimMachine& machine) : machine_(machine) {}

  void begin(const std::string& node_id) override {
    if (!machine_.process.effect()) return;
    told_ = {};
    book_ = agent::NameBook(node_id, true);
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
    book_.set_task(task);
    tasks_changed();
  }
  void forget_task(const std::string& task_id) override {
    if (!machine_.process.effect()) return;
    book_.remove_task(task_id);
    tasks_changed();
  }
  void apply(const overlay::NetworkStep& step) override {
    if (!machine_.process.effect()) return;
    book_.apply(step);
    tasks_changed();
  }
  void forget_network(const std::string& network_id) override {
    if (!machine_.process.effect()) return;
    book_.forget_network(network_id);
    tasks_changed();
  }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    const TimePoint now = machine_.world.now();
    strand.after(std::max(in_force_, now) - now, std::move(next));
  }

  // Whether a name leads to the task.
  bool leads_to(const std::string& task_id) const {
    return std::any_of(serves_.ready.begin(), serves_.ready.end(),
                       [&](const auto& item) { return item.second == task_id; });
  }
  const std::set<std::string>& resolvers() const { return serves_.resolvers; }
  // What it had not yet said does not arrive.
  void process_ended() { ++life_; }
  void power_off() { told_ = serves_ = {}; }

 private:
  struct Table {
    std::set<std::string> resolvers;           // containers
    std::map<std::string, std::string> ready;  // tasks that names lead to, by the record's key
  };

  // Arrives a little later, in order.
  void tasks_changed() {
    const v1::NetdUpdate news = book_.increment();
    for (const auto& record : news.records()) {
      if (!record.has_endpoint()) continue;
      told_.ready.erase(record.key());
      if (record.endpoint().ready()) told_.ready[record.key()] = record.endpoint().task_id();
    }
    for (const auto& key : news.removed_keys()) told_.ready.erase(key);
    if (!serving_) return;
    const TimePoint now = machine_.world.now();
    in_force_ = std::max(in_force_, now + machine_.up_to(3ms));
    machine_.strand.after(in_force_ - now, [this, life = life_, ready = told_.ready]() mutable {
      if (life == life_) serves_.ready = std::move(ready);
    });
  }

  SimMachine& machine_;
  uint64_t life_ = 0;
  bool serving_ = false;
  TimePoint in_force_;  // all that was said so far
  agent::NameBook book_;
  Table told_;
  Table serves_;
};

}  // namespace muster::sim
