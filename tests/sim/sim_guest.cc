#include "tests/sim/sim_guest.h"

namespace muster::sim {

SimGuest::Life::Life(SimGuest& guest)
    : strand(guest.deps_.world, guest.deps_.clock),
      session({strand, guest, guest, guest.deps_.rng, null_log()}, guest.describe(),
              {"the manager"}) {}

v1::NodeDescription SimGuest::describe() const {
  v1::NodeDescription description;
  description.set_hostname(name_);
  description.mutable_platform()->set_os("linux");
  description.mutable_platform()->set_architecture("amd64");
  *description.mutable_tls() = deps_.identity.tls();
  return description;
}

void SimGuest::start() {
  if (life_ != nullptr || !deps_.identity.has_certificate()) return;
  life_ = std::make_unique<Life>(*this);
  life_->strand.post([this] {
    deps_.identity.started(life_->strand, [this] {
      // Not inside what the session has just told.
      life_->strand.post([this] {
        life_->session.describe(describe());
        life_->session.renew();
      });
    });
    life_->session.start();
  });
}

void SimGuest::kill() {
  if (life_ == nullptr) return;
  deps_.identity.ended();
  life_.reset();
}

void SimGuest::apply(const v1::FeedUpdate& step) {
  if (step.has_cluster()) deps_.identity.heard(step.cluster());
  // Without tasks there is nothing to do.
  const auto kind = step.feed().kind();
  if (kind == v1::FeedId::NETWORK || kind == v1::FeedId::TASKS) {
    life_->session.applied(step.feed(), step.version());
  }
}

}  // namespace muster::sim
