#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/doctor/checks.h"
#include "agent/doctor/host_tests.h"
#include "agent/doctor/node_facts.h"
#include "agent/worker/blocking_pool.h"
#include "base/executor.h"
#include "base/log.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What the doctor stands on; all outlive it.
struct DoctorDeps {
  Executor& strand;    // the agent's
  BlockingPool& pool;  // of its own: kPartsMax threads for each examination
  HostTests& tests;
  overlay::NodeNetwork& network;
  std::function<NodeFacts()> facts;                      // on the strand
  std::function<void(const v1::NetworkFindings&)> tell;  // on the strand
  // Of the kernel's network, which somebody else had changed; as WorkerDeps::repaired. On the
  // strand.
  std::function<void(const std::vector<std::string>&)> repaired;
  Log log;
};

// Examines this node's networks when a manager asks for it: the ways to other nodes, what the
// kernel has, names, virtual addresses and published ports, all at the same time. What is found is
// told as it is known, the last of it at the latest half a second before the manager's time is
// over.
//
// What is out of order only because something changes at the moment is no finding: names and
// connections that fail are tried a second time, with what is known then. What fails because
// nothing passes between two nodes at all is said once, of the way between them.
//
// Lives on the agent's strand.
class Doctor {
 public:
  static constexpr size_t kExaminationsMax = 3;
  static constexpr size_t kPartsMax = 8;
  static constexpr Duration kSecondLook = 700ms;
  static constexpr Duration kPatienceMax = 6s;
  static constexpr Duration kMargin = 500ms;
  // What a node knows of itself is not put together again for so long: with large networks that
  // keeps the strand from its heartbeats.
  static constexpr Duration kFactsAge = 100ms;

  explicit Doctor(DoctorDeps deps)
      : deps_(std::move(deps)), self_(std::make_shared<Doctor*>(this)) {}
  ~Doctor();
  Doctor(const Doctor&) = delete;
  Doctor& operator=(const Doctor&) = delete;

  void examine(const v1::NetworkExamination& examination);
  size_t under_way() const { return cases_.size(); }

 private:
  using Unreached = std::set<std::string>;  // nodes that nothing passes to, or from
  // What came of a part, in words, when it is known who is not reached.
  using Judge = std::function<Findings(const Unreached&)>;
  using Part = std::function<Judge(const v1::NetworkExamination&, const NodeFacts&)>;
  using SharedFacts = std::shared_ptr<const NodeFacts>;
  struct PartOptions {
    bool second_look = true;
    bool waits_for_ways = false;  // is told of when the ways to other nodes are known
  };
  struct Case {
    v1::NetworkExamination examination;
    Duration timeout{};
    std::map<std::string, std::string> pending;  // parts, with what they test in words
    Executor::TimerId timer = 0;
    std::set<Executor::TimerId> looks;
    std::optional<Unreached> unreached;  // once the ways to other nodes are known
    std::map<std::string, Judge> held;   // parts that wait for that
  };

  SharedFacts facts();
  void begin_parts(const std::string& id, Duration timeout);
  void begin_waiting_parts(const std::string& id, Duration timeout);
  void test_tunnels(const std::string& id);
  void test_encryption(const std::string& id);
  static HostTests::TunnelTest tunnel_test(const Case& known, const NodeFacts& facts);
  void tunnels_tested(const std::string& id, const std::string& hostname, uint32_t mtu,
                      const Result<HostTests::Heard>& heard);
  void ways_known(const std::string& id, Unreached unreached);
  void begin_part(const std::string& id, const std::string& name, std::string words, Part part,
                  PartOptions options);
  void run_part(const std::string& id, const std::string& name, Part part, PartOptions options);
  void part_done(const std::string& id, const std::string& name, const Findings& findings);
  void tell(const std::string& id, const Findings& findings, bool last);
  void time_over(const std::string& id);
  // Runs `work` on the pool and `done` with what it returns on the strand, if the doctor still
  // exists.
  template <class Work, class Done>
  void on_pool(Work work, Done done);

  DoctorDeps deps_;
  std::map<std::string, Case> cases_;  // by examination
  SharedFacts facts_;                  // the last, while anything is examined
  TimePoint facts_at_{};
  std::shared_ptr<Doctor*> self_;  // emptied by the destructor
};

}  // namespace muster::agent
