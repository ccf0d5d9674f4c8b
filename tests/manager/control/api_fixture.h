#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "base/sim_executor.h"
#include "manager/control/control_api.h"
#include "tests/manager/control/no_node.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::control {

// The control API of a leader over a store in virtual time, called by a local user. Derived
// fixtures activate it, with what else it is to know.
class ApiFixture : public testing::Test {
 protected:
  ApiFixture() {
    user_.kind = Principal::Kind::kLocalUser;
    store_.lead(1);
  }

  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& c) { outcome = c.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  template <class Request, class Response>
  Result<Response> call(void (ControlApi::*method)(const Principal&, const Request&,
                                                   Callback<Response>),
                        const Request& request) {
    std::optional<Result<Response>> out;
    (api_.*method)(user_, request, [&](Result<Response> r) { out.emplace(std::move(r)); });
    world_.settle();
    return out.has_value() ? *out : Result<Response>(fail(internal_error("no answer")));
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  SeededRng rng_{1};
  NoNode node_;
  ControlApi api_{strand_, rng_, node_, null_log()};
  Principal user_;
};

}  // namespace muster::manager::control
