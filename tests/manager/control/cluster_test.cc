#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "base/security/x509.h"
#include "manager/ca/root.h"
#include "manager/control/applied_wait.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/node_changes.h"
#include "manager/control/standing.h"
#include "tests/manager/control/api_fixture.h"
#include "tests/manager/members/fake_group.h"

namespace muster::manager::control {
namespace {

constexpr auto kWorker = v1::NodeSpec::WORKER;
constexpr auto kManager = v1::NodeSpec::MANAGER;
constexpr int64_t kDay = Duration(24h).count();

class ClusterTest : public ApiFixture {
 protected:
  ClusterTest() {
    group_.state.self = group_.state.leader = {1};
    group_.state.leads = true;
    group_.state.members = {members::member(1, "n1"), members::member(2, "n2"),
                            members::member(3, "n3")};
    api_.activate(store_, &group_);
    write([](store::Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      cluster.mutable_spec()->set_node_cert_expiry_ns(90 * kDay);
      MUSTER_TRY(tx.create(std::move(cluster)));
      for (const char* id : {"n1", "n2", "n3", "n4"}) {
        v1::Node node;
        node.set_id(id);
        const auto role = node.id() == "n4" ? kWorker : kManager;
        node.mutable_spec()->set_desired_role(role);
        node.set_role(role);
        node.mutable_status()->set_state(v1::NodeStatus::READY);
        MUSTER_TRY(tx.create(std::move(node)));
      }
      return ok_status();
    });
  }
  store::Ptr<v1::Node> node(const std::string& id) { return store_.snapshot().get<v1::Node>(id); }
  Status set_role(const std::string& id, v1::NodeSpec::Role role) {
    v1::UpdateNodeRequest request;
    request.set_node_id(id);
    request.set_version(node(id)->meta().version());
    *request.mutable_spec() = node(id)->spec();
    request.mutable_spec()->set_desired_role(role);
    const auto result = call(&ControlApi::update_node, request);
    return result ? ok_status() : result.error();
  }
  Status remove(const std::string& id, bool force) {
    v1::RemoveNodeRequest request;
    request.set_node_id(id);
    request.set_force(force);
    const auto result = call(&ControlApi::remove_node, request);
    return result ? ok_status() : result.error();
  }
  Result<v1::UpdateClusterResponse> update(std::function<void(v1::UpdateClusterRequest&)> change) {
    v1::UpdateClusterRequest request;
    request.set_version(store_.snapshot().cluster()->meta().version());
    *request.mutable_spec() = store_.snapshot().cluster()->spec();
    change(request);
    return call(&ControlApi::update_cluster, request);
  }
  std::string unlock_key() {
    const auto key = call(&ControlApi::get_unlock_key, v1::GetUnlockKeyRequest());
    return key ? key->unlock_key() : key.error().to_string();
  }
  void add_tasks(int count, const std::string& node) {
    for (int from = 0; from < count; from += 500) {
      write([&](store::Transaction& tx) -> Status {
        for (int i = from; i < std::min(count, from + 500); ++i) {
          v1::Task task;
          task.set_id(fmt::format("t{}", i));
          task.set_service_id("s");
          task.set_slot(static_cast<uint64_t>(i));
          task.set_node_id(node);
          task.mutable_status()->set_state(v1::TASK_RUNNING);
          MUSTER_TRY(tx.create(std::move(task)));
        }
        return ok_status();
      });
    }
  }

  members::FakeGroup group_{strand_};
};

TEST_F(ClusterTest, AHeartbeatPeriodOfNoneIsTheDefault) {
  const auto set = update([](auto& r) { r.mutable_spec()->set_heartbeat_period_ns(0); });
  ASSERT_TRUE(set) << set.error().to_string();
  EXPECT_EQ(set->cluster().spec().heartbeat_period_ns(), Duration(1s).count());
  EXPECT_EQ(store_.snapshot().cluster()->spec().heartbeat_period_ns(), Duration(1s).count());
}

TEST_F(ClusterTest, DemotionsKeepTheQuorumInSwarmsWords) {
  group_.state.members[2].reachable = false;
  EXPECT_EQ(set_role("n2", kWorker).message(),
            "can't remove member from the raft: this would result in a loss of quorum");
  EXPECT_EQ(set_role("n2", kWorker).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(set_role("n3", kWorker).ok()) << "the one that is away may go";
  EXPECT_TRUE(set_role("n2", kWorker).ok()) << "both are as good as gone, and n1 is a majority";
  EXPECT_EQ(set_role("n1", kWorker).message(),
            "attempting to demote the last manager of the swarm");
  EXPECT_TRUE(set_role("n4", kManager).ok());
  EXPECT_EQ(
      set_role("n1", kWorker).message(),
      "attempting to demote the last manager of the swarm: the other managers have not caught "
      "up yet");
  EXPECT_TRUE(set_role("n4", kWorker).ok()) << "it was no member yet";
  EXPECT_TRUE(set_role("n2", kManager).ok()) << "promoted again before it had left";
}

TEST_F(ClusterTest, NodesThatAreRemoved) {
  EXPECT_EQ(remove("n9", false).code(), StatusCode::kNotFound);
  EXPECT_EQ(remove("n2", true).message(),
            "node n2 is a cluster manager and is a member of the raft cluster. It must be demoted "
            "to worker before removal");
  // Nor one that a new leader has yet to hear of.
  for (const auto state : {v1::NodeStatus::UNKNOWN, v1::NodeStatus::READY}) {
    write([&](store::Transaction& tx) {
      v1::Node node = *tx.view().get<v1::Node>("n4");
      node.mutable_status()->set_state(state);
      return tx.update(std::move(node));
    });
    EXPECT_EQ(remove("n4", false).message(), "node n4 is not down and can't be removed");
    EXPECT_EQ(remove("n4", false).code(), StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(remove("n4", true).ok());
  EXPECT_EQ(node("n4"), nullptr);
  const auto cluster = store_.snapshot().cluster();
  ASSERT_EQ(cluster->removed_nodes_size(), 1);
  EXPECT_EQ(cluster->removed_nodes(0).node_id(), "n4");
  EXPECT_EQ(cluster->removed_nodes(0).certificate_ends_at_ns(),
            world_.wall_now().unix_ns + 90 * kDay + Duration(1h).count());
  // Out of the group, it may go; also when it never was in there.
  group_.state.members.pop_back();
  EXPECT_TRUE(remove("n3", true).ok());
  EXPECT_EQ(store_.snapshot().cluster()->removed_nodes_size(), 2);
}

TEST_F(ClusterTest, ARemovedNodeIsForgottenWhenItsCertificateHasEnded) {
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n4");
    node.mutable_status()->set_state(v1::NodeStatus::DOWN);
    // A certificate of a time when they were good for longer.
    node.mutable_description()->mutable_tls()->set_not_after_ns(tx.now().unix_ns + 200 * kDay);
    return tx.update(std::move(node));
  });
  ASSERT_TRUE(remove("n4", false).ok());
  group_.state.members = {members::member(1, "n1")};
  world_.advance(199 * 24h);
  ASSERT_TRUE(remove("n3", true).ok());
  EXPECT_EQ(store_.snapshot().cluster()->removed_nodes_size(), 2);
  world_.advance(2 * 24h);
  ASSERT_TRUE(remove("n2", true).ok());
  const auto cluster = store_.snapshot().cluster();
  ASSERT_EQ(cluster->removed_nodes_size(), 2);
  EXPECT_EQ(cluster->removed_nodes(0).node_id(), "n3");
}

TEST_F(ClusterTest, TheTasksOfARemovedNodeAreGivenUpHoweverMany) {
  add_tasks(2'500, "n4");
  write([](store::Transaction& tx) {
    v1::Task task = *tx.view().get<v1::Task>("t7");
    task.mutable_status()->set_state(v1::TASK_COMPLETE);
    return tx.update(std::move(task));
  });
  ASSERT_TRUE(remove("n4", true).ok());
  EXPECT_EQ(node("n4"), nullptr);
  size_t orphans = 0;
  store_.snapshot().each<v1::Task>([&](const auto& task) {
    orphans += task->status().state() == v1::TASK_ORPHANED ? 1 : 0;
    return true;
  });
  EXPECT_EQ(orphans, 2'499u);
  const auto task = store_.snapshot().get<v1::Task>("t8");
  EXPECT_EQ(task->status().error(), "its node was removed from the swarm");
  EXPECT_EQ(task->status().applied_by(), node_.node_id());
}

TEST_F(ClusterTest, EspDoesNotTravelOnThePortOfOverlayNetworks) {
  const auto set = [&](uint32_t port, bool udp) {
    return update([&](auto& r) {
      r.mutable_spec()->mutable_encryption()->set_udp_port(port);
      r.mutable_spec()->mutable_encryption()->set_udp_encapsulation(udp);
    });
  };
  const auto data_path = [&](uint32_t port) {
    write([&](store::Transaction& tx) {
      v1::Cluster cluster = *tx.view().cluster();
      cluster.set_data_path_port(port);
      return tx.update(std::move(cluster));
    });
  };
  const auto refused = set(4789, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::kInvalidArgument);
  for (const char* part : {"4789", "--encryption-udp-port", "--data-path-port"}) {
    EXPECT_NE(refused.error().message().find(part), std::string::npos) << part;
  }
  EXPECT_FALSE(set(4789, false)) << "it would be refused later, where nobody asked for a port";
  EXPECT_TRUE(set(4790, true));
  EXPECT_EQ(store_.snapshot().cluster()->spec().encryption().udp_port(), 4790u);
  data_path(4790);
  EXPECT_TRUE(set(4790, true)) << "a swarm that has it already can be given other settings";
  EXPECT_FALSE(set(4790, false));
  EXPECT_TRUE(set(4789, true));
  EXPECT_FALSE(set(4790, true));
  data_path(4500);
  EXPECT_TRUE(set(0, false)) << "a default that is not used";
  EXPECT_TRUE(set(4500, false));
  EXPECT_FALSE(set(0, true));
  EXPECT_FALSE(set(4500, true));
}

TEST_F(ClusterTest, ANewSwarmIsNotGivenOnePortForBoth) {
  store::Store fresh(strand_, &proposer_, null_log());
  fresh.lead(1);
  const auto create = [&](uint32_t data_path, uint32_t port, bool udp) {
    NewCluster wanted;
    wanted.id = "c";
    wanted.data_path_port = data_path;
    wanted.spec.mutable_encryption()->set_udp_port(port);
    wanted.spec.mutable_encryption()->set_udp_encapsulation(udp);
    Status outcome(StatusCode::kUnknown, "never committed");
    fresh.update([&](store::Transaction& tx) { return create_cluster(tx, wanted); },
                 [&](const store::Commit& c) { outcome = c.status; });
    world_.settle();
    return outcome;
  };
  EXPECT_EQ(create(0, 4789, true).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(create(4500, 0, true).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(create(5000, 5000, false).code(), StatusCode::kInvalidArgument);
  const Status made = create(4500, 0, false);
  EXPECT_TRUE(made.ok()) << made.to_string();
}

TEST_F(ClusterTest, KeysOfEncryptedNetworksAreNobodysToRead) {
  write([](store::Transaction& tx) -> Status {
    v1::Cluster cluster = *tx.view().cluster();
    v1::NetworkKey& key = *cluster.add_network_keys();
    key.set_number(7);
    key.set_secret("SECRET-OF-NETWORKS-SECRET-OF-NET");
    return tx.update(std::move(cluster));
  });
  std::vector<v1::Cluster> all;
  const auto watching =
      api_.watch(user_, v1::WatchRequest(), [&](const Result<v1::WatchResponse>& r) {
        if (!r) return;
        for (const auto& event : r->events()) {
          if (event.has_cluster()) all.push_back(event.cluster());
        }
      });
  ASSERT_TRUE(watching);
  const auto result =
      update([](auto& r) { r.mutable_spec()->mutable_encryption()->set_udp_encapsulation(true); });
  ASSERT_TRUE(result) << result.error().to_string();
  ASSERT_EQ(all.size(), 1u) << "who watches is told of the change";
  const auto read = api_.get_cluster(user_, v1::GetClusterRequest());
  ASSERT_TRUE(read) << read.error().to_string();
  all.push_back(result->cluster());
  all.push_back(read->cluster());
  for (const v1::Cluster& seen : all) {
    ASSERT_EQ(seen.network_keys_size(), 1);
    EXPECT_EQ(seen.SerializeAsString().find("SECRET-OF-NETWORKS"), std::string::npos);
    EXPECT_EQ(seen.network_keys(0).number(), 7u);
  }
  EXPECT_EQ(store_.snapshot().cluster()->network_keys(0).secret().size(), 32u);
}

TEST_F(ClusterTest, AutolockHasAKeyThatReadersDoNotSee) {
  EXPECT_EQ(unlock_key(), "");
  EXPECT_EQ(update([](auto& r) { r.set_rotate_unlock_key(true); }).error().reason(), "no-autolock");
  auto result = update([](auto& r) { r.mutable_spec()->set_autolock(true); });
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ(result->cluster().unlock_key(), "");
  const std::string first = unlock_key();
  EXPECT_EQ(first.rfind("SWMKEY-1-", 0), 0u) << first;
  ASSERT_TRUE(update([](auto& r) { r.mutable_spec()->set_task_history_limit(3); }));
  EXPECT_EQ(unlock_key(), first);
  ASSERT_TRUE(update([](auto& r) { r.set_rotate_unlock_key(true); }));
  EXPECT_NE(unlock_key(), first);
  EXPECT_EQ(unlock_key().rfind("SWMKEY-1-", 0), 0u);
  const auto shown = api_.get_cluster(user_, {});
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->cluster().unlock_key(), "");
  ASSERT_TRUE(update([](auto& r) { r.mutable_spec()->set_autolock(false); }));
  EXPECT_EQ(unlock_key(), "");
}

TEST_F(ClusterTest, TheRootIsReplacedAndNodesThatLagAreNamed) {
  const auto root = *security::create_root(world_.wall_now());
  write([&](store::Transaction& tx) -> Status {
    v1::Cluster cluster = *tx.view().cluster();
    MUSTER_ASSIGN(*cluster.mutable_root_ca(), ca::make_root_ca(root));
    return tx.update(std::move(cluster));
  });
  const auto bad = update([](auto& r) { r.mutable_rotate_root()->set_key_pem("no key"); });
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(bad.error().message().find("no key"), std::string::npos);
  const auto result = update([](auto& r) { r.mutable_rotate_root(); });
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_NE(result->cluster().root_ca().rotation().certificate_pem(), "");
  EXPECT_EQ(result->cluster().root_ca().rotation().key_pem(), "");
  EXPECT_EQ(result->cluster().root_ca().key_pem(), "");
  EXPECT_NE(store_.snapshot().cluster()->root_ca().rotation().key_pem(), "");
  EXPECT_EQ(api_.get_cluster(user_, {})->nodes_to_renew_size(), 4);
}

TEST_F(ClusterTest, TheUnlockKeyComesFromTheLeaderAlone) {
  ASSERT_TRUE(update([](auto& r) { r.mutable_spec()->set_autolock(true); }));
  store_.end_leading();
  EXPECT_NE(unlock_key().find("not the leader"), std::string::npos);
}

TEST_F(ClusterTest, SettingsThatCannotBe) {
  struct Case {
    const char* what;
    std::function<void(v1::ClusterSpec&)> change;
    bool ok;
  };
  const Case cases[] = {
      {"defaults", [](auto&) {}, true},
      {"a slow beat with the default time-out",
       [](auto& s) { s.mutable_raft()->set_heartbeat_period_ns(Duration(300ms).count()); }, false},
      {"a slow beat with its time-out",
       [](auto& s) {
         s.mutable_raft()->set_heartbeat_period_ns(Duration(300ms).count());
         s.mutable_raft()->set_election_timeout_ns(Duration(3s).count());
       },
       true},
      {"a beat that is none",
       [](auto& s) { s.mutable_raft()->set_heartbeat_period_ns(Duration(1ms).count()); }, false},
      {"a negative beat", [](auto& s) { s.mutable_raft()->set_heartbeat_period_ns(-5); }, false},
      {"a negative time-out", [](auto& s) { s.mutable_raft()->set_election_timeout_ns(-5); },
       false},
      {"an endless time-out",
       [](auto& s) { s.mutable_raft()->set_election_timeout_ns(Duration(2min).count()); }, false},
      {"an endless log", [](auto& s) { s.mutable_raft()->set_snapshot_interval(UINT64_MAX); },
       false},
      {"short certificates", [](auto& s) { s.set_node_cert_expiry_ns(Duration(59min).count()); },
       false},
      {"a signer outside of the swarm",
       [](auto& s) {
         s.add_external_cas()->set_protocol("cfssl");
         s.mutable_external_cas(0)->set_url("https://ca");
       },
       false},
  };
  for (const Case& c : cases) {
    const auto result = update([&](auto& r) { c.change(*r.mutable_spec()); });
    EXPECT_EQ(bool(result), c.ok) << c.what << (result ? "" : result.error().to_string());
    if (!result) {
      EXPECT_EQ(result.error().code(), StatusCode::kInvalidArgument) << c.what;
    }
    update([](auto& r) { r.mutable_spec()->clear_raft(); });
  }
}

TEST_F(ClusterTest, NodesAreShownAsTheGroupIs) {
  group_.state.members[1].reachable = false;
  group_.state.members[2].member.voter = false;
  const auto nodes = api_.list_nodes(user_, {});
  ASSERT_TRUE(nodes);
  ASSERT_EQ(nodes->nodes_size(), 4);
  EXPECT_TRUE(nodes->nodes(0).manager_status().leader());
  EXPECT_FALSE(nodes->nodes(1).manager_status().reachable());
  EXPECT_TRUE(nodes->nodes(2).manager_status().learner());
  EXPECT_FALSE(nodes->nodes(3).has_manager_status());
  v1::GetNodeRequest request;
  request.set_node("n1");
  EXPECT_EQ(api_.get_node(user_, request)->node().manager_status().address(), "10.0.0.1:2377");
}

TEST_F(ClusterTest, WhatACertificateIsStillGoodFor) {
  const auto holder = [](const char* id, bool manager, const char* cluster = "c") {
    Principal out;
    out.kind = Principal::Kind::kNode;
    out.node_id = id;
    out.manager = manager;
    out.cluster_id = cluster;
    return out;
  };
  EXPECT_TRUE(check_standing(store_.snapshot(), user_).ok());
  EXPECT_TRUE(check_standing(store_.snapshot(), holder("n1", true)).ok());
  EXPECT_TRUE(check_standing(store_.snapshot(), holder("n4", false)).ok());
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n9", true)).reason(), "node-unknown");
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n9", false)).reason(), "node-unknown");
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n9", true)).code(), StatusCode::kUnavailable)
      << "another manager may have heard of it";
  EXPECT_TRUE(check_standing(store::Snapshot(), holder("n9", true)).ok()) << "nothing is known yet";
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n1", true, "d")).reason(), "wrong-cluster");
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n4", true)).reason(), "role-changed");
  ASSERT_TRUE(remove("n4", true).ok());
  EXPECT_EQ(check_standing(store_.snapshot(), holder("n4", false)).reason(), "node-removed");
  EXPECT_EQ(api_.list_nodes(holder("n4", true), {}).error().reason(), "node-removed");
}

// Its entry goes once no certificate that it was given can be in force any more; but it has the
// root's key, and may have given itself one.
TEST_F(ClusterTest, AManagerThatWasRemovedLongAgoIsNone) {
  Principal gone;
  gone.kind = Principal::Kind::kNode;
  gone.node_id = "n3";
  gone.manager = true;
  gone.cluster_id = "c";
  ASSERT_TRUE(set_role("n3", kWorker).ok());
  group_.state.members.pop_back();
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n3");
    node.set_role(kWorker);
    return tx.update(std::move(node));
  });
  ASSERT_TRUE(remove("n3", true).ok());
  EXPECT_EQ(check_standing(store_.snapshot(), gone).reason(), "node-removed");
  world_.advance(Duration(kDay) * 91);
  ASSERT_TRUE(remove("n4", true).ok());
  ASSERT_EQ(store_.snapshot().cluster()->removed_nodes_size(), 1);
  EXPECT_EQ(check_standing(store_.snapshot(), gone).reason(), "node-unknown");
  v1::UpdateNodeRequest request;
  request.set_node_id("n2");
  std::optional<Status> answer;
  api_.update_node(gone, request, [&](const auto& r) { answer = r ? ok_status() : r.error(); });
  world_.settle();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->reason(), "node-unknown");
  EXPECT_EQ(api_.list_nodes(gone, {}).error().reason(), "node-unknown");
}

// A client's certificate makes its holder an administrator (docs/certificates.md).
TEST_F(ClusterTest, WhoAdministersFromElsewhereReadsTheTokens) {
  write([](store::Transaction& tx) {
    v1::Cluster cluster = *tx.view().cluster();
    cluster.mutable_root_ca()->mutable_join_tokens()->set_manager("SWMTKN-1-m");
    cluster.mutable_root_ca()->set_key_pem("the root's key");
    return tx.update(std::move(cluster));
  });
  Principal client;
  client.kind = Principal::Kind::kClient;
  client.node_id = "alice";
  client.cluster_id = "c";
  const auto shown = api_.get_cluster(client, {});
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->cluster().root_ca().join_tokens().manager(), "SWMTKN-1-m");
  EXPECT_EQ(shown->cluster().root_ca().key_pem(), "") << "nobody reads that";
}

TEST_F(ClusterTest, AWatchEndsWhenTheWatcherIsNoManagerAnyMore) {
  Principal other;
  other.kind = Principal::Kind::kNode;
  other.node_id = "n2";
  other.manager = true;
  std::vector<Result<v1::WatchResponse>> seen;
  const auto subscription =
      api_.watch(other, {}, [&](const Result<v1::WatchResponse>& r) { seen.push_back(r); });
  ASSERT_TRUE(subscription);
  ASSERT_TRUE(set_role("n2", kWorker).ok());
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(seen[0]);
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n2");
    node.set_role(kWorker);
    return tx.update(std::move(node));
  });
  ASSERT_EQ(seen.size(), 2u);
  ASSERT_FALSE(seen[1]);
  EXPECT_EQ(seen[1].error().reason(), "role-changed");
}

TEST_F(ClusterTest, RequestsThatAreRefusedBeforeTheDaemonSeesThem) {
  v1::JoinSwarmRequest join;
  join.set_join_token("SWMTKN-1-x");
  EXPECT_EQ(call(&ControlApi::join_swarm, join).error().code(), StatusCode::kInvalidArgument);
  v1::UnlockSwarmRequest unlock;
  unlock.set_unlock_key("open sesame");
  EXPECT_EQ(call(&ControlApi::unlock_swarm, unlock).error().code(), StatusCode::kUnauthenticated);
  Status refused;
  api_.backup_swarm(user_, {}, [&](auto result) { refused = result.error(); });
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  Principal manager;
  manager.kind = Principal::Kind::kNode;
  manager.manager = true;
  api_.restore_swarm(manager, [&](auto result) { refused = result.error(); });
  EXPECT_EQ(refused.code(), StatusCode::kPermissionDenied) << "this node's own user alone";
}

TEST_F(ClusterTest, AnAnswerWaitsUntilTheStoreHasIt) {
  AppliedWait waits(strand_, store_);
  const uint64_t now = store_.snapshot().version();
  std::string log;
  waits.wait(now, [&] { log += "a"; });
  EXPECT_EQ(log, "a");
  waits.wait(now + 2, [&] { log += "c"; });
  waits.wait(now + 1, [&] { log += "b"; });
  waits.wait(now + 1'000, [&] { log += "e"; });
  ASSERT_TRUE(set_role("n3", kWorker).ok());
  EXPECT_EQ(log, "ab");
  ASSERT_TRUE(set_role("n3", kManager).ok());
  EXPECT_EQ(log, "abc");
  world_.advance(AppliedWait::kLimit);
  EXPECT_EQ(log, "abce") << "not for ever";
}

}  // namespace
}  // namespace muster::manager::control
