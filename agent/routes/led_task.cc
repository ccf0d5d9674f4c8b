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
  if (!answers) return own.state;
  const bool goes = fed == v1::ENDPOINT_DRAINING || fed == v1::ENDPOINT_RELEASED;
  return goes ? v1::ENDPOINT_DRAINING : v1::ENDPOINT_READY;
}

}  // namespace muster::agent
