#pragma once

#include "muster/v1/agent.pb.h"

namespace muster::agent {

// What decides how new flows are led to a task of this node, of what is known of it here.
struct OwnEndpoint {
  v1::EndpointState state = v1::ENDPOINT_ABSENT;
  // It drains since managers want it to stop, and gets its signal when they say so: until then it
  // answers whoever comes.
  bool awaits_release = false;
};
OwnEndpoint own_endpoint(const v1::LocalTask& task);

// How they are led to it, where the feed of a network says `fed` of it (ABSENT: nothing, yet or any
// more). A task knows best whether it answers. But that it drains counts when the feed says so,
// which names those who take its place before: what is told of tasks is in force earlier than what
// is told of networks, and meanwhile a service would be refused that had only this one before, and
// has another by now. Pure.
v1::EndpointState led_as(const OwnEndpoint& own, v1::EndpointState fed);

}  // namespace muster::agent
