#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/esp/esp_plan.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {

// IPsec states and policies as netlink messages (NETLINK_XFRM), there and back.

// What is whose: states by the request id, policies by the mark.
struct EspOwner {
  uint32_t reqid = 0;
  uint32_t mark = 0;
  Ip self;
  uint16_t port = 0;  // of VXLAN; 0: of any
};

Message esp_message(const EspChange& change, const EspOwner& owner);
Message esp_add_state(const EspStateId& id, const EspState& state, uint32_t reqid,
                      const EspNumbers& numbers = {});
// The numbers that a state's attribute XFRMA_REPLAY_ESN_VAL holds; none where it is too short.
EspNumbers read_replay(std::string_view value);
// All of the owner's, whatever its address and port are now.
Result<EspKernel> list_esp(NetlinkSocket& socket, const EspOwner& owner);
// Deletes all of the owner's policies and states: nothing is left over.
Status clear_esp(NetlinkSocket& socket, const EspOwner& owner);

}  // namespace muster::overlay
