#include "overlay/dataplane/host/flow_sweeper.h"

#include <linux/netlink.h>

#include <iterator>
#include <utility>

namespace muster::overlay {

Result<NetlinkSocket> FlowSweeper::open_socket() {
  return NetlinkSocket::open(NETLINK_NETFILTER);
}

FlowSweeper::FlowSweeper(NetlinkSocket conntrack, Log log)
    : conntrack_(std::move(conntrack)), log_(std::move(log)), strand_("muster-flows") {}

FlowSweeper::~FlowSweeper() {
  stop();
}

void FlowSweeper::forget(std::vector<FlowFilter> flows) {
  if (flows.empty()) return;
  std::lock_guard lock(mutex_);
  if (waiting_.empty()) strand_.post([this] { sweep(); });
  std::move(flows.begin(), flows.end(), std::back_inserter(waiting_));
}

void FlowSweeper::sweep() {
  std::vector<FlowFilter> flows;
  {
    std::lock_guard lock(mutex_);
    flows.swap(waiting_);
  }
  const auto deleted = delete_flows(conntrack_, flows);
  if (!deleted) {
    log_->warn("cannot clear stale connections: {}", deleted.error().message());
  } else if (*deleted != 0) {
    log_->debug("{} stale connections cleared", *deleted);
  }
}

}  // namespace muster::overlay
