#include "overlay/dataplane/vip/ipvs_place.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/first_use.h"
#include "overlay/dataplane/vip/ipvs_rules.h"
#include "overlay/dataplane/vip/ipvs_wire.h"

namespace muster::overlay {
namespace {

// How often a change is tried anew when others change the namespace meanwhile.
constexpr int kTries = 5;
// Requests in one system call.
constexpr size_t kRequestsAtOnce = 1000;
// Services whose backends are compared at a time.
constexpr size_t kLookedAtOnce = 64;

// A connection is remembered for as long as the kernel's connection tracking remembers one
// (nf_conntrack_tcp_timeout_established, 5 days): IPVS's own 15 minutes are less than the 2 hours
// after which TCP asks whether the other end is still there, and what it forgets is reset. A
// backend that closed its end is waited for like there (..._fin_wait, 2 minutes). Datagrams have
// what IPVS gives them, which is more than tracking's 2 minutes.
constexpr IpvsTimeouts kTimeouts = {432'000, 120, 300};

constexpr const char* kTracking = "/proc/sys/net/ipv4/vs/conntrack";

Status refused(const IpvsStep& step, int error) {
  return errno_status(error, "IPVS: " + describe(step));
}

Status make_one(WireSocket& generic, uint16_t family, const SpreadPolicy& policy, uint32_t mark) {
  IpvsStep step;
  step.what = IpvsStep::What::kMakeService;
  step.mark = mark;
  step.shape = ipvs_shape(policy);
  Wire wire;
  put_ipvs_step(wire, family, step);
  MUSTER_ASSIGN(const auto errors, generic.exchange(wire));
  return errors.empty() ? ok_status() : refused(step, errors.front().error);
}

Status set_timeouts(WireSocket& generic, uint16_t family) {
  Wire wire;
  put_ipvs_timeouts(wire, family, kTimeouts);
  MUSTER_ASSIGN(const auto errors, generic.exchange(wire));
  return errors.empty() ? ok_status()
                        : errno_status(errors.front().error, "IPVS: set how long it remembers");
}

}  // namespace

Result<uint16_t> probe_ipvs() {
  uint16_t family = 0;
  const Status tried = on_own_thread([&]() -> Status {
    if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "cannot make a network namespace");
    MUSTER_ASSIGN(WireSocket generic, WireSocket::open(NETLINK_GENERIC));
    MUSTER_ASSIGN(family, find_ipvs(generic));
    if (access(kTracking, F_OK) != 0) return not_found("it does not track connections");
    MUSTER_TRY(set_timeouts(generic, family));
    uint32_t mark = kIpvsMarkFirst;
    for (const auto by : {v1::EndpointSpec::ROUND_ROBIN, v1::EndpointSpec::LEAST_CONNECTION,
                          v1::EndpointSpec::SOURCE_HASH}) {
      MUSTER_TRY(make_one(generic, family, {by, 10s}, mark++));
    }
    return ok_status();
  });
  if (tried.ok()) return family;
  return fail(failed_precondition("this kernel has no IPVS to balance by (module ip_vs: {})",
                                  tried.message()));
}

Status probe_first_use() {
  return on_own_thread([]() -> Status {
    if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "cannot make a network namespace");
    return try_first_use();
  });
}

// conntrack: replies find their way back through the connection table; expire_nodest_conn: flows to
// what was taken away are told at once; conn_reuse_mode: a port that is used again soon does not
// wait a second; expire_quiescent_template: clients do not stay with what drains.
//
// TCP's early demultiplexing stays on. It leads answers of a task to the socket of a connection to
// the task itself before IPVS takes them for those of one by the virtual address from the same
// port, which it remembers for two minutes after its end: without it connections to tasks hang.
IpvsPlace::IpvsPlace(std::string netns, uint16_t family, uint32_t origin)
    : ClientNamespace(std::move(netns), {{"net.ipv4.vs.conntrack", "1"},
                                         {"net.ipv4.vs.expire_nodest_conn", "1"},
                                         {"net.ipv4.vs.conn_reuse_mode", "0"},
                                         {"net.ipv4.vs.expire_quiescent_template", "1"}}),
      family_(family),
      origin_(origin) {}

Result<std::unique_ptr<IpvsPlace>> IpvsPlace::open(const std::string& netns, uint16_t family,
                                                   uint32_t origin, bool on_use) {
  std::unique_ptr<IpvsPlace> place(new IpvsPlace(netns, family, origin));
  MUSTER_TRY(place->open_sockets([&]() -> Status {
    MUSTER_ASSIGN(place->generic_, WireSocket::open(NETLINK_GENERIC));
    if (!on_use) return ok_status();
    MUSTER_ASSIGN(place->uses_, WireSocket::open(NETLINK_NETFILTER));
    place->state_.on_use = listen_for_first_use(place->uses_).ok();
    return ok_status();
  }));
  return place;
}

// ---------------------------------------------------------------- reading

Result<IpvsPlace::Services> IpvsPlace::list_services(std::set<std::pair<bool, uint32_t>>& used) {
  Services out;
  Wire wire;
  put_ipvs_services(wire, family_);
  MUSTER_TRY(generic_.query(wire, [&](const nlmsghdr* message) {
    const auto listed = read_ipvs_service(message);
    if (!listed || !is_ipvs_mark(listed->mark)) return;
    out[{listed->v6, listed->mark}].shape = listed->shape;
    if (listed->used) used.insert({listed->v6, listed->mark & ~1u});
  }));
  return out;
}

Status IpvsPlace::list_backends(bool v6, uint32_t mark, IpvsService& service) {
  Wire wire;
  put_ipvs_backends(wire, family_, v6, mark);
  return generic_.query(wire, [&](const nlmsghdr* message) {
    if (const auto backend = read_ipvs_backend(message)) {
      service.weights[backend->ip] = backend->weight;
    }
  });
}

Status IpvsPlace::load() {
  MUSTER_ASSIGN(generation_, nft_generation(nft_));
  MUSTER_ASSIGN(const IpvsRules rules, list_ipvs_rules(nft_, state_.on_use));
  std::set<std::pair<bool, uint32_t>> used_marks;
  MUSTER_ASSIGN(Services services, list_services(used_marks));
  for (auto& [key, service] : services) MUSTER_TRY(list_backends(key.first, key.second, service));
  IpvsState state;
  state.on_use = state_.on_use;
  // What this process has seen is not forgotten with a service that somebody took away.
  state.used = state_.used;
  std::set<uint32_t> taken;
  for (const auto& [vip, mark] : rules.marks) {
    IpvsHeld& held = state.vips[vip];
    held.guarded = true;
    held.watched = rules.watched.contains(vip);
    // Somebody else's, or two of one: to be given another, as if it had none.
    if (!is_ipvs_mark(mark) || (mark & 1) != 0 || !taken.insert(mark).second) continue;
    held.mark = mark;
    if (used_marks.contains({vip.v6, mark})) state.used.insert(vip);
    for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
      auto found = services.extract({vip.v6, mark + static_cast<uint32_t>(half)});
      if (!found.empty()) held.services[half] = std::move(found.mapped());
      const auto& led = half == kIpvsFlows ? rules.flows : rules.datagrams;
      const auto at = led.find(vip);
      held.led[half] = at != led.end() && at->second == mark + half;
    }
  }
  for (const auto& [key, service] : services) state.strays.insert(key);
  state_ = std::move(state);
  base_ = rules.base_whole;
  // What leads where it should not is not worth a plan: all of it is made anew.
  for (const auto* led : {&rules.flows, &rules.datagrams}) {
    for (const auto& [vip, mark] : *led) {
      const auto held = state_.vips.find(vip);
      const size_t half = led == &rules.flows ? kIpvsFlows : kIpvsDatagrams;
      if (held == state_.vips.end() || !held->second.led[half]) base_ = false;
    }
  }
  for (auto& [vip, held] : state_.vips) base_ = base_ && held.mark != 0;
  for (const Ip& vip : rules.watched) base_ = base_ && state_.vips.contains(vip);
  if (!base_) {
    for (auto& [vip, held] : state_.vips) {
      held.guarded = held.watched = held.led[0] = held.led[1] = false;
    }
  }
  return finish_load();
}

// ---------------------------------------------------------------- writing

void IpvsPlace::used(const Ip& vip) {
  if (!state_.on_use || !state_.vips.contains(vip)) return;
  state_.used.insert(vip);
  // Who knows not yet what it is to have wishes for all of it once that is told.
  const auto known = unused_.find(vip);
  if (known == unused_.end()) return;
  due_.push_back({vip, nullptr, known->second, {}, {}, 0});
  unused_.erase(known);
}

bool IpvsPlace::may_have_used(const Ip& vip) const {
  const auto held = state_.vips.find(vip);
  return held == state_.vips.end() || !held->second.watched;
}

Status IpvsPlace::serve_uses() {
  MUSTER_TRY(uses_.take([&](const nlmsghdr* message) {
    if (const auto vip = read_first_use(message)) used(*vip);
  }));
  return due_.empty() ? ok_status() : lead({});
}

void IpvsPlace::give_up_uses() {
  if (uses_) stop_listening_for_first_use(uses_);
}

Status IpvsPlace::lead(const std::vector<VipWish>& asked) {
  std::vector<VipWish> wishes = asked;
  std::set<Ip> news;
  for (const VipWish& wish : asked) {
    news.insert(wish.vip);
    if (wish.pool != nullptr && state_.on_use && !state_.used.contains(wish.vip)) {
      unused_[wish.vip] = wish.pool;
    } else {
      unused_.erase(wish.vip);
    }
  }
  for (VipWish& wish : std::exchange(due_, {})) {
    if (!news.contains(wish.vip)) wishes.push_back(std::move(wish));
  }
  Status done;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    IpvsPlan plan = plan_ipvs(state_, wishes, origin_);
    if (!base_ && !plan.empty()) keep_others(state_, plan);
    if (plan.empty()) {
      commit(state_, plan);
      return ok_status();
    }
    done = carry_out(plan);
    if (done.ok()) {
      commit(state_, plan);
      return done;
    }
    // Somebody else changed something here: look at what there is and work it out anew.
    MUSTER_TRY(load());
    suspect_ = true;
  }
  return done;
}

Status IpvsPlace::carry_out(const IpvsPlan& plan) {
  MUSTER_TRY(change_rules(plan.before));
  MUSTER_TRY(change_services(plan.services));
  return change_rules(plan.after);
}

Status IpvsPlace::change_rules(const std::vector<IpvsStep>& steps) {
  if (steps.empty()) return ok_status();
  IpvsTransaction transaction(generation_);
  if (!base_) transaction.make_base(state_.on_use);
  for (const IpvsStep& step : steps) transaction.add(step);
  return transact(transaction);
}

Status IpvsPlace::change_services(const std::vector<IpvsStep>& steps) {
  for (size_t from = 0; from < steps.size(); from += kRequestsAtOnce) {
    Wire wire;
    const size_t to = std::min(steps.size(), from + kRequestsAtOnce);
    for (size_t i = from; i < to; ++i) put_ipvs_step(wire, family_, steps[i]);
    MUSTER_ASSIGN(const auto errors, generic_.exchange(wire));
    // Sequence numbers begin with 1.
    if (!errors.empty()) {
      return refused(steps[from + errors.front().sequence - 1], errors.front().error);
    }
  }
  return ok_status();
}

// ---------------------------------------------------------------- comparing

Result<bool> IpvsPlace::part_drifted() {
  std::set<std::pair<bool, uint32_t>> used_marks;
  MUSTER_ASSIGN(const Services services, list_services(used_marks));
  Services ours;
  for (const auto& [vip, held] : state_.vips) {
    // Nobody was there to be told, or it was lost: with the next change.
    if (used_marks.contains({vip.v6, held.mark})) used(vip);
    for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
      if (!held.services[half]) continue;
      ours[{vip.v6, held.mark + static_cast<uint32_t>(half)}] = *held.services[half];
    }
  }
  if (ours.size() != services.size()) return true;
  for (const auto& [key, service] : ours) {
    const auto found = services.find(key);
    if (found == services.end() || found->second.shape != service.shape) return true;
  }
  auto at = ours.upper_bound(looked_at_);
  for (size_t i = 0; i < std::min(kLookedAtOnce, ours.size()); ++i) {
    if (at == ours.end()) at = ours.begin();
    IpvsService found;
    found.shape = at->second.shape;
    MUSTER_TRY(list_backends(at->first.first, at->first.second, found));
    if (found != at->second) return true;
    looked_at_ = at->first;
    ++at;
  }
  return false;
}

Result<bool> IpvsPlace::part_settings_kept() {
  Wire wire;
  ask_ipvs_timeouts(wire, family_);
  IpvsTimeouts now;
  MUSTER_TRY(
      generic_.query(wire, [&](const nlmsghdr* message) { now = read_ipvs_timeouts(message); }));
  return now == kTimeouts;
}

Status IpvsPlace::write_part_settings() {
  return set_timeouts(generic_, family_);
}

void IpvsPlace::add_held(std::set<Ip>& vips) const {
  for (const auto& [vip, held] : state_.vips) vips.insert(vip);
}

bool IpvsPlace::as_wished(const VipWish& wish) const {
  if (!route_as_wished(wish)) return false;
  if (wish.gone()) return !state_.vips.contains(wish.vip);
  return wish.pool != nullptr && overlay::as_wished(state_, wish.vip, *wish.pool);
}

}  // namespace muster::overlay
