#include "overlay/balancer/nft_plan.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "overlay/balancer/slots.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

// Whatever an interface or address is called becomes part of a name.
std::string hex(std::string_view text) {
  std::string out;
  for (const char c : text) fmt::format_to(std::back_inserter(out), "{:02x}", c);
  return out;
}

std::string stem(const FrontendKey& key, const NftFrontend& f) {
  return fmt::format("{}_{}{}{}_{}", protocol_name(key.protocol), key.port,
                     key.bind.empty() ? "" : "_x" + hex(key.bind), f.masquerade ? "_m" : "",
                     f.generation);
}
std::string chain_name(const FrontendKey& key, const NftFrontend& f) {
  return "c_" + stem(key, f);
}
std::string map_name(const FrontendKey& key, const NftFrontend& f, bool v6) {
  return (v6 ? "m6_" : "m4_") + stem(key, f);
}

// What of a place's maps and sets leads to a frontend: "NAME { KEY", to be gone on with.
struct Dispatch {
  std::string_view suffix;  // of the map's name and the set's
  std::string key;
};
Dispatch dispatch_of(const FrontendKey& key) {
  const std::string port = fmt::format("{} . {}", protocol_name(key.protocol), key.port);
  if (key.bind.empty()) return {"ports", port};
  const auto ip = Ip::parse(key.bind);
  if (!ip) return {"in", fmt::format("\"{}\" . {}", key.bind, port)};
  return {ip->v6 ? "at6" : "at4", fmt::format("{} . {}", ip->str(), port)};
}
std::string dispatch_map(const Dispatch& d) {
  return d.suffix == "ports" ? "ports" : fmt::format("ports_{}", d.suffix);
}

// One frontend's addresses, parsed, sorted, without duplicates, by family.
struct Backends {
  std::vector<std::string> v4;
  std::vector<std::string> v6;
  std::vector<uint32_t> weights_v4;
  std::vector<uint32_t> weights_v6;
};

Result<Backends> split(const Frontend& frontend) {
  std::map<Ip, uint32_t> unique;
  for (const std::string& text : frontend.backends) {
    MUSTER_ASSIGN(const Ip ip, Ip::parse(text));
    const auto weight = frontend.weights.find(text);
    unique.emplace(ip, weight == frontend.weights.end() ? 1 : weight->second);
  }
  Backends out;
  for (const auto& [ip, weight] : unique) {
    (ip.v6 ? out.v6 : out.v4).push_back(ip.str());
    (ip.v6 ? out.weights_v6 : out.weights_v4).push_back(weight);
  }
  return out;
}

// Those whose turn it is, when there are more than slots.
void choose(std::vector<std::string>& backends, std::vector<uint32_t>& weights, size_t turn,
            size_t most) {
  const size_t count = backends.size();
  if (count <= most) return;
  std::vector<std::string> chosen;
  std::vector<uint32_t> shares;
  for (size_t i = 0; i < most; ++i) {
    chosen.push_back(std::move(backends[(turn + i) % count]));
    shares.push_back(weights[(turn + i) % count]);
  }
  backends = std::move(chosen);
  weights = std::move(shares);
}

class Planner {
 public:
  Planner(std::string_view table, const NftState& now, size_t turn = 0, size_t most = kSlotsMax)
      : table_(table), now_(now), turn_(turn), most_(most) {}

  Result<NftPlan> plan(const std::vector<Frontend>& frontends) {
    std::map<FrontendKey, const Frontend*> wanted;
    for (const Frontend& f : frontends) {
      if (f.key.port == 0 || f.key.port > 65535 || f.target_port == 0 || f.target_port > 65535) {
        return fail(invalid_argument("port {}:{} is out of range", f.key.port, f.target_port));
      }
      if (!f.backends.empty()) wanted[f.key] = &f;
    }
    bury_dead();
    for (const auto& [key, old] : now_.frontends) {
      if (wanted.count(key) == 0) remove(key, old);
    }
    for (const auto& [key, frontend] : wanted) {
      MUSTER_ASSIGN(const Backends all, split(*frontend));
      Backends backends = all;
      choose(backends.v4, backends.weights_v4, turn_, most_);
      choose(backends.v6, backends.weights_v6, turn_, most_);
      const auto old = now_.frontends.find(key);
      if (old == now_.frontends.end()) {
        create(key, *frontend, backends, fresh_generation(key, frontend->masquerade), nullptr);
      } else if (reshaped(old->second, *frontend, backends)) {
        note_removed(key, old->second, frontend->target_port, all);
        create(key, *frontend, backends, old->second.generation + 1, &old->second);
        retire(key, old->second);
      } else {
        note_removed(key, old->second, frontend->target_port, all);
        exchange(key, old->second, backends);
      }
    }
    return std::move(plan_);
  }

  // All that there is, for a table that has nothing of it.
  std::string restore() {
    for (const auto& [key, f] : now_.frontends) {
      if (f.target_port == 0) continue;  // changed by somebody else (parse_nft)
      build(key, f);
      dispatch("add", key, f);
      if (f.masquerade) hide(true, key);
    }
    return std::move(plan_.commands);
  }

 private:
  template <class... Args>
  void emit(fmt::format_string<Args...> f, Args&&... args) {
    fmt::format_to(std::back_inserter(plan_.commands), f, std::forward<Args>(args)...);
    plan_.commands += '\n';
  }

  void bury_dead() {
    for (const auto& chain : now_.dead_chains) {
      emit("flush chain inet {} {}", table_, chain);
      emit("delete chain inet {} {}", table_, chain);
    }
    for (const auto& map : now_.dead_maps) emit("delete map inet {} {}", table_, map);
  }

  // A name that is deleted in this transaction is not made anew in it.
  uint32_t fresh_generation(const FrontendKey& key, bool masquerade) const {
    NftFrontend probe;
    probe.masquerade = masquerade;
    const auto dead = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    while (dead(now_.dead_chains, chain_name(key, probe)) ||
           dead(now_.dead_maps, map_name(key, probe, false)) ||
           dead(now_.dead_maps, map_name(key, probe, true))) {
      ++probe.generation;
    }
    return probe.generation;
  }

  size_t slots_for(const std::vector<uint32_t>& weights) const {
    return slot_count(weights, {SlotScale().least, SlotScale().times, most_});
  }

  bool reshaped(const NftFrontend& old, const Frontend& f, const Backends& b) const {
    const auto differs = [this](const std::vector<std::string>& slots,
                                const std::vector<std::string>& backends,
                                const std::vector<uint32_t>& weights) {
      if (slots.empty() || backends.empty()) return slots.empty() != backends.empty();
      // Maps grow when they must and shrink only when far too large, so that a service that
      // breathes does not rebuild its map each time.
      const size_t want = slots_for(weights);
      return want > slots.size() || want * 4 <= slots.size();
    };
    return old.target_port != f.target_port || old.masquerade != f.masquerade ||
           old.by_source != f.policy.by_source() || differs(old.slots_v4, b.v4, b.weights_v4) ||
           differs(old.slots_v6, b.v6, b.weights_v6);
  }

  void note_removed(const FrontendKey& key, const NftFrontend& old, uint32_t target_port,
                    const Backends& now) {
    std::set<std::string> gone(old.slots_v4.begin(), old.slots_v4.end());
    gone.insert(old.slots_v6.begin(), old.slots_v6.end());
    // Of what somebody else has changed (parse_nft) the port is not known: what is under way to the
    // backends that stay is left alone.
    if (old.target_port == target_port || old.target_port == 0) {
      for (const auto& b : now.v4) gone.erase(b);
      for (const auto& b : now.v6) gone.erase(b);
    }
    gone.erase("");  // a hole that somebody made in our map
    for (const auto& address : gone) plan_.removed.push_back({key, old.target_port, address});
  }

  void dispatch(std::string_view verb, const FrontendKey& key, const NftFrontend& f) {
    const Dispatch d = dispatch_of(key);
    emit("{} element inet {} {} {{ {} : goto {} }}", verb, table_, dispatch_map(d), d.key,
         chain_name(key, f));
  }

  void hide(bool on, const FrontendKey& key) {
    const Dispatch d = dispatch_of(key);
    // What somebody has taken out already is no obstacle.
    emit("add element inet {} masquerade_{} {{ {} }}", table_, d.suffix, d.key);
    if (!on) emit("delete element inet {} masquerade_{} {{ {} }}", table_, d.suffix, d.key);
  }

  void retire(const FrontendKey& key, const NftFrontend& old) {
    plan_.next.dead_chains.push_back(chain_name(key, old));
    if (!old.slots_v4.empty()) plan_.next.dead_maps.push_back(map_name(key, old, false));
    if (!old.slots_v6.empty()) plan_.next.dead_maps.push_back(map_name(key, old, true));
  }

  void remove(const FrontendKey& key, const NftFrontend& old) {
    dispatch("delete", key, old);
    if (old.masquerade) hide(false, key);
    note_removed(key, old, 0, {});
    retire(key, old);
  }

  void add_rules(const FrontendKey& key, const NftFrontend& f) {
    const std::string chain = chain_name(key, f);
    const auto family = [&](bool v6, const std::vector<std::string>& slots,
                            const std::string& fallback) {
      if (slots.empty()) return;
      const std::string_view nfproto = v6 ? "ipv6" : "ipv4";
      const std::string_view ip = v6 ? "ip6" : "ip";
      const std::string_view l4 = protocol_name(key.protocol);
      emit(
          "add rule inet {} {} meta nfproto {} meta l4proto {} dnat {} to {} mod {}{} map @{} : {}",
          table_, chain, nfproto, l4, ip,
          f.by_source ? fmt::format("jhash {} saddr", ip) : "numgen inc", slots.size(),
          f.by_source ? " seed 0x4d" : "", map_name(key, f, v6), f.target_port);
      const std::string plain = v6 ? "[" + fallback + "]" : fallback;
      emit("add rule inet {} {} meta nfproto {} meta l4proto {} dnat {} to {}:{}", table_, chain,
           nfproto, l4, ip, plain, f.target_port);
    };
    family(false, f.slots_v4, f.fallback_v4);
    family(true, f.slots_v6, f.fallback_v6);
  }

  void add_map(const FrontendKey& key, const NftFrontend& f, bool v6,
               const std::vector<std::string>& slots) {
    if (slots.empty()) return;
    const std::string name = map_name(key, f, v6);
    emit("add map inet {} {} {{ typeof numgen inc mod {} : {} daddr; }}", table_, name,
         slots.size(), v6 ? "ip6" : "ip");
    std::string elements;
    for (size_t i = 0; i < slots.size(); ++i) {
      fmt::format_to(std::back_inserter(elements), "{}{} : {}", i ? ", " : "", i, slots[i]);
    }
    emit("add element inet {} {} {{ {} }}", table_, name, elements);
  }

  void build(const FrontendKey& key, const NftFrontend& f) {
    add_map(key, f, false, f.slots_v4);
    add_map(key, f, true, f.slots_v6);
    emit("add chain inet {} {}", table_, chain_name(key, f));
    add_rules(key, f);
  }

  void create(const FrontendKey& key, const Frontend& frontend, const Backends& b,
              uint32_t generation, const NftFrontend* old) {
    NftFrontend f;
    f.generation = generation;
    f.masquerade = frontend.masquerade;
    f.target_port = frontend.target_port;
    f.by_source = frontend.policy.by_source();
    // Clients stay where they are when a map becomes another size.
    const auto slots = [&](const std::vector<std::string>& backends,
                           const std::vector<uint32_t>& weights,
                           const std::vector<std::string>* before) {
      const size_t count = slots_for(weights);
      const bool kept = f.by_source && before != nullptr;
      return assign_slots(kept ? resize_slots(*before, count) : std::vector<std::string>(),
                          backends, count, weights);
    };
    if (!b.v4.empty()) {
      f.slots_v4 = slots(b.v4, b.weights_v4, old == nullptr ? nullptr : &old->slots_v4);
      f.fallback_v4 = b.v4.front();
    }
    if (!b.v6.empty()) {
      f.slots_v6 = slots(b.v6, b.weights_v6, old == nullptr ? nullptr : &old->slots_v6);
      f.fallback_v6 = b.v6.front();
    }
    build(key, f);
    if (old != nullptr) dispatch("delete", key, *old);
    dispatch("add", key, f);
    // Flows that run keep what was made of them when they began. What somebody else has changed
    // (parse_nft) may be in the set or not.
    const bool unknown = old != nullptr && old->target_port == 0;
    if (unknown || f.masquerade != (old != nullptr && old->masquerade)) hide(f.masquerade, key);
    plan_.next.frontends.emplace(key, std::move(f));
  }

  // Exchanges the slots that differ.
  void exchange_map(const std::string& name, const std::vector<std::string>& from,
                    const std::vector<std::string>& to) {
    std::string out;
    std::string in;
    for (size_t i = 0; i < to.size(); ++i) {
      if (from[i] == to[i]) continue;
      fmt::format_to(std::back_inserter(out), "{}{} : {}", out.empty() ? "" : ", ", i, from[i]);
      fmt::format_to(std::back_inserter(in), "{}{} : {}", in.empty() ? "" : ", ", i, to[i]);
    }
    if (in.empty()) return;
    emit("delete element inet {} {} {{ {} }}", table_, name, out);
    emit("add element inet {} {} {{ {} }}", table_, name, in);
  }

  void exchange(const FrontendKey& key, const NftFrontend& old, const Backends& b) {
    NftFrontend f = old;
    f.slots_v4 = assign_slots(old.slots_v4, b.v4, old.slots_v4.size(), b.weights_v4);
    f.slots_v6 = assign_slots(old.slots_v6, b.v6, old.slots_v6.size(), b.weights_v6);
    exchange_map(map_name(key, f, false), old.slots_v4, f.slots_v4);
    exchange_map(map_name(key, f, true), old.slots_v6, f.slots_v6);
    bool rules = false;
    const auto refresh = [&](std::string& fallback, const std::vector<std::string>& backends) {
      if (backends.empty() ||
          std::find(backends.begin(), backends.end(), fallback) != backends.end()) {
        return;
      }
      fallback = backends.front();
      rules = true;
    };
    refresh(f.fallback_v4, b.v4);
    refresh(f.fallback_v6, b.v6);
    if (rules) {
      emit("flush chain inet {} {}", table_, chain_name(key, f));
      add_rules(key, f);
    }
    plan_.next.frontends.emplace(key, std::move(f));
  }

  std::string_view table_;
  const NftState& now_;
  size_t turn_;
  size_t most_;
  NftPlan plan_;
};

}  // namespace

Result<NftPlan> plan_nft(std::string_view table, const NftState& now,
                         const std::vector<Frontend>& frontends, size_t turn, size_t most) {
  return Planner(table, now, turn, most).plan(frontends);
}

std::string restore_nft(std::string_view table, const NftState& state) {
  return Planner(table, state, 0, kSlotsMax).restore();
}

}  // namespace muster::overlay
