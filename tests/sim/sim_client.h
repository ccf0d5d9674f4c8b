#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "base/status.h"
#include "manager/control/control_api.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

// A user who does one thing after the other, repeats what has no certain answer under the same
// request id, and keeps a book of what the manager said it did.
class SimClient {
 public:
  // The API of the manager that lives; null while none does.
  using Api = std::function<manager::control::ControlApi*()>;

  struct Deps {
    SimWorld& world;
    Rng& rng;
    Api api;
    const std::vector<std::string>& node_ids;  // of the hosts
    int services = 8;
    Probes& probes;
    std::function<void(std::string)> broken;
    std::function<void(std::string)> trace;
  };
  explicit SimClient(Deps deps);

  bool idle() const { return !attempt_; }
  uint64_t operations() const { return operations_; }
  // Begins something at random. Only when idle.
  void act();
  // Begins the removal of something that is left; false when there is nothing.
  bool clean_up_one();
  // For the checks at the end. Only when idle.
  void create(v1::ServiceSpec spec);

  // By name, as the manager confirmed them.
  const std::map<std::string, v1::ServiceSpec>& services() const { return services_; }
  // Secrets and configs by name, with their payloads, as the manager confirmed them.
  const std::map<std::string, std::string>& secrets() const { return secrets_; }
  const std::map<std::string, std::string>& configs() const { return configs_; }
  // Services that had a start-first update at any time.
  bool ever_start_first(const std::string& name) const;

  // Begins making a node active, where it is not; false when all of them are.
  bool heal_one(const std::vector<std::string>& node_ids);

 private:
  // One operation: `make` builds the request from the state of then (nothing: give it up), `done`
  // books it. `never` is an answer that would mean that a repetition was done twice, or that the
  // book is wrong.
  template <class Request, class Response>
  using Method = void (manager::control::ControlApi::*)(const manager::control::Principal&,
                                                        const Request&,
                                                        manager::control::Callback<Response>);
  template <class Request, class Response>
  void run(Method<Request, Response> method,
           std::function<std::optional<Request>(const manager::control::ControlApi&)> make,
           std::function<void(const Request&)> done, StatusCode never);
  void answered(uint64_t number, const Status& status, StatusCode never,
                const std::function<void()>& done);
  void again(uint64_t number, Duration delay);
  void try_now();

  v1::ServiceSpec random_spec(const std::string& name);
  void update(const std::string& name, std::function<void(v1::ServiceSpec&)> change);
  void remove(const std::string& name);
  void change_node(const std::string& id, std::function<void(v1::NodeSpec&)> change);
  void make_network(const std::string& name);
  void remove_network(const std::string& name);
  void grow_network(const std::string& name);
  // Some task enters a network while it runs, or leaves one it was connected to.
  void connect_task(const std::string& network);
  void disconnect_task();
  void make_secret(const std::string& name);
  void remove_secret(const std::string& name);
  void make_config(const std::string& name);
  void remove_config(const std::string& name);
  void change_payloads();
  void add_references(v1::ContainerSpec& container);
  void add_container_matters(v1::ServiceSpec& spec);

  Deps deps_;
  Rng& rng_;
  Api api_;
  std::function<void(std::string)> broken_;
  SimExecutor strand_;
  bool uncertain_ = false;  // of what is under way, an earlier try has no certain answer
  manager::control::Principal user_;
  std::function<void()> attempt_;
  uint64_t attempt_number_ = 0;
  uint64_t operations_ = 0;
  std::map<std::string, v1::ServiceSpec> services_;
  std::set<std::string> networks_;
  std::map<std::string, std::string> secrets_;
  std::map<std::string, std::string> configs_;
  std::set<std::string> start_first_;
};

}  // namespace muster::sim
