#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "base/security/join_token.h"
#include "base/security/x509.h"
#include "base/sim_executor.h"
#include "manager/ca/admission.h"
#include "manager/ca/root.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::ca {

// A store with a cluster "c1" in virtual time, and hosts that would like to be in it.
class Swarm : public testing::Test {
 protected:
  Swarm() {
    store_.lead(1);
    v1::Cluster cluster;
    cluster.set_id("c1");
    cluster.mutable_spec()->mutable_annotations()->set_name("default");
    cluster.mutable_spec()->set_node_cert_expiry_ns(Duration(24h).count());
    *cluster.mutable_root_ca() = *make_root_ca(*security::create_root(now()));
    EXPECT_TRUE(write([&](store::Transaction& tx) { return tx.create(cluster); }).ok());
  }

  WallTime now() const { return strand_.clock().wall_now(); }
  const v1::RootCa& root_ca() const {
    cluster_ = store_.snapshot().cluster();
    return cluster_->root_ca();
  }
  Status write(std::function<Status(store::Transaction&)> change) {
    std::optional<Status> outcome;
    store_.update([&](store::Transaction& tx) { return change(tx); },
                  [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    return outcome ? *outcome : internal_error("no answer");
  }
  Status change_cluster(std::function<Status(v1::Cluster&)> change) {
    return write([&](store::Transaction& tx) -> Status {
      v1::Cluster cluster = *tx.view().cluster();
      MUSTER_TRY(change(cluster));
      return tx.update(std::move(cluster));
    });
  }
  Status change_node(const std::string& id, std::function<void(v1::Node&)> change) {
    return write([&](store::Transaction& tx) -> Status {
      v1::Node node = *tx.view().get<v1::Node>(id);
      change(node);
      return tx.update(std::move(node));
    });
  }
  Status rotate(const v1::RotateRoot& request = {}) {
    return change_cluster(
        [&](v1::Cluster& cluster) { return begin_rotation(cluster, request, now()); });
  }
  // A node with a certificate of the present issuer, as its agent reports it.
  void add_node(const std::string& id, const std::string& hostname,
                v1::NodeSpec::Role role = v1::NodeSpec::WORKER) {
    v1::Node node;
    node.set_id(id);
    node.set_role(role);
    node.mutable_description()->set_hostname(hostname);
    if (role == v1::NodeSpec::MANAGER) {
      node.mutable_manager_status()->set_address("10.0.0.1:2377");
    }
    ASSERT_TRUE(write([&](store::Transaction& tx) { return tx.create(node); }).ok());
    report(id);
  }
  void report(const std::string& id) {
    const auto issuer = *wanted_issuer(root_ca());
    ASSERT_TRUE(change_node(id, [&](v1::Node& node) {
                  auto* tls = node.mutable_description()->mutable_tls();
                  tls->set_issuer_public_key_der(issuer.public_key_der);
                  tls->set_issuer_subject_der(issuer.subject_der);
                }).ok());
  }
  v1::IssueCertificateRequest join_request(const std::string& token,
                                           const std::string& key = *security::generate_key()) {
    v1::IssueCertificateRequest request;
    request.set_signing_request_pem(*security::create_signing_request(key));
    request.set_join_token(token);
    request.set_hostname("host");
    return request;
  }
  static security::Principal node_caller(const std::string& id, bool manager = false) {
    security::Principal caller;
    caller.kind = security::Principal::Kind::kNode;
    caller.node_id = id;
    caller.manager = manager;
    caller.cluster_id = "c1";
    return caller;
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  mutable store::Ptr<v1::Cluster> cluster_;
};

}  // namespace muster::manager::ca
