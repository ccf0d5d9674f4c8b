#include "overlay/dns/resolver.h"

#include <span>
#include <utility>

namespace muster::overlay::dns {
namespace {

constexpr uint16_t kClassIn = 1;

bool wants(const Query& query, const Ip& ip) {
  if (query.type == kTypeAny) return true;
  return query.type == (ip.v6 ? kTypeAaaa : kTypeA);
}

}  // namespace

Answer Resolver::addresses_answer(const Query& query, std::vector<Ip> addresses) const {
  Answer out;
  rng_.shuffle(std::span(addresses));
  for (const Ip& ip : addresses) {
    // A name of ours that has no address of the family, or no record of the type, is still ours:
    // "no such name" would make clients give up before they ask for the other family.
    if (wants(query, ip)) out.records.push_back({ip.v6 ? kTypeAaaa : kTypeA, ip, {}, 0});
  }
  return out;
}

Answer Resolver::service_answer(const Query& query, std::vector<ServiceTarget> targets) const {
  Answer out;
  if (query.type != kTypeSrv && query.type != kTypeAny) return out;
  rng_.shuffle(std::span(targets));
  for (const ServiceTarget& target : targets) {
    out.records.push_back({kTypeSrv, {}, target.name, target.port});
    for (const Ip& ip : target.addresses) {
      out.additional.push_back({ip.v6 ? kTypeAaaa : kTypeA, ip, {}, 0, target.name});
    }
  }
  return out;
}

std::optional<Answer> Resolver::find_reverse(const NameTable::Networks& networks,
                                             const Query& query) const {
  const auto address = address_of_reverse_name(query.name);
  if (!address) return std::nullopt;
  const NameTable::Reverse reverse = table_.find_address(networks, *address);
  if (!reverse.ours) return std::nullopt;
  Answer out;
  if (reverse.name.empty()) {
    out.rcode = kNameError;
  } else if (query.type == kTypePtr || query.type == kTypeAny) {
    out.records.push_back({kTypePtr, {}, reverse.name, 0});
  }
  return out;
}

std::optional<Answer> Resolver::find(const NameTable::Networks& networks,
                                     const Query& query) const {
  if (!query.plain || query.klass != kClassIn) return std::nullopt;
  if (auto reverse = find_reverse(networks, query)) return reverse;
  const NameAddresses named = table_.find(networks, query.name);
  if (named.known) return addresses_answer(query, named.addresses);
  if (auto targets = table_.find_service(networks, query.name)) {
    return service_answer(query, *std::move(targets));
  }
  return std::nullopt;
}

std::optional<std::string> Resolver::answer(const NameTable::Networks& networks, const Query& query,
                                            size_t bytes_max) const {
  const auto found = find(networks, query);
  if (!found) return std::nullopt;
  return build_answer(query, *found, static_cast<uint32_t>(ttl_ / 1s), bytes_max);
}

std::string failure_answer(const Query& query, Rcode rcode) {
  return build_answer(query, {rcode, false, {}, {}}, 0, kUdpPlainMax);
}

}  // namespace muster::overlay::dns
