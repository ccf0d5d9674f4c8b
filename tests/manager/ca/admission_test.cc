#include "manager/ca/admission.h"

#include <gtest/gtest.h>

#include "manager/ca/address.h"
#include "tests/manager/ca/swarm_fixture.h"

namespace muster::manager::ca {
namespace {

using Admit = Swarm;

TEST_F(Admit, TokensGiveRoles) {
  const v1::RootCa root = root_ca();
  EXPECT_EQ(*role_of_token(root, root.join_tokens().worker()), v1::NodeSpec::WORKER);
  EXPECT_EQ(*role_of_token(root, root.join_tokens().manager()), v1::NodeSpec::MANAGER);
}

TEST_F(Admit, BadTokensAreRefusedInWordsAndNotRepeated) {
  const v1::RootCa root = root_ca();
  const std::string worker = root.join_tokens().worker();
  const std::string rotated = *new_join_token(root);
  const std::string foreign = *new_join_token(*make_root_ca(*security::create_root(now())));
  struct Case {
    std::string token;
    const char* says;
  };
  const Case cases[] = {
      {"", "invalid join token"},
      {"SWMTKN-1-abc", "invalid join token"},
      {worker.substr(0, worker.size() - 1), "invalid join token"},
      {rotated,
       "A valid join token is necessary to join this cluster: this one is wrong, or was rotated"},
      {foreign,
       "A valid join token is necessary to join this cluster: this one is of another swarm, or its "
       "root certificate was rotated"},
  };
  for (const Case& c : cases) {
    const auto role = role_of_token(root, c.token);
    ASSERT_FALSE(role) << c.token;
    EXPECT_EQ(role.error().message(), c.says);
    EXPECT_EQ(role.error().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(role.error().reason(), "bad-join-token");
  }
}

TEST_F(Admit, ANewNodeIsWhatItsTokenAndItsRequestSay) {
  auto request = join_request(root_ca().join_tokens().manager());
  request.set_availability(v1::NodeSpec::DRAIN);
  request.set_address("10.0.0.7:2377");
  const auto admission = admit(store_.snapshot(), request, "10.0.0.7");
  ASSERT_TRUE(admission) << admission.error().to_string();
  EXPECT_FALSE(admission->known);
  const v1::Node& node = admission->node;
  EXPECT_EQ(node.id().size(), 25u);
  EXPECT_EQ(node.role(), v1::NodeSpec::MANAGER);
  EXPECT_EQ(node.spec().desired_role(), v1::NodeSpec::MANAGER);
  EXPECT_EQ(node.spec().availability(), v1::NodeSpec::DRAIN);
  EXPECT_EQ(node.description().hostname(), "host");
  EXPECT_EQ(node.status().state(), v1::NodeStatus::DOWN);
  EXPECT_EQ(node.status().address(), "10.0.0.7");
}

TEST_F(Admit, OneKeyIsOneNode) {
  const std::string key = *security::generate_key();
  const std::string token = root_ca().join_tokens().worker();
  const auto first = admit(store_.snapshot(), join_request(token, key), "h");
  ASSERT_TRUE(first);
  EXPECT_NE(admit(store_.snapshot(), join_request(token), "h")->node.id(), first->node.id());
  ASSERT_TRUE(write([&](store::Transaction& tx) { return tx.create(first->node); }).ok());
  // Meanwhile it was promoted: the store is right, not the token.
  ASSERT_TRUE(
      change_node(first->node.id(), [](v1::Node& n) { n.set_role(v1::NodeSpec::MANAGER); }).ok());
  const auto again = admit(store_.snapshot(), join_request(token, key), "h");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->known);
  EXPECT_EQ(again->node.id(), first->node.id());
  EXPECT_EQ(again->node.role(), v1::NodeSpec::MANAGER);

  ASSERT_TRUE(change_cluster([&](v1::Cluster& cluster) {
                cluster.add_removed_nodes()->set_node_id(first->node.id());
                return ok_status();
              }).ok());
  EXPECT_EQ(admit(store_.snapshot(), join_request(token, key), "h").error().reason(),
            "node-removed");
}

TEST_F(Admit, WhatMakesNoSenseIsRefused) {
  const std::string token = root_ca().join_tokens().manager();
  const auto refused = [&](std::function<void(v1::IssueCertificateRequest&)> spoil) {
    auto request = join_request(token);
    spoil(request);
    const auto admission = admit(store_.snapshot(), request, "h");
    return admission ? std::string("accepted") : admission.error().message();
  };
  EXPECT_EQ(refused([](auto&) {}), "accepted");
  EXPECT_EQ(refused([](auto& r) { r.set_signing_request_pem("x"); }),
            "not a PEM certificate request");
  EXPECT_EQ(refused([](auto& r) { r.set_signing_request_pem(std::string(20'000, 'x')); }),
            "the certificate request is too long");
  EXPECT_EQ(refused([](auto& r) { r.set_hostname("a\nb"); }), "the host name is not one");
  EXPECT_EQ(refused([](auto& r) { r.set_hostname(std::string(300, 'a')); }),
            "the host name is not one");
  EXPECT_EQ(refused([](auto& r) { r.set_address("nowhere"); }),
            "advertise address nowhere is not usable: it is not host:port");
  EXPECT_EQ(
      refused([](auto& r) { r.set_availability(static_cast<v1::NodeSpec::Availability>(9)); }),
      "unknown availability 9");
  EXPECT_EQ(admit(store::Snapshot(), join_request(token), "h").error().reason(), "not-ready");
}

TEST_F(Admit, RenewalsAreForNodesOfTheSwarmWithTheRoleTheyHaveNow) {
  add_node("m", "m", v1::NodeSpec::MANAGER);
  add_node("w", "w");
  const auto reason = [&](const security::Principal& caller) {
    const auto node = renewing_node(store_.snapshot(), caller);
    return node ? std::string("renewed") : node.error().reason();
  };
  EXPECT_EQ(reason(node_caller("w")), "renewed");
  EXPECT_EQ(reason(node_caller("w", true)), "renewed");  // a former manager: gets a worker's
  EXPECT_EQ(reason(node_caller("unknown")), "node-removed");
  EXPECT_EQ(reason({}), "bad-join-token");
  security::Principal foreign = node_caller("w");
  foreign.cluster_id = "c2";
  EXPECT_EQ(reason(foreign), "wrong-cluster");
  security::Principal user;
  user.kind = security::Principal::Kind::kLocalUser;
  EXPECT_EQ(reason(user), "bad-join-token");
  ASSERT_TRUE(change_cluster([&](v1::Cluster& cluster) {
                cluster.add_removed_nodes()->set_node_id("w");
                return ok_status();
              }).ok());
  EXPECT_EQ(reason(node_caller("w")), "node-removed");
}

TEST_F(Admit, CertificatesSayWhatTheStoreSays) {
  add_node("m", "m", v1::NodeSpec::MANAGER);
  add_node("w", "w");
  const std::string key = *security::generate_key();
  for (const char* id : {"m", "w"}) {
    const auto node = store_.snapshot().get<v1::Node>(id);
    const auto issued =
        issue(*store_.snapshot().cluster(), *node, *security::create_signing_request(key), now());
    ASSERT_TRUE(issued) << issued.error().to_string();
    EXPECT_TRUE(
        security::check_certificate(issued->certificate_pem(), issued->trust_root_pem(), key, now())
            .ok());
    const auto facts = security::read_certificate(issued->certificate_pem());
    EXPECT_EQ(facts->identity.node_id, id);
    EXPECT_EQ(facts->identity.cluster_id, "c1");
    EXPECT_EQ(facts->identity.role == security::CertificateRole::kManager,
              node->role() == v1::NodeSpec::MANAGER);
    EXPECT_EQ(facts->not_after - now(), 24h);
    const auto tls = describe_certificate(issued->certificate_pem(), issued->trust_root_pem());
    ASSERT_TRUE(tls);
    EXPECT_EQ(tls->issuer_public_key_der(), wanted_issuer(root_ca())->public_key_der);
    EXPECT_EQ(tls->not_after_ns(), facts->not_after.unix_ns);
  }
}

TEST_F(Admit, ACertificateLastsAMinuteAtLeastAndNinetyDaysByDefault) {
  add_node("w", "w");
  const auto request = *security::create_signing_request(*security::generate_key());
  const std::pair<Duration, Duration> cases[] = {{0s, 24h * 90}, {1s, 1min}, {30h, 30h}};
  for (const auto& [set, lasts] : cases) {
    ASSERT_TRUE(change_cluster([&, expiry = set](v1::Cluster& cluster) {
                  cluster.mutable_spec()->set_node_cert_expiry_ns(expiry.count());
                  return ok_status();
                }).ok());
    const auto issued =
        issue(*store_.snapshot().cluster(), *store_.snapshot().get<v1::Node>("w"), request, now());
    EXPECT_EQ(security::read_certificate(issued->certificate_pem())->not_after - now(), lasts);
  }
}

TEST_F(Admit, ManagersHearWhatTheirKeysAreWrappedWithBeforeTheyWriteThem) {
  ASSERT_TRUE(change_cluster([](v1::Cluster& cluster) {
                cluster.set_unlock_key("SWMKEY-1-x");
                return ok_status();
              }).ok());
  const std::string request = *security::create_signing_request(*security::generate_key());
  v1::Node node;
  node.set_id("n1");
  node.set_role(v1::NodeSpec::MANAGER);
  EXPECT_EQ(issue(*store_.snapshot().cluster(), node, request, now())->unlock_key(), "SWMKEY-1-x");
  node.set_role(v1::NodeSpec::WORKER);
  EXPECT_EQ(issue(*store_.snapshot().cluster(), node, request, now())->unlock_key(), "");
}

TEST_F(Admit, AManagerWhoseCertificateHasEndedSignsItsOwn) {
  const std::string key = *security::generate_key();
  const std::string request = *security::create_signing_request(key);
  add_node("m1", "host1", v1::NodeSpec::MANAGER);
  add_node("w1", "host2");
  const std::string root = own_signer(store_.snapshot(), "m1");
  EXPECT_EQ(root, store_.snapshot().cluster()->root_ca().certificate_pem());
  EXPECT_EQ(own_signer(store_.snapshot(), "w1"), "");
  EXPECT_EQ(own_signer(store::Snapshot(), "m1"), "");
  const auto own = sign_own(store_.snapshot(), "m1", request, now());
  ASSERT_TRUE(own) << own.error().to_string();
  EXPECT_TRUE(
      security::check_certificate(own->certificate_pem(), own->trust_root_pem(), key, now()).ok());
  EXPECT_EQ(own->role(), v1::NodeSpec::MANAGER);
  // Only what the state says it is.
  EXPECT_EQ(sign_own(store_.snapshot(), "w1", request, now()).error().code(),
            StatusCode::kPermissionDenied);
  EXPECT_EQ(sign_own(store_.snapshot(), "x1", request, now()).error().reason(), "node-removed");
  ASSERT_TRUE(change_cluster([](v1::Cluster& cluster) {
                cluster.add_removed_nodes()->set_node_id("m1");
                return ok_status();
              }).ok());
  EXPECT_EQ(sign_own(store_.snapshot(), "m1", request, now()).error().reason(), "node-removed");
  EXPECT_EQ(sign_own(store::Snapshot(), "m1", request, now()).error().reason(), "not-ready");
}

TEST_F(Admit, ClientsGetCertificatesOfTheirOwnKindForAWhile) {
  const std::string key = *security::generate_key();
  v1::IssueClientCertificateRequest request;
  request.set_name("alice.laptop-1");
  *request.mutable_signing_request_pem() = *security::create_signing_request(key);
  const auto ends_after = [&] {
    const auto issued = issue_client(store_.snapshot(), request, now());
    EXPECT_TRUE(issued) << issued.error().to_string();
    const auto facts = security::read_certificate(issued->certificate_pem());
    EXPECT_EQ(facts->identity, (security::CertificateIdentity{
                                   "alice.laptop-1", security::CertificateRole::kClient, "c1"}));
    EXPECT_EQ(issued->not_after_ns(), facts->not_after.unix_ns);
    EXPECT_TRUE(
        security::check_certificate(issued->certificate_pem(), issued->trust_root_pem(), key, now())
            .ok());
    // Seconds are what a certificate knows.
    return std::chrono::round<std::chrono::minutes>(facts->not_after - now());
  };
  EXPECT_EQ(ends_after(), 24h * 30);
  request.set_validity_ns(Duration(24h).count());
  EXPECT_EQ(ends_after(), 24h);
  const std::string good = request.signing_request_pem();
  for (const int64_t validity : {int64_t{-1}, int64_t{1}, Duration(24h * 366).count()}) {
    request.set_validity_ns(validity);
    EXPECT_EQ(issue_client(store_.snapshot(), request, now()).error().code(),
              StatusCode::kInvalidArgument)
        << validity;
  }
  request.set_validity_ns(0);
  request.set_signing_request_pem("nonsense");
  EXPECT_FALSE(issue_client(store_.snapshot(), request, now()));
  request.set_signing_request_pem(good);
  // The name is part of a subject that is read strictly.
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a,OU=swarm-manager"), std::string("a:b"),
        std::string("a+b"), std::string("\xc3\xa9"), std::string(65, 'a')}) {
    request.set_name(name);
    EXPECT_EQ(issue_client(store_.snapshot(), request, now()).error().code(),
              StatusCode::kInvalidArgument)
        << name;
  }
}

TEST(Address, OfManagersCanBeDialled) {
  for (const char* good : {"10.0.0.1:2377", "127.0.0.1:1", "[fd00::1]:65535"}) {
    EXPECT_TRUE(check_manager_address(good).ok()) << good;
  }
  for (const char* bad :
       {"", ":2377", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:x",
        "0.0.0.0:2377", "[::]:2377", "224.0.0.1:2377", "255.255.255.255:1", "[ff02::1]:2377",
        "fd00::1:2377", "host:2377", "[10.0.0.1]:2377", "10.0.0.1:2377 "}) {
    EXPECT_FALSE(check_manager_address(bad).ok()) << bad;
  }
}

TEST(Address, OfPeersInGrpcsForm) {
  EXPECT_EQ(peer_host("ipv4:10.0.0.1:40000"), "10.0.0.1");
  EXPECT_EQ(peer_host("ipv6:[fd00::1]:40000"), "fd00::1");
  EXPECT_EQ(peer_host("ipv6:%5Bfd00::1%5D:40000"), "fd00::1");
  EXPECT_EQ(peer_host("unix:/run/x"), "");
  EXPECT_EQ(peer_host(""), "");
}

}  // namespace
}  // namespace muster::manager::ca
