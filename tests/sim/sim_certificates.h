#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/sim/sim_guest.h"
#include "tests/sim/sim_handshakes.h"
#include "tests/sim/sim_identity.h"
#include "tests/sim/sim_local_clock.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_openssl.h"
#include "tests/sim/sim_options.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

class ManagerLife;
class SimGroup;

// What a swarm of the simulator begins with, when its nodes have certificates.
struct SimSwarm {
  v1::RootCa root_ca;
  Duration certificate_life{0};
  v1::Node founder;
};

// Certificates and tokens of a whole cluster: each node joins with a token, through the CA that the
// leader runs (manager/ca), and keeps its certificate good by itself (deploy/daemon/node_identity).
// A user rotates tokens and the root, lets in guests and removes them. Keys, signatures and
// handshakes are real; their random numbers come from the seed.
//
// Checked are C1 to C5 of tests/sim/README.md.
class SimCertificates {
 public:
  struct Deps {
    SimWorld& world;
    SimNetwork& network;
    Troubles troubles;
    Probes& probes;
    std::function<void(std::string)> broken;
    std::function<void(std::string)> trace;
  };
  SimCertificates(uint64_t seed, Deps deps);
  ~SimCertificates();

  // ------------------------------------------------------------ who there is
  // A host with an agent of its own (SimHost); `start` and `kill` are its agent's.
  SimIdentity& add_host(const std::string& name, std::function<void()> start,
                        std::function<void()> kill);
  // The first one founds.
  SimIdentity& add_manager(const std::string& name, const LocalClock& clock);
  void attach(SimGroup& group) { group_ = &group; }
  const SimSwarm& swarm() const { return swarm_; }

  // ------------------------------------------------------------ the run
  void begin();
  // A manager's machine: its process ends and comes back.
  void manager_down(const std::string& node_id);
  void manager_up(const std::string& node_id);
  // Something that a user does, or that befalls a guest, or that an intruder tries.
  void disturb();
  // Peace: nobody is away, and no clock is wrong.
  void heal();
  void on_commit(const manager::store::CommitEvent& event);
  // Nobody is behind, locked out or forgotten. At the end.
  Status check_end();

  // ------------------------------------------------------------ connections
  // An agent connects to the manager that serves; whether as a manager's.
  Result<bool> admit_session(const std::string& node_id);
  // It is welcome there.
  void welcomed(const std::string& node_id);
  // Whether the log's connection from one to the other comes about.
  bool admit_lane(const std::string& from, const std::string& to);
  // Whether the manager calls the one that leads, and may.
  Status admit_call(const std::string& node_id, std::string_view method);
  SimIdentity* find(const std::string& node_id);

 private:
  struct Machine {
    Machine(const SimWorld& world, std::string the_name, v1::NodeSpec::Role the_role)
        : clock(world), name(std::move(the_name)), role(the_role) {}
    void make_identity(SimIdentity::Deps deps) {
      identity = std::make_unique<SimIdentity>(std::move(deps), name, role);
    }

    LocalClock clock;  // of hosts and guests; a manager has its own
    const std::string name;
    const v1::NodeSpec::Role role;
    std::unique_ptr<SimIdentity> identity;
    std::unique_ptr<SimGuest> guest;  // null: a host
    std::function<void()> start;
    std::function<void()> kill;
    bool visitor = false;  // may be removed
    bool gone = false;     // was, and has heard it
    bool away = false;
    std::optional<TimePoint> good_since;
    std::optional<TimePoint> early_since;  // its certificate is not valid yet
  };
  struct Call;
  // What somebody might try later with a key that was good once.
  struct Spoil {
    security::NodeCredentials credentials;
    security::CertificateFacts facts;
  };

  Machine& add(const std::string& name, v1::NodeSpec::Role role, const Clock* clock);
  SimIdentity::Deps identity_deps(const Clock& clock);
  void with_guest(Machine& machine, const LocalClock& clock);
  Machine* machine_of(const std::string& node_id);
  void found(SimIdentity& founder);

  // The way to the leader (sim_certificate_calls.cc).
  void look();
  void join(Machine& machine);
  void joined(Machine& machine, Result<v1::IssueCertificateResponse> answer);
  void ask(SimIdentity& caller, v1::IssueCertificateRequest request, SimIdentity::Answer done);
  void arrive(const std::shared_ptr<Call>& call);
  Result<security::Principal> identify(const Call& call, const SimIdentity& server,
                                       const manager::store::Snapshot& view);
  void issue(const std::shared_ptr<Call>& call, ManagerLife& life,
             const security::Principal& caller);
  void answer(const std::shared_ptr<Call>& call, Result<v1::IssueCertificateResponse> result);
  Result<v1::IssueCertificateResponse> sign_own(const SimIdentity& who, const std::string& csr);
  Duration latency() { return Duration(1ms) * static_cast<int64_t>(1 + rng_.below(4)); }
  Duration up_to(uint64_t ms) { return Duration(1ms) * static_cast<int64_t>(rng_.below(ms) + 1); }

  // What happens (sim_certificate_trouble.cc).
  void rotate(bool root, bool worker_token, bool manager_token);
  void shorten(ManagerLife& leader);  // certificates' lives, to what they are here
  void invite();
  void disturb_guest();
  void remove(Machine& machine);
  void left(SimIdentity& identity);
  void come_back();
  void intrude();
  void intrude_session(ManagerLife& life, const Spoil& spoil);

  void watch_ends();
  void rejoin(Machine& machine);
  bool removed(const std::string& node_id) const { return removed_.contains(node_id); }
  // As far as that state knows.
  bool removed_in(const manager::store::Snapshot& view, const std::string& node_id) const;
  bool has(Trouble trouble) const { return deps_.troubles.has(trouble); }

  Deps deps_;
  SeededRng rng_;
  SeededOpenSsl openssl_;
  SimExecutor strand_;
  SimGroup* group_ = nullptr;
  SimHandshakes handshakes_;
  SimSwarm swarm_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::map<std::string, uint64_t> retired_;  // tokens, by the version that retired them
  std::map<std::string, uint64_t> removed_;  // nodes, by the version without them
  std::vector<std::string> tokens_;          // that ever were
  std::vector<Spoil> spoils_;
  std::map<std::string, std::string> refused_;  // lanes, and why last; for the trace
  uint64_t guests_ = 0;
  bool peace_ = false;
};

}  // namespace muster::sim
