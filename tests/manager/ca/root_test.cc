#include "manager/ca/root.h"

#include <gtest/gtest.h>

#include "tests/manager/ca/swarm_fixture.h"

namespace muster::manager::ca {
namespace {

TEST_F(Swarm, ANewRootHasTokensOfItsOwn) {
  const v1::RootCa root = root_ca();
  EXPECT_EQ(root.certificate_digest(), *security::certificate_digest(root.certificate_pem()));
  const auto worker = security::parse_join_token(root.join_tokens().worker());
  const auto manager = security::parse_join_token(root.join_tokens().manager());
  ASSERT_TRUE(worker && manager);
  EXPECT_EQ(worker->root_digest, root.certificate_digest());
  EXPECT_FALSE(security::same_secret(*worker, *manager));
  EXPECT_NE(*new_join_token(root), root.join_tokens().worker());
  EXPECT_FALSE(new_join_token({}));
}

TEST_F(Swarm, ARootIsGivenWholeOrMade) {
  const auto other = *security::create_root(now());
  EXPECT_TRUE(choose_root({}, {}, now()));
  EXPECT_EQ(choose_root(other.certificate_pem, other.key_pem, now())->certificate_pem,
            other.certificate_pem);
  EXPECT_EQ(choose_root(other.certificate_pem, {}, now()).error().message(),
            "a CA certificate needs its key: managers sign with it");
  EXPECT_EQ(choose_root({}, other.key_pem, now()).error().message(),
            "a CA key is of no use without the CA certificate");
  EXPECT_FALSE(choose_root(other.certificate_pem, root_ca().key_pem(), now()));
}

TEST_F(Swarm, DuringARotationBothRootsAreTrustedAndTheNextOneSigns) {
  const v1::RootCa before = root_ca();
  EXPECT_EQ(*trust_bundle(before), before.certificate_pem());
  EXPECT_EQ(signer(before).root.certificate_pem, before.certificate_pem());
  EXPECT_EQ(signer(before).intermediates_pem, "");

  ASSERT_TRUE(rotate().ok());
  const v1::RootCa during = root_ca();
  EXPECT_EQ(during.certificate_pem(), before.certificate_pem());  // as in the tokens
  EXPECT_EQ(during.join_tokens().worker(), before.join_tokens().worker());
  EXPECT_EQ(*trust_bundle(during), before.certificate_pem() + during.rotation().certificate_pem());
  EXPECT_EQ(signer(during).root.certificate_pem, during.rotation().certificate_pem());
  EXPECT_EQ(signer(during).intermediates_pem, during.rotation().cross_signed_pem());
  EXPECT_EQ(*wanted_issuer(during), *security::issuer_of_root(during.rotation().certificate_pem()));
  EXPECT_EQ(during.last_forced_rotation(), before.last_forced_rotation() + 1);
  // The cross-signed certificate is the next root's, vouched for by the present one.
  EXPECT_TRUE(security::check_certificate(during.rotation().cross_signed_pem(),
                                          before.certificate_pem(), {}, now())
                  .ok());
}

TEST_F(Swarm, ARotationWaitsForEveryNodeByName) {
  add_node("id-a", "zebra");
  add_node("id-b", "ant");
  add_node("id-c", "");
  EXPECT_TRUE(nodes_to_renew(store_.snapshot()).empty());  // none is under way
  EXPECT_FALSE(may_finish_rotation(store_.snapshot()));
  ASSERT_TRUE(rotate().ok());
  EXPECT_EQ(nodes_to_renew(store_.snapshot()), (std::vector<std::string>{"ant", "id-c", "zebra"}));
  report("id-b");
  EXPECT_EQ(nodes_to_renew(store_.snapshot()), (std::vector<std::string>{"id-c", "zebra"}));
  report("id-a");
  EXPECT_FALSE(may_finish_rotation(store_.snapshot()));
  report("id-c");
  EXPECT_TRUE(may_finish_rotation(store_.snapshot()));
  EXPECT_TRUE(nodes_to_renew(store_.snapshot()).empty());
}

TEST_F(Swarm, AfterTheRotationTheNewRootIsTheOnlyOne) {
  const v1::RootCa before = root_ca();
  ASSERT_TRUE(rotate().ok());
  const v1::RootCa during = root_ca();
  v1::RootCa after = during;
  ASSERT_TRUE(finish_rotation(after).ok());
  EXPECT_EQ(after.certificate_pem(), during.rotation().certificate_pem());
  EXPECT_EQ(after.key_pem(), during.rotation().key_pem());
  EXPECT_FALSE(after.has_rotation());
  EXPECT_EQ(after.certificate_digest(), *security::certificate_digest(after.certificate_pem()));
  EXPECT_EQ(*trust_bundle(after), after.certificate_pem());
  EXPECT_EQ(security::parse_join_token(after.join_tokens().manager())->root_digest,
            after.certificate_digest());
  const v1::RootCa once = after;
  ASSERT_TRUE(finish_rotation(after).ok());
  EXPECT_EQ(after.SerializeAsString(), once.SerializeAsString());
}

// A certificate of the root that was given up on the way is good as long as its holder needs it.
TEST_F(Swarm, ASecondRotationTakesThePlaceOfTheFirst) {
  add_node("id-a", "ant");
  ASSERT_TRUE(rotate().ok());
  report("id-a");
  const std::string key = *security::generate_key();
  const auto node = store_.snapshot().get<v1::Node>("id-a");
  const auto of_first =
      issue(*store_.snapshot().cluster(), *node, *security::create_signing_request(key), now());
  ASSERT_TRUE(of_first) << of_first.error().to_string();

  ASSERT_TRUE(rotate().ok());
  EXPECT_EQ(nodes_to_renew(store_.snapshot()), (std::vector<std::string>{"ant"}));
  const auto of_second =
      issue(*store_.snapshot().cluster(), *node, *security::create_signing_request(key), now());
  const std::string bundle = *trust_bundle(root_ca());
  for (const auto& issued : {of_first, of_second}) {
    EXPECT_TRUE(security::check_certificate(issued->certificate_pem(), bundle, key, now()).ok());
    EXPECT_TRUE(security::check_certificate(issued->certificate_pem(), of_first->trust_root_pem(),
                                            key, now())
                    .ok());
  }
}

TEST_F(Swarm, TheRootOfOthersIsTakenAndThePresentOneGoesBack) {
  const auto other = *security::create_root(now());
  v1::RotateRoot request;
  request.set_certificate_pem(other.certificate_pem);
  EXPECT_FALSE(rotate(request).ok());  // without its key
  request.set_key_pem(other.key_pem);
  ASSERT_TRUE(rotate(request).ok());
  EXPECT_EQ(root_ca().rotation().certificate_pem(), other.certificate_pem);

  v1::RotateRoot back;
  back.set_certificate_pem(root_ca().certificate_pem());
  back.set_key_pem(root_ca().key_pem());
  ASSERT_TRUE(rotate(back).ok());
  EXPECT_FALSE(root_ca().has_rotation());
  EXPECT_EQ(rotate(back).message(), "this is the swarm's root certificate already");
}

}  // namespace
}  // namespace muster::manager::ca
