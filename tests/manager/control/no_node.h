#pragma once

#include <string>

#include "manager/control/control_api.h"

namespace muster::manager::control {

// A daemon that agrees to everything, for tests of what the API does without one.
class NoNode final : public NodeControl {
 public:
  void init_swarm(const v1::InitSwarmRequest&, Callback<v1::InitSwarmResponse> done) override {
    done(v1::InitSwarmResponse());
  }
  void leave_swarm(const v1::LeaveSwarmRequest&, Callback<v1::LeaveSwarmResponse> done) override {
    done(v1::LeaveSwarmResponse());
  }
  void get_info(Callback<v1::GetInfoResponse> done) override { done(v1::GetInfoResponse()); }
  std::string node_id() const override { return "self"; }
  Result<std::string> new_join_token(const v1::Cluster&) override { return std::string("token"); }
};

}  // namespace muster::manager::control
