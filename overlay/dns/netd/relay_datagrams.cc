#include "overlay/dns/netd/relay_datagrams.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "overlay/dns/netd/relay_sockets.h"

namespace muster::overlay::dns {
namespace {

constexpr int kTurn = 64;                 // datagrams of one socket, until others have their turn
constexpr int kQueueMax = 1 << 16;        // datagrams in a socket's queue, at most
constexpr size_t kDatagramMax = 1 << 16;  // what the length field of UDP can say

}  // namespace

DatagramFlows::DatagramFlows(EventLoop& loop, Log log, Duration idle_max)
    : loop_(loop), log_(std::move(log)), idle_max_(idle_max) {}

DatagramFlows::~DatagramFlows() {
  abandon();
}

void DatagramFlows::abandon() {
  loop_.cancel(std::exchange(sweep_, 0));
  for (const Flow& flow : flows_) loop_.unwatch(flow.backend.get());
  by_client_.clear();
  flows_.clear();
}

// ---------------------------------------------------------------- from clients

void DatagramFlows::serve(int at, const Choose& choose) {
  for (int i = 0; i < kTurn && lead_one(at, choose); ++i) {
  }
}

bool DatagramFlows::lead_one(int at, const Choose& choose) {
  buffer_.resize(kDatagramMax);
  SocketAddress client;
  const ssize_t size = receive_from(at, buffer_.data(), buffer_.size(), client);
  if (size < 0) return errno == EINTR;
  const Key key{at, client};
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto known = by_client_.find(key);
    Flow* flow = known != by_client_.end() ? &*known->second : begin(key, choose(client));
    if (flow == nullptr) return true;
    if (send(flow->backend.get(), buffer_.data(), static_cast<size_t>(size), MSG_NOSIGNAL) >= 0) {
      moved(by_client_.at(key));
      return true;
    }
    // What is told here is the fate of an earlier one: nobody is there any more. Others may be.
    if (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != ENETUNREACH) return true;
    end(by_client_.at(key));
  }
  return true;
}

DatagramFlows::Flow* DatagramFlows::begin(const Key& key,
                                          const std::vector<SocketAddress>& backends) {
  for (auto to = backends.rbegin(); to != backends.rend(); ++to) {
    auto backend = connect_datagrams(*to);
    if (backend) return add(key, *std::move(backend), *to);
  }
  return nullptr;
}

DatagramFlows::Flow* DatagramFlows::add(const Key& key, UniqueFd backend, const SocketAddress& to) {
  if (flows_.size() >= kFlowsMax) {
    if (!std::exchange(full_said_, true)) {
      log_->warn(
          "{} relayed flows of datagrams are as many as there may be; those that are idle "
          "longest make room",
          kFlowsMax);
    }
    end(flows_.begin());
  }
  const Status watched =
      loop_.watch(backend.get(), EPOLLIN, [this, key](uint32_t) { answered(key); });
  if (!watched.ok()) return nullptr;
  const auto flow = flows_.insert(flows_.end(), {key, std::move(backend), to, loop_.now()});
  by_client_[key] = flow;
  if (sweep_ == 0) arm();
  return &*flow;
}

// ---------------------------------------------------------------- from backends

void DatagramFlows::answered(const Key& key) {
  const auto known = by_client_.find(key);
  if (known == by_client_.end()) return;
  const Flows::iterator flow = known->second;
  buffer_.resize(kDatagramMax);
  for (int i = 0; i < kTurn; ++i) {
    const ssize_t size = recv(flow->backend.get(), buffer_.data(), buffer_.size(), 0);
    if (size < 0) {
      // Refused: its client's next datagram finds somebody else, if there is anybody.
      if (errno != EAGAIN && errno != EINTR) end(flow);
      return;
    }
    send_to(key.first, buffer_.data(), static_cast<size_t>(size), key.second);
    moved(flow);
  }
}

// ---------------------------------------------------------------- ends

void DatagramFlows::moved(Flows::iterator flow) {
  flow->moved_at = loop_.now();
  flows_.splice(flows_.end(), flows_, flow);
}

void DatagramFlows::end(Flows::iterator flow) {
  loop_.unwatch(flow->backend.get());
  by_client_.erase(flow->key);
  flows_.erase(flow);
  if (flows_.size() < kFlowsMax / 2) full_said_ = false;
}

void DatagramFlows::keep_only(int at, const std::vector<SocketAddress>& backends) {
  for (auto it = flows_.begin(); it != flows_.end();) {
    const auto flow = it++;
    if (flow->key.first != at) continue;
    if (std::find(backends.begin(), backends.end(), flow->to) == backends.end()) end(flow);
  }
}

void DatagramFlows::close(int at, const Choose& choose) {
  for (int i = 0; i < kQueueMax && lead_one(at, choose); ++i) {
  }
  keep_only(at, {});
}

// One timer for all, due when the first flow may be.
void DatagramFlows::arm() {
  sweep_ = 0;
  if (flows_.empty()) return;
  sweep_ = loop_.after(flows_.front().moved_at + idle_max_ - loop_.now(), [this] { sweep(); });
}

void DatagramFlows::sweep() {
  const TimePoint now = loop_.now();
  while (!flows_.empty() && now - flows_.front().moved_at >= idle_max_) end(flows_.begin());
  arm();
}

// ---------------------------------------------------------------- to a successor

std::vector<DatagramFlows::Handed> DatagramFlows::flows_of(int at) const {
  std::vector<Handed> out;
  for (const Flow& flow : flows_) {
    if (flow.key.first == at) out.push_back({flow.key.second, flow.backend.get()});
  }
  return out;
}

void DatagramFlows::restore(int at, const SocketAddress& client, UniqueFd backend) {
  const SocketAddress to = remote_end(backend.get());
  add({at, client}, std::move(backend), to);
}

}  // namespace muster::overlay::dns
