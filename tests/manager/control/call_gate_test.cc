#include "manager/control/call_gate.h"

#include <gtest/gtest.h>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::control {
namespace {

using security::Principal;

class CallGate : public testing::Test {
 protected:
  static Principal node(const std::string& id, bool manager, const std::string& cluster = "c1") {
    Principal caller;
    caller.kind = Principal::Kind::kNode;
    caller.node_id = id;
    caller.manager = manager;
    caller.cluster_id = cluster;
    return caller;
  }
  static Principal client(const std::string& name, const std::string& cluster = "c1") {
    Principal caller;
    caller.kind = Principal::Kind::kClient;
    caller.node_id = name;
    caller.cluster_id = cluster;
    return caller;
  }
  void fill() {
    store_.lead(1);
    store_.update(
        [](store::Transaction& tx) -> Status {
          v1::Cluster cluster;
          cluster.set_id("c1");
          cluster.mutable_spec()->mutable_annotations()->set_name("default");
          cluster.add_removed_nodes()->set_node_id("gone");
          MUSTER_TRY(tx.create(std::move(cluster)));
          v1::Node manager;
          manager.set_id("m");
          manager.set_role(v1::NodeSpec::MANAGER);
          MUSTER_TRY(tx.create(std::move(manager)));
          v1::Node demoted;
          demoted.set_id("d");
          return tx.create(std::move(demoted));
        },
        [](const store::Commit& commit) { EXPECT_TRUE(commit.status.ok()); });
    world_.settle();
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  security::CallGate gate_ = make_call_gate("c1", [this] { return store_.snapshot(); });
};

TEST_F(CallGate, CertificatesCountForWhatIsTrueNow) {
  fill();
  const char* const kControl = "muster.v1.Control.CreateService";
  const char* const kSession = "muster.v1.Dispatcher.Session";
  const char* const kLogs = "muster.v1.Logs.Publish";
  const char* const kRaft = "muster.v1.Raft.Lane";
  const char* const kJoin = "muster.v1.Membership.Join";
  const char* const kRenew = "muster.v1.Ca.IssueCertificate";
  struct Case {
    const char* method;
    Principal caller;
    bool passes;
  };
  const Case cases[] = {
      {kControl, node("m", true), true},
      {kControl, node("m", false), false},       // the certificate is not renewed yet
      {kControl, node("d", true), false},        // a manager's certificate, a worker by now
      {kControl, node("gone", true), false},     // removed
      {kControl, node("m", true, "c2"), false},  // of another swarm with the same root
      {kControl, client("alice"), true},
      {kControl, client("alice", "c2"), false},  // of another swarm with the same root
      // Removed longer ago than anybody remembers, by a certificate it has given itself.
      {kControl, node("long gone", true), false},
      {kLogs, node("long gone", true), false},
      {kJoin, node("long gone", true), true},  // the leader says what it is, and others who leads
      {kJoin, node("m", true), true},
      {kJoin, node("m", true, "c2"), false},
      {kJoin, node("d", false), false},
      {kSession, client("alice"), false},
      {kRaft, client("alice"), false},
      {kLogs, client("alice"), false},
      {kControl, client("gone"), true},  // no node, whatever its name
      {kControl, {}, false},
      {kSession, node("d", false), true},
      {kSession, node("d", true), true},     // to hear that it is a worker
      {kSession, node("new", false), true},  // this manager is behind
      {kSession, node("gone", false), true},
      {kSession, node("d", false, "c2"), false},
      {kLogs, node("d", true), true},
      {kLogs, node("gone", false), false},
      {kRaft, node("m", true), true},
      {kRaft, node("d", true), true},  // the group knows its members
      {kRaft, node("d", false), false},
      {kRaft, node("gone", true), true},  // only to hear on its lane that it was removed
      {kRaft, node("m", true, "c2"), false},
      {kRenew, node("d", true), true},  // to get the right one
      {kRenew, {}, true},
      {"muster.v1.Control.Unheard", node("m", true), false},
      {"", node("m", true), false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(gate_(c.method, c.caller).ok(), c.passes)
        << c.method << " by " << c.caller.node_id << " of " << c.caller.cluster_id;
  }
}

// A member that has not got its state yet must hear the leader.
TEST_F(CallGate, WithoutAStateCertificatesAloneCount) {
  EXPECT_TRUE(gate_("muster.v1.Raft.Lane", node("m", true)).ok());
  EXPECT_FALSE(gate_("muster.v1.Raft.Lane", node("m", true, "c2")).ok());
  EXPECT_FALSE(gate_("muster.v1.Raft.Lane", node("m", false)).ok());
  EXPECT_TRUE(gate_("muster.v1.Control.ListNodes", node("m", true)).ok());
}

}  // namespace
}  // namespace muster::manager::control
