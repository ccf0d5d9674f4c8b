#include "overlay/dataplane/esp/esp_tunnels.h"

#include <linux/netlink.h>

#include <algorithm>
#include <utility>

#include "base/thread_executor.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/kernel/nft_table.h"

namespace muster::overlay {
namespace {

std::string numbers(const Encryption& encryption) {
  std::vector<uint64_t> out;
  for (const EncryptionKey& key : encryption.keys) out.push_back(key.number);
  return fmt::format("{}", fmt::join(out, ", "));
}

}  // namespace

EspTunnels::EspTunnels(const Names& names, LibNft& nft, EspOptions options, Log log)
    : names_(names),
      nft_(nft),
      log_(log),
      probe_(std::move(options.ask)),
      hold_(std::move(options.hold)),
      count_(std::move(options.count)),
      now_(options.now ? std::move(options.now) : [] { return SystemClock().wall_now(); }),
      lanes_(std::move(options.lane_file), host_boot_id(), std::move(log)) {}

Status EspTunnels::scan() {
  const auto listing = nft_.list("inet", guard_name());
  if (!listing && listing.error().code() != StatusCode::kNotFound) return listing.error();
  guard_.reset();
  in_step_ = false;
  adopted_ = listing ? guarded_vnis(*listing) : std::set<uint32_t>();
  used_ = used_ || !adopted_.empty();
  return ok_status();
}

const std::string& EspTunnels::trouble(bool v6) {
  auto& known = trouble_[v6 ? 1 : 0];
  if (!known) known = probe_.trouble(v6);
  return *known;
}

EspOwner EspTunnels::owner() const {
  return {esp_reqid(names_.instance()), mark(), use_.self.value_or(Ip{}), use_.port};
}

Status EspTunnels::set_encryption(const Encryption& encryption) {
  if (encryption == encryption_ && in_step_) return listening_;
  const EncryptionKey* before = sending_key(encryption_);
  const EncryptionKey* after = sending_key(encryption);
  const uint64_t former = before == nullptr ? 0 : before->number;
  encryption_ = encryption;
  in_step_ = false;
  if (after != nullptr && former != after->number && !use_.vnis.empty()) {
    log_->info("encrypted networks: key {} is sent with, of {} that are known", after->number,
               numbers(encryption));
  }
  MUSTER_TRY(bring_in_step(nullptr));
  return listening_;
}

Status EspTunnels::set_use(const EspUse& use) {
  if (use == use_ && in_step_) return ok_status();
  if (use.self != use_.self) peers_.clear();
  use_ = use;
  peers_.insert(use.peers.begin(), use.peers.end());
  return bring_in_step(nullptr);
}

Status EspTunnels::ready(uint32_t vni) const {
  if (guard_ && guard_->vnis.contains(vni)) return ok_status();
  return failed_precondition("nothing keeps its packets from being sent in plain text yet");
}

Status EspTunnels::bring_in_step(Said* said) {
  const bool idle = use_.vnis.empty() && adopted_.empty() && !guard_ && !used_;
  if (idle) {
    listen(0);
    return ok_status();
  }
  in_step_ = false;
  if (!use_.vnis.empty() && use_.self) {
    const std::string& why = trouble(use_.self->v6);
    if (!why.empty()) {
      return failed_precondition(
          "it is to be encrypted, which this node cannot do, and nothing of it is sent in plain "
          "text: {}",
          why);
    }
  }
  MUSTER_TRY(keep_guard(said));
  if (!socket_) {
    MUSTER_ASSIGN(socket_, NetlinkSocket::open(NETLINK_XFRM));
  }
  MUSTER_TRY(keep_states(said));
  in_step_ = true;
  return ok_status();
}

Status EspTunnels::keep_guard(Said* said) {
  Guard wanted{use_.port, use_.vnis};
  wanted.vnis.insert(adopted_.begin(), adopted_.end());
  if (wanted.vnis.empty()) {
    if (guard_) MUSTER_TRY(delete_table(nft_, "inet", guard_name()));
    guard_.reset();
    return ok_status();
  }
  // After a restart, until that is known.
  if (wanted.port == 0) return ok_status();
  const bool was_there = guard_ == wanted;
  if (was_there && said == nullptr) return ok_status();
  guard_.reset();
  MUSTER_ASSIGN(
      const KeptTable kept,
      keep_table(nft_, {"inet", guard_name(),
                        esp_guard_table(guard_name(), wanted.port, wanted.vnis, owner().reqid)}));
  guard_ = wanted;
  if (kept.made && was_there && said != nullptr) {
    said->push_back(
        "the rules that keep plain text of encrypted networks back were gone or "
        "changed");
  }
  note_guard_counts(kept.made ? std::string_view() : std::string_view(kept.listing));
  return ok_status();
}

// What the guard drops is an attack, or a fault that nobody would see otherwise.
void EspTunnels::note_guard_counts(std::string_view listing) {
  const auto now = guard_counts(listing);
  if (now.first > dropped_.first) {
    counts_.plain_out += now.first - dropped_.first;
    log_->warn("{} packets of encrypted networks would have left in plain text and were dropped",
               now.first - dropped_.first);
  }
  if (now.second > dropped_.second) {
    counts_.plain_in += now.second - dropped_.second;
    log_->warn(
        "{} packets of encrypted networks came in plain text, or encrypted by somebody else, and "
        "were dropped",
        now.second - dropped_.second);
  }
  dropped_ = now;
}

// What is sent in UDP to this node is lost without it; the rest goes on.
void EspTunnels::listen(uint32_t port) {
  const auto wanted = static_cast<uint16_t>(port);
  listening_ = hold_ ? hold_(wanted) : encapsulation_.open(wanted);
}

std::string EspTunnels::limitation() const {
  if (!listening_.ok()) {
    return fmt::format("nothing of encrypted networks arrives from other nodes: {}",
                       listening_.message());
  }
  return trouble_left_.empty() ? "" : "encrypted networks: " + trouble_left_;
}

void EspTunnels::choose_lanes(const EspKernel& kernel) {
  const EncryptionKey* key = sending_key(encryption_);
  if (key == nullptr) return;
  for (const Ip& peer : peers_) {
    const auto at = sent_.find(peer);
    const auto before = at == sent_.end() ? std::nullopt : std::optional(at->second);
    sent_[peer] = {key->number,
                   choose_lane(kernel, *use_.self, peer, key->number, before, lanes_.lane())};
  }
}

Status EspTunnels::keep_states(Said* said) {
  if (use_.vnis.empty() && adopted_.empty()) {
    if (used_) {
      MUSTER_ASSIGN(EspKernel kernel, list_esp(*socket_, owner()));
      remember(std::move(kernel), encryption_, &known_);
      MUSTER_TRY(clear_esp(*socket_, owner()));
      lanes_.pass_on();
    }
    used_ = false;
    counts_.states = 0;
    seen_.clear();
    unheard_.clear();
    listen(0);
    return ok_status();
  }
  if (!use_.self) {
    // After a restart, until it is known.
    if (use_.vnis.empty()) return ok_status();
    return failed_precondition("this node has no data-path address");
  }
  used_ = true;
  MUSTER_ASSIGN(EspKernel kernel, list_esp(*socket_, owner()));
  counts_.states = kernel.states.size();
  if (encryption_.keys.empty()) {
    // After a restart, until managers have told them: what is there goes on. A node that never had
    // any sends nothing.
    if (const uint16_t port = udp_port_of(kernel); port != 0) listen(port);
    if (kernel.blocks.contains(use_.self->v6)) return ok_status();
    return socket_->run(esp_message({EspChange::Kind::kBlock, use_.self->v6, {}, {}}, owner()));
  }
  listen(encryption_.udp_port);
  choose_lanes(kernel);
  std::map<Ip, uint32_t> lanes;
  for (const Ip& peer : peers_) lanes[peer] = sent_[peer].lane;
  std::vector<Ip> clashes;
  MUSTER_ASSIGN(EspPlan plan, esp_plan(*use_.self, peers_, encryption_, lanes, &clashes));
  if (clashes != clashes_) {
    for (const Ip& peer : clashes) {
      log_->error(
          "encrypted networks do not reach the node at {}: its address cannot be told from "
          "another node's (--data-path-addr)",
          peer.str());
    }
    clashes_ = std::move(clashes);
  }
  plan.first = first_number(now_());
  plan.known = &known_;
  const std::vector<EspChange> changes = esp_changes(kernel, plan, *use_.self, said);
  if (said != nullptr) note_refused(kernel);
  remember(std::move(kernel), encryption_, &known_);
  std::vector<Message> batch;
  batch.reserve(changes.size());
  for (const EspChange& change : changes) batch.push_back(esp_message(change, owner()));
  return socket_->run(batch);
}

// Nothing but a word follows from it: anybody can send what is refused, without any key.
void EspTunnels::note_refused(const EspKernel& kernel) {
  const auto before = std::exchange(seen_, {});
  std::set<Ip> heard;
  std::map<Ip, uint64_t> refused;
  for (const auto& [id, state] : kernel.states) {
    if (id.to != *use_.self) continue;
    const auto at = before.find(id);
    const Seen known = at == before.end() ? Seen() : at->second;
    seen_[id] = {state.packets, state.failures, state.forged};
    if (state.packets > known.packets) heard.insert(state.state.from);
    // One that was made anew counts from 0 again.
    if (state.failures < known.failures || state.forged < known.forged) continue;
    const uint64_t forged = state.forged - known.forged;
    const uint64_t failures = std::max(state.failures - known.failures, forged);
    counts_.forged += forged;
    counts_.replays += failures - forged;
    if (failures > 0) refused[state.state.from] += failures;
  }
  const auto known = std::exchange(unheard_, {});
  for (const auto& [peer, packets] : refused) {
    if (heard.contains(peer)) continue;
    unheard_.insert(peer);
    if (known.contains(peer)) continue;
    log_->warn(
        "of {} encrypted packets in the name of {} none was accepted: somebody forges them or "
        "sends "
        "them again, or that node has lost count of what it had sent",
        packets, peer.str());
  }
}

void EspTunnels::repair(const std::set<uint32_t>& tunnels, std::vector<std::string>& said) {
  std::erase_if(adopted_, [&](uint32_t vni) { return !tunnels.contains(vni); });
  // Between two looks it is not asked for each network that is told.
  for (auto& trouble : trouble_) {
    if (trouble && !trouble->empty()) trouble.reset();
  }
  // Former ones went without a word; that is no difference of the kernel's.
  if (peers_ != use_.peers) {
    peers_ = use_.peers;
    std::erase_if(sent_, [&](const auto& entry) {
      // The lane is remembered while the key is the same: the next state has to have another.
      const EncryptionKey* key = sending_key(encryption_);
      return !peers_.contains(entry.first) &&
             (key == nullptr || entry.second.key_number != key->number);
    });
    in_step_ = false;
  }
  Said differences;
  const bool known = in_step_;
  const Status done = bring_in_step(&differences);
  trouble_left_ = done.message();
  if (known && done.ok()) {
    for (std::string& difference : differences) {
      said.push_back("encrypted networks: " + std::move(difference));
    }
  }
  if (count_) count_(std::exchange(counts_, {.states = counts_.states}));
}

Status EspTunnels::remove() {
  listen(0);
  if (used_) lanes_.pass_on();
  use_ = {};
  peers_.clear();
  adopted_.clear();
  sent_.clear();
  seen_.clear();
  known_.clear();
  unheard_.clear();
  encryption_ = {};
  trouble_left_.clear();
  guard_.reset();
  in_step_ = false;
  MUSTER_TRY(delete_table(nft_, "inet", guard_name()));
  auto socket = NetlinkSocket::open(NETLINK_XFRM);
  // A kernel without IPsec has nothing of it.
  if (!socket) return ok_status();
  used_ = false;
  return clear_esp(*socket, owner());
}

}  // namespace muster::overlay
