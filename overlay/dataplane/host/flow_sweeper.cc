#include "overlay/dataplane/host/flow_sweeper.h"

#include <linux/netlink.h>

#include <algorithm>
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

void FlowSweeper::lose(std::set<Ip> backends) {
  std::lock_guard lock(mutex_);
  // Of those that were lost before nothing new is to be found.
  const bool more = !std::includes(lost_.begin(), lost_.end(), backends.begin(), backends.end());
  lost_ = std::move(backends);
  if (!more) return;
  strand_.post([this] { look_at_lost(); });
}

void FlowSweeper::look_at_lost() {
  std::vector<FlowFilter> flows;
  {
    std::lock_guard lock(mutex_);
    for (const Ip& ip : lost_) flows.push_back({.backend = ip, .lasting = Lasting::kEstablished});
  }
  if (flows.empty()) return;
  const auto swept = delete_flows(conntrack_, flows);
  if (!swept) log_->warn("cannot clear stale connections: {}", swept.error().message());
  if (swept && swept->deleted != 0) log_->debug("{} stale connections cleared", swept->deleted);
  if (looks_later_ || (swept && swept->established == 0)) return;
  looks_later_ = true;
  strand_.after(kLostTime, [this] {
    looks_later_ = false;
    look_at_lost();
  });
}

void FlowSweeper::sweep() {
  std::vector<FlowFilter> flows;
  {
    std::lock_guard lock(mutex_);
    flows.swap(waiting_);
  }
  delete_some(flows, {});
}

void FlowSweeper::delete_some(const std::vector<FlowFilter>& flows,
                              const std::set<uint32_t>& awaited) {
  auto swept = delete_flows(conntrack_, flows, awaited);
  if (!swept) {
    log_->warn("cannot clear stale connections: {}", swept.error().message());
    return;
  }
  if (swept->deleted != 0) log_->debug("{} stale connections cleared", swept->deleted);
  // Of the second look none is left: what has come since is not stale.
  if (swept->awaited.empty() || !awaited.empty()) return;
  strand_.after(kAnswerTime,
                [this, flows, left = std::move(swept->awaited)] { delete_some(flows, left); });
}

}  // namespace muster::overlay
