#include "overlay/dataplane/esp/esp_wire.h"

#include <arpa/inet.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

constexpr const char* kAlgorithm = "rfc4106(gcm(aes))";
constexpr uint32_t kCheckBits = 128;
// Packets that overtake each other by more than this are dropped as replays.
constexpr uint32_t kReplayWindow = 1024;
constexpr uint32_t kWindowWords = kReplayWindow / 32;
constexpr uint32_t kBlockPriority = 1000;  // higher counts less

uint16_t family_of(bool v6) {
  return v6 ? AF_INET6 : AF_INET;
}

xfrm_address_t address_of(const Ip& ip) {
  xfrm_address_t out{};
  const std::string bytes = ip_bytes(ip);
  std::memcpy(&out, bytes.data(), bytes.size());
  return out;
}

Ip ip_from(uint16_t family, const xfrm_address_t& address) {
  Ip out{family == AF_INET6, 0};
  unsigned char bytes[16];
  std::memcpy(bytes, &address, sizeof(bytes));
  for (int i = 0; i < out.bits() / 8; ++i) out.value = (out.value << 8) | bytes[i];
  return out;
}

void never_expires(xfrm_lifetime_cfg& lifetime) {
  lifetime.soft_byte_limit = lifetime.hard_byte_limit = XFRM_INF;
  lifetime.soft_packet_limit = lifetime.hard_packet_limit = XFRM_INF;
}

// 64-bit packet numbers: 32 bits would be used up within hours at 10 Gbit/s.
void put_replay(Message& m, const EspNumbers& numbers) {
  xfrm_replay_state_esn esn{};
  esn.bmp_len = kWindowWords;
  esn.replay_window = kReplayWindow;
  esn.oseq = static_cast<uint32_t>(numbers.sent);
  esn.oseq_hi = static_cast<uint32_t>(numbers.sent >> 32);
  esn.seq = static_cast<uint32_t>(numbers.received);
  esn.seq_hi = static_cast<uint32_t>(numbers.received >> 32);
  std::string value(sizeof(esn) + kReplayWindow / 8, '\0');
  std::memcpy(value.data(), &esn, sizeof(esn));
  const size_t words = std::min<size_t>(numbers.window.size(), kWindowWords);
  if (words > 0) std::memcpy(value.data() + sizeof(esn), numbers.window.data(), words * 4);
  m.put(XFRMA_REPLAY_ESN_VAL, value.data(), value.size());
}

void put_key(Message& m, const std::string& key) {
  std::string value(sizeof(xfrm_algo_aead) + key.size(), '\0');
  xfrm_algo_aead algorithm{};
  std::strcpy(algorithm.alg_name, kAlgorithm);
  algorithm.alg_key_len = static_cast<uint32_t>(key.size() * 8);
  algorithm.alg_icv_len = kCheckBits;
  std::memcpy(value.data(), &algorithm, sizeof(algorithm));
  std::memcpy(value.data() + sizeof(algorithm), key.data(), key.size());
  m.put(XFRMA_ALG_AEAD, value.data(), value.size());
}

void put_encapsulation(Message& m, uint16_t port) {
  if (port == 0) return;
  xfrm_encap_tmpl encapsulation{};
  encapsulation.encap_type = UDP_ENCAP_ESPINUDP;
  encapsulation.encap_sport = encapsulation.encap_dport = htons(port);
  m.put(XFRMA_ENCAP, &encapsulation, sizeof(encapsulation));
}

Message drop_state(const EspStateId& id) {
  Message m(XFRM_MSG_DELSA, 0, fmt::format("delete ESP state {:08x} to {}", id.spi, id.to.str()));
  xfrm_usersa_id header{};
  header.daddr = address_of(id.to);
  header.spi = htonl(id.spi);
  header.family = family_of(id.to.v6);
  header.proto = IPPROTO_ESP;
  m.header(header).tolerate(ESRCH);
  return m;
}

xfrm_selector selector_to(const EspOwner& owner, const std::optional<Ip>& peer, bool v6) {
  xfrm_selector out{};
  out.family = family_of(v6);
  if (!peer) return out;
  out.daddr = address_of(*peer);
  out.saddr = address_of(owner.self);
  out.prefixlen_d = out.prefixlen_s = static_cast<uint8_t>(peer->bits());
  out.proto = IPPROTO_UDP;
  out.dport = htons(owner.port);
  out.dport_mask = 0xffff;
  return out;
}

void put_mark(Message& m, uint32_t value) {
  const xfrm_mark mark{value, 0xffffffff};
  m.put(XFRMA_MARK, &mark, sizeof(mark));
}

Message set_policy(const EspOwner& owner, const EspStateId& id) {
  Message m(XFRM_MSG_UPDPOLICY, 0, "set ESP policy to " + id.to.str());
  xfrm_userpolicy_info header{};
  header.sel = selector_to(owner, id.to, id.to.v6);
  never_expires(header.lft);
  header.dir = XFRM_POLICY_OUT;
  header.action = XFRM_POLICY_ALLOW;
  xfrm_user_tmpl through{};
  through.id.daddr = address_of(id.to);
  through.id.spi = htonl(id.spi);
  through.id.proto = IPPROTO_ESP;
  through.family = family_of(id.to.v6);
  through.saddr = address_of(owner.self);
  through.reqid = owner.reqid;
  through.mode = XFRM_MODE_TRANSPORT;
  through.aalgos = through.ealgos = through.calgos = ~0u;
  m.header(header).put(XFRMA_TMPL, &through, sizeof(through));
  put_mark(m, owner.mark);
  return m;
}

Message set_block(const EspOwner& owner, bool v6) {
  Message m(XFRM_MSG_UPDPOLICY, 0, "set the ESP policy for everybody else");
  xfrm_userpolicy_info header{};
  header.sel = selector_to(owner, std::nullopt, v6);
  never_expires(header.lft);
  header.dir = XFRM_POLICY_OUT;
  header.action = XFRM_POLICY_BLOCK;
  header.priority = kBlockPriority;
  m.header(header);
  put_mark(m, owner.mark);
  return m;
}

Message drop_policy(const xfrm_selector& selector, uint32_t mark) {
  Message m(XFRM_MSG_DELPOLICY, 0, "delete an ESP policy");
  xfrm_userpolicy_id header{};
  header.sel = selector;
  header.dir = XFRM_POLICY_OUT;
  m.header(header).tolerate(ENOENT);
  put_mark(m, mark);
  return m;
}

// ---------------------------------------------------------------- back

void read_state(nlmsghdr* header, const EspOwner& owner, EspKernel& out) {
  if (header->nlmsg_type != XFRM_MSG_NEWSA) return;
  const auto* info = static_cast<const xfrm_usersa_info*>(nlmsg_data(header));
  if (info->reqid != owner.reqid || info->id.proto != IPPROTO_ESP) return;
  const EspStateId id{ip_from(info->family, info->id.daddr), ntohl(info->id.spi)};
  EspKernelState& state = out.states[id];
  state.state.from = ip_from(info->family, info->saddr);
  state.packets = info->curlft.packets;
  state.failures = info->stats.replay + info->stats.replay_window + info->stats.integrity_failed;
  state.forged = info->stats.integrity_failed;
  const auto find = [&](int type) { return nlmsg_find_attr(header, sizeof(*info), type); };
  if (const auto* aead = find(XFRMA_ALG_AEAD);
      aead != nullptr && nla_len(aead) >= static_cast<int>(sizeof(xfrm_algo_aead))) {
    const char* bytes = static_cast<const char*>(nla_data(aead));
    const size_t size = static_cast<size_t>(nla_len(aead)) - sizeof(xfrm_algo_aead);
    state.state.key.assign(bytes + sizeof(xfrm_algo_aead), size);
  }
  if (const auto* replay = find(XFRMA_REPLAY_ESN_VAL)) {
    state.numbers = read_replay(
        {static_cast<const char*>(nla_data(replay)), static_cast<size_t>(nla_len(replay))});
  }
  if (const auto* encapsulation = find(XFRMA_ENCAP)) {
    const auto* value = static_cast<const xfrm_encap_tmpl*>(nla_data(encapsulation));
    state.state.udp_port = ntohs(value->encap_dport);
  }
}

struct ListedPolicy {
  xfrm_selector selector{};
  bool block = false;
  uint32_t spi = 0;
};

std::optional<ListedPolicy> read_policy(nlmsghdr* header, const EspOwner& owner) {
  if (header->nlmsg_type != XFRM_MSG_NEWPOLICY) return std::nullopt;
  const auto* info = static_cast<const xfrm_userpolicy_info*>(nlmsg_data(header));
  const auto* mark = nlmsg_find_attr(header, sizeof(*info), XFRMA_MARK);
  if (mark == nullptr || nla_len(mark) < static_cast<int>(sizeof(xfrm_mark))) return std::nullopt;
  const auto* value = static_cast<const xfrm_mark*>(nla_data(mark));
  if (value->v != owner.mark || value->m != 0xffffffff || info->dir != XFRM_POLICY_OUT) {
    return std::nullopt;
  }
  ListedPolicy out{info->sel, info->action == XFRM_POLICY_BLOCK, 0};
  const auto* through = nlmsg_find_attr(header, sizeof(*info), XFRMA_TMPL);
  if (through != nullptr && nla_len(through) == static_cast<int>(sizeof(xfrm_user_tmpl))) {
    const auto* first = static_cast<const xfrm_user_tmpl*>(nla_data(through));
    if (first->reqid == owner.reqid && first->optional == 0) out.spi = ntohl(first->id.spi);
  }
  return out;
}

Result<std::vector<ListedPolicy>> list_policies(NetlinkSocket& socket, const EspOwner& owner) {
  std::vector<ListedPolicy> out;
  MUSTER_TRY(socket.query(Message(XFRM_MSG_GETPOLICY, 0, "list ESP policies"), true,
                          [&](nlmsghdr* header) {
                            if (auto policy = read_policy(header, owner)) out.push_back(*policy);
                          }));
  return out;
}

Status list_states(NetlinkSocket& socket, const EspOwner& owner, EspKernel& out) {
  return socket.query(Message(XFRM_MSG_GETSA, 0, "list ESP states"), true,
                      [&](nlmsghdr* header) { read_state(header, owner, out); });
}

}  // namespace

Message esp_add_state(const EspStateId& id, const EspState& state, uint32_t reqid,
                      const EspNumbers& numbers) {
  Message m(XFRM_MSG_NEWSA, 0, fmt::format("add ESP state {:08x} to {}", id.spi, id.to.str()));
  xfrm_usersa_info header{};
  header.family = family_of(id.to.v6);
  header.sel.family = header.family;
  header.id.daddr = address_of(id.to);
  header.id.spi = htonl(id.spi);
  header.id.proto = IPPROTO_ESP;
  header.saddr = address_of(state.from);
  never_expires(header.lft);
  header.reqid = reqid;
  header.mode = XFRM_MODE_TRANSPORT;
  header.flags = XFRM_STATE_ESN;
  m.header(header);
  put_key(m, state.key);
  put_replay(m, numbers);
  put_encapsulation(m, state.udp_port);
  return m;
}

Message esp_message(const EspChange& change, const EspOwner& owner) {
  switch (change.kind) {
    case EspChange::Kind::kBlock: return set_block(owner, change.v6);
    case EspChange::Kind::kDropState: return drop_state(change.id);
    case EspChange::Kind::kAddState:
      return esp_add_state(change.id, change.state, owner.reqid, change.numbers);
    case EspChange::Kind::kSetPolicy: return set_policy(owner, change.id);
    case EspChange::Kind::kDropPolicy: break;
  }
  return drop_policy(selector_to(owner, change.id.to, change.v6), owner.mark);
}

EspNumbers read_replay(std::string_view value) {
  EspNumbers out;
  xfrm_replay_state_esn esn{};
  if (value.size() < sizeof(esn)) return out;
  std::memcpy(&esn, value.data(), sizeof(esn));
  out.sent = uint64_t{esn.oseq_hi} << 32 | esn.oseq;
  out.received = uint64_t{esn.seq_hi} << 32 | esn.seq;
  const bool whole = esn.replay_window == kReplayWindow && esn.bmp_len == kWindowWords &&
                     value.size() == sizeof(esn) + kReplayWindow / 8;
  // Of a window of another size nothing is accepted any more.
  out.window.assign(kWindowWords, whole ? 0 : ~0u);
  if (whole) std::memcpy(out.window.data(), value.data() + sizeof(esn), kReplayWindow / 8);
  return out;
}

Result<EspKernel> list_esp(NetlinkSocket& socket, const EspOwner& owner) {
  EspKernel out;
  MUSTER_TRY(list_states(socket, owner, out));
  MUSTER_ASSIGN(const auto policies, list_policies(socket, owner));
  for (const ListedPolicy& policy : policies) {
    const uint16_t family = policy.selector.family;
    if (policy.block && policy.selector.prefixlen_d == 0) {
      out.blocks.insert(family == AF_INET6);
      continue;
    }
    const Ip peer = ip_from(family, policy.selector.daddr);
    // One of another address or port of this node, or one that lets something pass, is none.
    const xfrm_selector right = selector_to(owner, peer, peer.v6);
    const bool ours = std::memcmp(&right.saddr, &policy.selector.saddr, sizeof(right.saddr)) == 0 &&
                      right.prefixlen_d == policy.selector.prefixlen_d &&
                      right.dport == policy.selector.dport && !policy.block;
    if (ours) {
      out.policies[peer] = policy.spi;
    } else {
      MUSTER_TRY(socket.run(drop_policy(policy.selector, owner.mark)));
    }
  }
  return out;
}

Status clear_esp(NetlinkSocket& socket, const EspOwner& owner) {
  MUSTER_ASSIGN(const auto policies, list_policies(socket, owner));
  for (const ListedPolicy& policy : policies) {
    MUSTER_TRY(socket.run(drop_policy(policy.selector, owner.mark)));
  }
  EspKernel kernel;
  MUSTER_TRY(list_states(socket, owner, kernel));
  std::vector<Message> batch;
  for (const auto& [id, state] : kernel.states) batch.push_back(drop_state(id));
  return socket.run(batch);
}

}  // namespace muster::overlay
