#include "agent/routes/led_task.h"

namespace muster::agent {

OwnEndpoint own_endpoint(const v1::LocalTask& task) {
  OwnEndpoint out;
  out.state = task.endpoint_state();
  // One that is ill, or that nobody waits for, is not asked to stop or was released.
  out.awaits_release = out.state == v1::ENDPOINT_DRAINING && task.stop_asked() &&
                       task.assignment().task().endpoint_state() == v1::ENDPOINT_DRAINING;
  return out;
}

v1::EndpointState led_as(const OwnEndpoint& own, v1::EndpointState fed) {
  const bool answers = own.awaits_release || own.state == v1::ENDPOINT_READY;
  // Datagrams of this node's containers go elsewhere then, as those of other nodes do: while they
  // come it is not told to end, and in the end what it gets is lost.
  const bool released = fed == v1::ENDPOINT_RELEASED;
  if (!answers) return released && own.state == v1::ENDPOINT_DRAINING ? fed : own.state;
  return released || fed == v1::ENDPOINT_DRAINING ? fed : v1::ENDPOINT_READY;
}

}  // namespace muster::agent
