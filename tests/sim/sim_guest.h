#pragma once

#include <memory>
#include <string>

#include "agent/session/session.h"
#include "base/rng.h"
#include "tests/sim/sim_host_identity.h"
#include "tests/sim/sim_local_clock.h"
#include "tests/sim/sim_network.h"

namespace muster::sim {

// The agent of a node that runs no tasks: a manager's own, or one that joins, drained, and may be
// removed. Its session and its certificate are the real ones.
class SimGuest final : agent::FeedSink, agent::LinkFactory {
 public:
  struct Deps {
    SimWorld& world;
    SimNetwork& network;
    Rng& rng;
    const LocalClock& clock;
    HostIdentity& identity;
  };
  SimGuest(Deps deps, std::string id, std::string name)
      : deps_(deps), id_(std::move(id)), name_(std::move(name)) {}
  ~SimGuest() override { kill(); }

  // Nothing without a certificate. Not from inside its own callbacks.
  void start();
  void kill();
  bool up() const { return life_ != nullptr; }
  bool established() const { return up() && life_->session.established(); }

 private:
  struct Life {
    explicit Life(SimGuest& guest);
    LocalStrand strand;
    agent::Session session;
  };
  void apply(const v1::FeedUpdate& step) override;
  void node_removed(const std::string& why) override { deps_.identity.removed(why); }
  void certificate_outdated(const std::string& why) override { deps_.identity.outdated(why); }
  std::unique_ptr<agent::ManagerLink> open(const std::string&, agent::LinkEvents events) override {
    return deps_.network.open(id_, life_->strand.world_strand(), std::move(events));
  }
  v1::NodeDescription describe() const;

  Deps deps_;
  const std::string id_;
  const std::string name_;
  std::unique_ptr<Life> life_;
};

}  // namespace muster::sim
