#include "manager/network_keys/key_keeper.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "base/sim_executor.h"
#include "manager/network_keys/key_ring.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::network_keys {
namespace {

class KeyKeeperTest : public ::testing::Test {
 protected:
  KeyKeeperTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c1");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      MUSTER_TRY(tx.create(cluster));
      for (const char* id : {"n1", "n2", "n3"}) {
        v1::Node node;
        node.set_id(id);
        MUSTER_TRY(tx.create(node));
      }
      return ok_status();
    });
    keeper_.start();
    world_.settle();
  }

  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void make_network(const std::string& id, bool encrypted, bool ingress = false) {
    write([&](store::Transaction& tx) {
      v1::Network network;
      network.set_id(id);
      network.mutable_spec()->mutable_annotations()->set_name(id);
      network.mutable_spec()->set_driver("overlay");
      network.mutable_spec()->set_ingress(ingress);
      if (encrypted) network.mutable_spec()->add_driver_options()->set_key("encrypted");
      return tx.create(network);
    });
  }
  void run_task(const std::string& node, const std::string& network) {
    write([&](store::Transaction& tx) {
      v1::Task task;
      task.set_id("t" + node);
      task.set_node_id(node);
      task.set_desired_state(v1::TASK_RUNNING);
      task.mutable_status()->set_state(v1::TASK_RUNNING);
      v1::NetworkAttachment& in = *task.add_networks();
      in.set_network_id(network);
      in.add_addresses("10.0.1.5/24");
      return tx.create(task);
    });
  }
  // "1* 2": numbers, those that are sent with marked.
  std::string keys() {
    std::string out;
    for (const auto& key : store_.snapshot().cluster()->network_keys()) {
      EXPECT_EQ(key.secret().size(), kSecretBytes);
      secrets_.insert(key.secret());
      if (!out.empty()) out += ' ';
      out += std::to_string(key.number()) + (key.used_from_ns() != 0 ? "*" : "");
    }
    return out;
  }
  void acknowledge(const std::string& node) { applied_[node] = store_.snapshot().version(); }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{7};
  std::map<std::string, uint64_t> applied_;
  KeyKeeper keeper_{{strand_, store_, rng_,
                     [this](const std::string& node) {
                       const auto at = applied_.find(node);
                       return at == applied_.end() ? 0 : at->second;
                     },
                     null_log()}};
  std::set<std::string> secrets_;
};

TEST_F(KeyKeeperTest, WithoutAnEncryptedNetworkThereIsNoKey) {
  make_network("open", false);
  world_.advance(48h);
  EXPECT_EQ(keys(), "");
  EXPECT_TRUE(world_.idle());
  make_network("vault", true);
  EXPECT_EQ(keys(), "1*");
}

TEST_F(KeyKeeperTest, ANewKeyIsSentWithOnceEveryNodeOfItsNetworksHasIt) {
  make_network("open", false);
  make_network("vault", true);
  run_task("n1", "vault");
  run_task("n2", "vault");
  run_task("n3", "open");
  acknowledge("n1");
  acknowledge("n2");
  world_.advance(12h - 1s);
  EXPECT_EQ(keys(), "1*");
  world_.advance(1s);
  EXPECT_EQ(keys(), "1* 2");
  world_.advance(10s);
  EXPECT_EQ(keys(), "1* 2") << "what was acknowledged before does not count";
  acknowledge("n1");
  world_.advance(10s);
  EXPECT_EQ(keys(), "1* 2");
  acknowledge("n2");
  world_.advance(KeyKeeper::kLook);
  EXPECT_EQ(keys(), "1* 2*");
  EXPECT_EQ(secrets_.size(), 2u);
}

TEST_F(KeyKeeperTest, ANodeThatDoesNotComeIsWaitedForHalfARotation) {
  make_network("vault", true);
  run_task("n1", "vault");
  world_.advance(12h);
  EXPECT_EQ(keys(), "1* 2");
  world_.advance(6h - 1s);
  EXPECT_EQ(keys(), "1* 2");
  world_.advance(1s);
  EXPECT_EQ(keys(), "1* 2*");
  // Or less, where it is known that it takes no part.
  world_.advance(6h);
  EXPECT_EQ(keys(), "1* 2* 3");
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n1");
    node.mutable_description()->set_no_encryption("no ESP");
    return tx.update(std::move(node));
  });
  world_.advance(KeyKeeper::kLook);
  EXPECT_EQ(keys(), "1* 2* 3*");
  world_.advance(12h + KeyKeeper::kLook);
  EXPECT_EQ(keys(), "2* 3* 4*") << "nobody is waited for";
}

TEST_F(KeyKeeperTest, AnEncryptedIngressNetworkIsEveryNodes) {
  make_network("mesh", true, true);
  world_.advance(12h);
  EXPECT_EQ(keys(), "1* 2");
  for (const char* node : {"n1", "n2"}) acknowledge(node);
  world_.advance(5s);
  EXPECT_EQ(keys(), "1* 2");
  acknowledge("n3");
  world_.advance(KeyKeeper::kLook);
  EXPECT_EQ(keys(), "1* 2*");
}

TEST_F(KeyKeeperTest, ANewLeaderGoesOnWhereTheLastOneWas) {
  make_network("vault", true);
  run_task("n1", "vault");
  world_.advance(12h);
  EXPECT_EQ(keys(), "1* 2");
  keeper_.stop();
  acknowledge("n1");
  world_.advance(1h);
  EXPECT_EQ(keys(), "1* 2");
  keeper_.start();
  world_.settle();
  EXPECT_EQ(keys(), "1* 2*");
}

TEST_F(KeyKeeperTest, AShorterRotationIsFollowedAtOnce) {
  make_network("vault", true);
  world_.advance(1h);
  write([](store::Transaction& tx) {
    v1::Cluster cluster = *tx.view().cluster();
    cluster.mutable_spec()->mutable_encryption()->set_key_rotation_ns(Duration(30min).count());
    return tx.update(std::move(cluster));
  });
  EXPECT_EQ(keys(), "1* 2*") << "it is old, and nobody has to have the next one";
}

}  // namespace
}  // namespace muster::manager::network_keys
