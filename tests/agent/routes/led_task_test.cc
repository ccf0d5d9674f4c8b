#include "agent/routes/led_task.h"

#include <gtest/gtest.h>

namespace muster::agent {
namespace {

v1::LocalTask local(v1::EndpointState state, bool stop_asked, v1::EndpointState assigned) {
  v1::LocalTask out;
  out.set_endpoint_state(state);
  out.set_stop_asked(stop_asked);
  out.mutable_assignment()->mutable_task()->set_endpoint_state(assigned);
  return out;
}

TEST(LedTask, OnlyOneThatManagersLetGoAwaitsItsRelease) {
  struct Case {
    v1::LocalTask task;
    bool awaits;
  };
  const Case cases[] = {
      {local(v1::ENDPOINT_DRAINING, true, v1::ENDPOINT_DRAINING), true},
      // It is ill.
      {local(v1::ENDPOINT_DRAINING, false, v1::ENDPOINT_DRAINING), false},
      {local(v1::ENDPOINT_DRAINING, false, v1::ENDPOINT_READY), false},
      // It was released, or has its signal.
      {local(v1::ENDPOINT_DRAINING, true, v1::ENDPOINT_RELEASED), false},
      {local(v1::ENDPOINT_RELEASED, true, v1::ENDPOINT_RELEASED), false},
      {local(v1::ENDPOINT_READY, false, v1::ENDPOINT_READY), false},
      {local(v1::ENDPOINT_ABSENT, false, v1::ENDPOINT_DRAINING), false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(own_endpoint(c.task).awaits_release, c.awaits) << c.task.ShortDebugString();
    EXPECT_EQ(own_endpoint(c.task).state, c.task.endpoint_state());
  }
}

TEST(LedTask, ItsOwnWordCountsButForWhenItIsPassedBy) {
  constexpr auto kAbsent = v1::ENDPOINT_ABSENT;
  constexpr auto kReady = v1::ENDPOINT_READY;
  constexpr auto kDraining = v1::ENDPOINT_DRAINING;
  constexpr auto kReleased = v1::ENDPOINT_RELEASED;
  struct Case {
    OwnEndpoint own;
    v1::EndpointState fed, led;
  };
  const Case cases[] = {
      {{kAbsent, false}, kAbsent, kAbsent},       {{kAbsent, false}, kReady, kAbsent},
      {{kReady, false}, kAbsent, kReady},         {{kReady, false}, kReady, kReady},
      {{kReady, false}, kDraining, kDraining},    {{kReady, false}, kReleased, kReleased},
      {{kDraining, true}, kReady, kReady},        {{kDraining, true}, kAbsent, kReady},
      {{kDraining, true}, kDraining, kDraining},  {{kDraining, true}, kReleased, kReleased},
      {{kDraining, false}, kReady, kDraining},    {{kReleased, false}, kReady, kReleased},
      {{kDraining, false}, kReleased, kReleased},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(led_as(c.own, c.fed), c.led)
        << c.own.state << (c.own.awaits_release ? " awaits release, " : ", ") << c.fed;
  }
}

}  // namespace
}  // namespace muster::agent
