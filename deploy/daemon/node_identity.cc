#include "deploy/daemon/node_identity.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/security/renewal.h"
#include "base/security/x509.h"

namespace muster::daemon {
namespace {

// Timers of weeks are split: a wall clock that is set meanwhile must be seen.
constexpr Duration kLook = 1min;
constexpr Duration kRefused = 2s;
// How many nodes renew when all do; the feed does not say.
constexpr uint64_t kNodesGuess = 100;

}  // namespace

NodeIdentity::NodeIdentity(Deps deps, std::shared_ptr<security::TlsIdentity> identity, Lock lock)
    : deps_(std::move(deps)),
      identity_(std::move(identity)),
      lock_(std::move(lock)),
      due_(security::renewal_due(identity_->current()->facts, deps_.rng)) {}

NodeIdentity::~NodeIdentity() {
  deps_.strand.cancel(timer_);
}

bool NodeIdentity::manager() const {
  return identity_->current()->facts.identity.role == security::CertificateRole::kManager;
}

void NodeIdentity::start() {
  arm(std::min(until_due(), kLook), {});
}

Duration NodeIdentity::until_due() const {
  return std::max(due_ - deps_.strand.clock().wall_now(), Duration(0));
}

// The earliest of what was asked for.
void NodeIdentity::arm(Duration wait, std::string why) {
  MUSTER_CHECK(deps_.strand.is_current());
  const TimePoint due = deps_.strand.clock().now() + wait;
  // A reason is never given up for a mere look, however early that would be.
  const bool gains_reason = armed_why_.empty() && !why.empty();
  const bool loses_reason = !armed_why_.empty() && why.empty();
  if (timer_ != 0 && (loses_reason || (!gains_reason && timer_due_ <= due))) return;
  deps_.strand.cancel(timer_);
  timer_due_ = due;
  armed_why_ = std::move(why);
  timer_ = deps_.strand.after(wait, [this] {
    timer_ = 0;
    if (const std::string why = std::exchange(armed_why_, {}); !why.empty()) {
      deps_.log->info("a new certificate is asked for: {}", why);
      return renew();
    }
    // One that was made while this clock was far ahead is not valid yet once it is right again:
    // nobody takes it, and that may last for hours.
    const security::CertificateFacts facts = identity_->current()->facts;
    const bool early = deps_.strand.clock().wall_now() < facts.not_before;
    if (!early && until_due() > Duration(0)) return arm(std::min(until_due(), kLook), {});
    deps_.log->info("a new certificate is asked for: this one is valid from {} to {}",
                    format_rfc3339(facts.not_before), format_rfc3339(facts.not_after));
    renew();
  });
}

void NodeIdentity::heard(const v1::ClusterFeed& feed) {
  const auto current = identity_->current();
  const IdentityPlan plan = plan_identity(*current, feed);
  if (!plan.trust_root_pem.empty()) {
    security::NodeCredentials credentials = current->credentials;
    credentials.root_pem = plan.trust_root_pem;
    // A certificate that the new trust does not vouch for has to be replaced first; with it comes
    // the trust.
    if (const Status taken = take(std::move(credentials)); !taken.ok()) {
      deps_.log->warn("the swarm's new root is not trusted yet: {}", taken.message());
    }
  }
  if (under_way_) {
    meanwhile_ = feed;
    return;
  }
  switch (plan.renewal) {
    case IdentityPlan::Renewal::kNone: return;
    case IdentityPlan::Renewal::kSpread:
      return arm(security::renewal_spread(kNodesGuess, deps_.rng), plan.why);
    case IdentityPlan::Renewal::kNow: return arm(Duration(0), plan.why);
  }
}

void NodeIdentity::renew_soon(const std::string& why) {
  if (under_way_) return;
  arm(failures_ == 0 ? Duration(0) : kRefused, why);
}

void NodeIdentity::renew() {
  if (std::exchange(under_way_, true)) return;
  deps_.renew(identity_, deps_.strand.clock().wall_now(),
              [this, alive = std::weak_ptr<int>(alive_)](Result<manager::ca::Issued> answer) {
                if (!alive.expired()) renewed(answer);
              });
}

void NodeIdentity::renewed(const Result<manager::ca::Issued>& answer) {
  under_way_ = false;
  if (!answer) {
    if (answer.error().reason() == "node-removed") {
      return deps_.removed(answer.error().message());
    }
    return failed(answer.error());
  }
  // A manager's first key is wrapped from the first; later the lock follows what managers say, the
  // log's keys before this one.
  if (answer->manager && !manager()) lock_ = answer->lock;
  if (const Status taken = take(answer->credentials); !taken.ok()) return failed(taken);
  failures_ = 0;
  due_ = security::renewal_due(identity_->current()->facts, deps_.rng);
  deps_.log->info("certificate renewed: a {}'s, until {}", manager() ? "manager" : "worker",
                  format_rfc3339(identity_->current()->facts.not_after));
  arm(std::min(until_due(), kLook), {});
  // What was said meanwhile may want yet another one.
  if (const auto feed = std::exchange(meanwhile_, std::nullopt)) heard(*feed);
}

// On disk before it is used: a restart must not go back to what others may refuse by then.
Status NodeIdentity::take(security::NodeCredentials credentials) {
  MUSTER_TRY(security::check_certificate(credentials.node.certificate_pem, credentials.root_pem,
                                         credentials.node.key_pem,
                                         deps_.strand.clock().wall_now()));
  MUSTER_TRY(deps_.save(credentials, lock_));
  MUSTER_TRY(identity_->replace(std::move(credentials)));
  deps_.changed();
  return ok_status();
}

void NodeIdentity::failed(const Status& why) {
  const auto current = identity_->current();
  const WallTime now = deps_.strand.clock().wall_now();
  const Status valid = security::check_validity(current->facts, now);
  Duration wait = security::renewal_retry(current->facts, now, ++failures_, deps_.rng);
  if (!valid.ok() && manager()) {
    const Status own = sign_own();
    if (own.ok()) return;
    deps_.log->warn("{}; this manager cannot sign its own either: {}", valid.message(),
                    own.message());
    wait = wait_after(own, wait);
  }
  if (!valid.ok()) deps_.trouble(valid.message());
  deps_.log->warn("the certificate could not be renewed, next attempt in {}: {}",
                  format_duration(wait), why.message());
  arm(wait, "the last attempt failed");
}

// Nobody lets one in whose certificate has ended, so nobody would give it another. But managers can
// all be in that state, or the only one, and each has what the swarm's certificates are signed
// with.
Status NodeIdentity::sign_own() {
  MUSTER_ASSIGN(const std::string key, security::generate_key());
  MUSTER_ASSIGN(const std::string request, security::create_signing_request(key));
  MUSTER_ASSIGN(auto signed_here, deps_.sign_own(request));
  MUSTER_ASSIGN(const auto issued,
                manager::ca::accept(std::move(signed_here), key, deps_.strand.clock().wall_now()));
  const std::string ended = format_rfc3339(identity_->current()->facts.not_after);
  MUSTER_TRY(take(issued.credentials));
  failures_ = 0;
  due_ = security::renewal_due(identity_->current()->facts, deps_.rng);
  deps_.log->warn(
      "the certificate that was in force until {} could not be renewed: this manager has signed "
      "itself another one, until {}",
      ended, format_rfc3339(identity_->current()->facts.not_after));
  arm(std::min(until_due(), kLook), {});
  return ok_status();
}

Status NodeIdentity::set_lock(const Lock& lock) {
  if (lock == lock_) return ok_status();
  MUSTER_TRY(deps_.rewrap(lock_, lock));
  lock_ = lock;
  return ok_status();
}

}  // namespace muster::daemon
