#include "deploy/daemon/node_identity.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "base/security/x509.h"
#include "base/sim_executor.h"

namespace muster::daemon {
namespace {

// A clock that somebody sets.
class SetClock final : public Clock {
 public:
  explicit SetClock(const SimWorld& world) : world_(world) {}
  TimePoint now() const override { return world_.now(); }
  WallTime wall_now() const override { return world_.wall_now() + offset; }
  Duration offset{0};

 private:
  const SimWorld& world_;
};

class SetStrand final : public Executor {
 public:
  SetStrand(SimWorld& world, const Clock& clock) : strand_(world), clock_(clock) {}
  void post(UniqueFunction<void()> f) override { strand_.post(std::move(f)); }
  TimerId after(Duration delay, UniqueFunction<void()> f) override {
    return strand_.after(delay, std::move(f));
  }
  void cancel(TimerId timer) override { strand_.cancel(timer); }
  bool is_current() const override { return strand_.is_current(); }
  const Clock& clock() const override { return clock_; }

 private:
  SimExecutor strand_;
  const Clock& clock_;
};

class NodeIdentityTest : public ::testing::Test {
 protected:
  security::NodeCredentials issue(security::CertificateRole role, Duration validity) {
    security::NodeCredentials out;
    out.root_pem = root_.certificate_pem;
    out.node.key_pem = *security::generate_key();
    const auto request = security::create_signing_request(out.node.key_pem);
    out.node.certificate_pem =
        *security::sign_request(root_, *request, {"n", role, "c"}, clock_.wall_now(), validity);
    return out;
  }

  void start(security::CertificateRole role, Duration validity = 24h) {
    auto tls = *security::TlsIdentity::create(issue(role, validity));
    NodeIdentity::Deps deps{
        strand_,
        rng_,
        null_log(),
        [this](const auto& identity, WallTime now, NodeIdentity::Renewed done) {
          ++asked_;
          const Status valid =
              security::check_certificate(identity->current()->credentials.node.certificate_pem,
                                          identity->current()->credentials.root_pem, {}, now);
          auto answer = [this, role = identity->current()->facts.identity.role,
                         valid]() -> Result<manager::ca::Issued> {
            if (!valid.ok()) return fail(valid);
            if (refuse_) return fail(*refuse_);
            manager::ca::Issued issued;
            issued.credentials = issue(role, 24h);
            issued.manager = role == security::CertificateRole::kManager;
            return issued;
          };
          strand_.post([done = std::move(done), answer]() mutable { done(answer()); });
        },
        [this](const security::NodeCredentials&, const NodeIdentity::Lock&) {
          ++saved_;
          return save_;
        },
        [](const NodeIdentity::Lock&, const NodeIdentity::Lock&) { return ok_status(); },
        [this] { ++changed_; },
        [this](const std::string& why) { trouble_ = why; },
        [this](const std::string& why) { removed_ = why; },
        [this](const std::string& request) -> Result<v1::IssueCertificateResponse> {
          ++own_;
          v1::IssueCertificateResponse response;
          response.set_node_id("n");
          response.set_cluster_id("c");
          response.set_trust_root_pem(root_.certificate_pem);
          response.set_certificate_pem(*security::sign_request(
              root_, request, {"n", security::CertificateRole::kManager, "c"}, clock_.wall_now(),
              24h));
          return response;
        }};
    identity_ = std::make_unique<NodeIdentity>(std::move(deps), std::move(tls), std::nullopt);
    identity_->start();
  }
  const security::CertificateFacts facts() { return identity_->tls()->current()->facts; }

  SimWorld world_;
  SetClock clock_{world_};
  SetStrand strand_{world_, clock_};
  SeededRng rng_{7};
  security::CertificateAndKey root_ = *security::create_root(world_.wall_now() - 48h);
  std::optional<Status> refuse_;
  Status save_;
  int asked_ = 0;
  int saved_ = 0;
  int changed_ = 0;
  int own_ = 0;
  std::string trouble_;
  std::string removed_;
  std::unique_ptr<NodeIdentity> identity_;
};

TEST_F(NodeIdentityTest, IsRenewedBetweenAHalfAndFourFifthsOfItsLife) {
  start(security::CertificateRole::kWorker, 10h);
  world_.advance(5h - 1s);
  EXPECT_EQ(asked_, 0);
  world_.advance(3h + 1s);
  EXPECT_EQ(asked_, 1);
  EXPECT_EQ(saved_, 1);
  EXPECT_EQ(changed_, 1);
}

TEST_F(NodeIdentityTest, AClockThatIsSetForwardIsSeenWithinAMinute) {
  start(security::CertificateRole::kWorker, 24h);
  clock_.offset = 20h;
  world_.advance(61s);
  EXPECT_EQ(asked_, 1);
  EXPECT_TRUE(trouble_.empty());
}

TEST_F(NodeIdentityTest, AManagerWhoseClockWasFarAheadHelpsItselfWithinAMinuteOfItsBeingRight) {
  clock_.offset = 5h;
  start(security::CertificateRole::kManager);
  clock_.offset = Duration(0);
  world_.advance(61s);
  EXPECT_EQ(own_, 1);
  EXPECT_LE(facts().not_before, world_.wall_now());
}

TEST_F(NodeIdentityTest, AWorkerWhoseClockWasFarAheadSaysSo) {
  clock_.offset = 5h;
  start(security::CertificateRole::kWorker);
  clock_.offset = Duration(0);
  world_.advance(61s);
  EXPECT_EQ(own_, 0);
  EXPECT_NE(trouble_.find("set the clock"), std::string::npos) << trouble_;
  // Until it may.
  world_.advance(4h + 1min + 1h);
  EXPECT_EQ(saved_, 1);
}

TEST_F(NodeIdentityTest, WhatCannotBeKeptIsNotUsed) {
  start(security::CertificateRole::kWorker, 10h);
  const WallTime before = facts().not_after;
  save_ = unavailable("the disk is full");
  world_.advance(8h + 1min);
  EXPECT_GT(saved_, 1);
  EXPECT_EQ(changed_, 0);
  EXPECT_EQ(facts().not_after, before);
}

TEST_F(NodeIdentityTest, WhoWasRemovedIsToldOnceAndAsksNoMore) {
  start(security::CertificateRole::kWorker, 10h);
  refuse_ = Status(StatusCode::kPermissionDenied, "it was removed", "node-removed");
  world_.advance(20h);
  EXPECT_EQ(removed_, "it was removed");
  EXPECT_EQ(asked_, 1);
}

}  // namespace
}  // namespace muster::daemon
