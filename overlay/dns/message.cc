#include "overlay/dns/message.h"

#include <ldns/ldns.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <utility>

#include "overlay/dns/name_table.h"

namespace muster::overlay::dns {
namespace {

constexpr size_t kHeaderSize = 12;
constexpr size_t kLabelMax = 63;
constexpr size_t kNameWireMax = 255;
// Whatever other resolvers say, for so long at most an answer of theirs is kept.
constexpr Duration kKeptMax = 1h;
constexpr Duration kNegativeKeptMax = 5min;

struct PacketFree {
  void operator()(ldns_pkt* packet) const { ldns_pkt_free(packet); }
};
using Packet = std::unique_ptr<ldns_pkt, PacketFree>;

Packet parse(std::string_view bytes) {
  ldns_pkt* packet = nullptr;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (ldns_wire2pkt(&packet, data, bytes.size()) != LDNS_STATUS_OK) return nullptr;
  return Packet(packet);
}

std::string serialize(const ldns_pkt* packet) {
  uint8_t* data = nullptr;
  size_t size = 0;
  std::string out;
  if (ldns_pkt2wire(&data, packet, &size) == LDNS_STATUS_OK) {
    out.assign(reinterpret_cast<const char*>(data), size);
  }
  std::free(data);
  return out;
}

// "web.shop" as labels with their lengths. Empty for what is no name.
std::string name_to_wire(std::string_view name) {
  std::string out;
  while (!name.empty()) {
    const size_t end = std::min(name.find('.'), name.size());
    if (end == 0 || end > kLabelMax) return {};
    out.push_back(static_cast<char>(end));
    out.append(name.substr(0, end));
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  out.push_back('\0');
  return out.size() <= kNameWireMax ? out : std::string();
}

// The other way round; `plain` turns false when a label is not text.
std::string wire_to_name(std::string_view wire, bool& plain) {
  std::string out;
  for (size_t at = 0; at < wire.size() && wire[at] != '\0';) {
    const auto length = static_cast<uint8_t>(wire[at]);
    if (length > kLabelMax || at + 1 + length > wire.size()) break;
    if (!out.empty()) out.push_back('.');
    for (const char c : wire.substr(at + 1, length)) {
      if (c <= ' ' || c == '.' || c == 127) plain = false;
      out.push_back(c);
    }
    at += 1 + length;
  }
  return lower_case(out);
}

std::string_view wire_of(const ldns_rdf* rdf) {
  return {reinterpret_cast<const char*>(ldns_rdf_data(rdf)), ldns_rdf_size(rdf)};
}

ldns_rdf* new_name(std::string_view wire) {
  return ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, wire.size(), wire.data());
}

void push_question(ldns_pkt* packet, const Query& query) {
  ldns_rr* question = ldns_rr_new();
  ldns_rr_set_question(question, true);
  ldns_rr_set_owner(question, new_name(query.name_wire));
  ldns_rr_set_type(question, static_cast<ldns_rr_type>(query.type));
  ldns_rr_set_class(question, static_cast<ldns_rr_class>(query.klass));
  ldns_pkt_push_rr(packet, LDNS_SECTION_QUESTION, question);
}

void push_address(ldns_rr* rr, const Ip& ip) {
  uint8_t bytes[16];
  const int size = ip.v6 ? 16 : 4;
  for (int i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(ip.value >> (8 * (size - 1 - i)));
  ldns_rr_push_rdf(rr, ldns_rdf_new_frm_data(ip.v6 ? LDNS_RDF_TYPE_AAAA : LDNS_RDF_TYPE_A,
                                             static_cast<size_t>(size), bytes));
}

// nullptr for a record whose names cannot be written.
ldns_rr* make_record(const Query& query, const Record& record, uint32_t ttl_s) {
  const std::string owner = record.owner.empty() ? query.name_wire : name_to_wire(record.owner);
  const bool has_target = record.type == kTypePtr || record.type == kTypeSrv;
  const std::string target = has_target ? name_to_wire(record.target) : std::string();
  if (owner.empty() || (has_target && target.size() <= 1)) return nullptr;
  ldns_rr* rr = ldns_rr_new();
  ldns_rr_set_owner(rr, new_name(owner));
  ldns_rr_set_type(rr, static_cast<ldns_rr_type>(record.type));
  ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
  ldns_rr_set_ttl(rr, ttl_s);
  if (record.type == kTypeSrv) {
    ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, 0));  // priority
    ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, 0));  // weight
    ldns_rr_push_rdf(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, record.port));
  }
  if (has_target) {
    ldns_rr_push_rdf(rr, new_name(target));
  } else {
    push_address(rr, record.address);
  }
  return rr;
}

void drop_last(ldns_pkt* packet, ldns_pkt_section section, ldns_rr_list* list) {
  ldns_rr_free(ldns_rr_list_pop_rr(list));
  ldns_pkt_set_section_count(packet, section, static_cast<uint16_t>(ldns_rr_list_rr_count(list)));
}

// Leaves out records from the end until the packet fits. What is missing of an answer is said by
// the TC bit; a resolver that does not come again over TCP still has the rest.
std::string serialize_within(ldns_pkt* packet, size_t bytes_max) {
  // The least a record takes on the wire: a pointer to its name, type, class, TTL, length.
  constexpr size_t kRecordMin = 12;
  std::string out = serialize(packet);
  const std::pair<ldns_pkt_section, ldns_rr_list*> sections[] = {
      {LDNS_SECTION_ADDITIONAL, ldns_pkt_additional(packet)},
      {LDNS_SECTION_AUTHORITY, ldns_pkt_authority(packet)},
      {LDNS_SECTION_ANSWER, ldns_pkt_answer(packet)}};
  for (const auto& [section, list] : sections) {
    while (out.size() > bytes_max && ldns_rr_list_rr_count(list) > 0) {
      // By the share of what is too long, so that a long answer is not written a thousand times.
      const size_t count = ldns_rr_list_rr_count(list);
      const size_t share = (out.size() - bytes_max) / (out.size() / count + kRecordMin);
      for (size_t i = 0; i < std::clamp<size_t>(share, 1, count); ++i) {
        drop_last(packet, section, list);
      }
      if (section == LDNS_SECTION_ANSWER) ldns_pkt_set_tc(packet, true);
      out = serialize(packet);
    }
  }
  return out;
}

void set_edns(ldns_pkt* packet, const Query& query) {
  if (!query.edns) return;
  ldns_pkt_set_edns_udp_size(packet, kUdpAnswerMax);
  ldns_pkt_set_edns_do(packet, query.dnssec_ok);
}

std::string complaint_about(std::string_view packet, Rcode rcode) {
  std::string out(packet.substr(0, kHeaderSize));
  const auto flags = static_cast<uint8_t>(out[2]);
  out[2] = static_cast<char>(0x80 | (flags & 0x79));  // an answer, with their opcode and RD
  out[3] = static_cast<char>(rcode);
  std::fill(out.begin() + 4, out.end(), '\0');
  return out;
}

std::string bad_version(const Query& query) {
  const Packet packet(ldns_pkt_new());
  ldns_pkt_set_id(packet.get(), query.id);
  ldns_pkt_set_qr(packet.get(), true);
  ldns_pkt_set_rd(packet.get(), query.recursion_desired);
  push_question(packet.get(), query);
  ldns_pkt_set_edns_udp_size(packet.get(), kUdpAnswerMax);
  ldns_pkt_set_edns_extended_rcode(packet.get(), 1);  // BADVERS is 16, in two places
  return serialize(packet.get());
}

bool same_question(const ldns_pkt* packet, const Query& query) {
  const ldns_rr_list* questions = ldns_pkt_question(packet);
  if (ldns_rr_list_rr_count(questions) != 1) return false;
  const ldns_rr* question = ldns_rr_list_rr(questions, 0);
  return ldns_rr_get_type(question) == query.type && ldns_rr_get_class(question) == query.klass &&
         lower_case(wire_of(ldns_rr_owner(question))) == lower_case(query.name_wire);
}

// RFC 2181: a TTL with the highest bit set is none.
uint32_t seconds_of(const ldns_rr* rr) {
  const uint32_t ttl = ldns_rr_ttl(rr);
  return ttl > INT32_MAX ? 0 : ttl;
}

// RFC 2308: how long "there is no such thing" may be kept is in the SOA record beside it.
Duration negative_ttl(const ldns_pkt* packet) {
  const ldns_rr_list* list = ldns_pkt_authority(packet);
  for (size_t i = 0; i < ldns_rr_list_rr_count(list); ++i) {
    const ldns_rr* rr = ldns_rr_list_rr(list, i);
    if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || ldns_rr_rd_count(rr) < 7) continue;
    const ldns_rdf* minimum = ldns_rr_rdf(rr, 6);
    if (ldns_rdf_size(minimum) != 4) continue;
    const uint32_t seconds = std::min(seconds_of(rr), ldns_rdf2native_int32(minimum));
    return std::min<Duration>(seconds * Duration(1s), kNegativeKeptMax);
  }
  return Duration(0);
}

Duration ttl_of(const ldns_pkt* packet) {
  const auto rcode = ldns_pkt_get_rcode(packet);
  if (rcode != LDNS_RCODE_NOERROR && rcode != LDNS_RCODE_NXDOMAIN) return Duration(0);
  if (ldns_pkt_tc(packet)) return Duration(0);
  if (rcode == LDNS_RCODE_NXDOMAIN || ldns_pkt_ancount(packet) == 0) return negative_ttl(packet);
  Duration ttl = kKeptMax;
  for (const ldns_rr_list* list : {ldns_pkt_answer(packet), ldns_pkt_authority(packet)}) {
    for (size_t i = 0; i < ldns_rr_list_rr_count(list); ++i) {
      ttl = std::min<Duration>(ttl, seconds_of(ldns_rr_list_rr(list, i)) * Duration(1s));
    }
  }
  return ttl;
}

// Moves the records of a section over, older by `age_s`.
void copy_section(ldns_pkt* to, ldns_pkt_section section, const ldns_rr_list* from,
                  uint32_t age_s) {
  for (size_t i = 0; i < ldns_rr_list_rr_count(from); ++i) {
    ldns_rr* rr = ldns_rr_clone(ldns_rr_list_rr(from, i));
    const uint32_t ttl = seconds_of(rr);
    ldns_rr_set_ttl(rr, ttl > age_s ? ttl - age_s : 0);
    ldns_pkt_push_rr(to, section, rr);
  }
}

}  // namespace

ParsedQuery parse_query(std::string_view bytes) {
  ParsedQuery out;
  if (bytes.size() < kHeaderSize) return out;
  const auto flags = static_cast<uint8_t>(bytes[2]);
  if ((flags & 0x80) != 0) return out;  // an answer: never answered, or two of us would not stop
  const bool is_query = ((flags >> 3) & 0xf) == 0;
  const Packet packet = is_query ? parse(bytes) : nullptr;
  const ldns_rr_list* questions = packet ? ldns_pkt_question(packet.get()) : nullptr;
  if (!is_query || questions == nullptr || ldns_rr_list_rr_count(questions) != 1) {
    out.complaint = complaint_about(bytes, is_query ? kFormatError : kNotImplemented);
    return out;
  }
  const ldns_rr* question = ldns_rr_list_rr(questions, 0);
  Query query;
  query.id = ldns_pkt_id(packet.get());
  query.name_wire = wire_of(ldns_rr_owner(question));
  query.name = wire_to_name(query.name_wire, query.plain);
  query.type = static_cast<uint16_t>(ldns_rr_get_type(question));
  query.klass = static_cast<uint16_t>(ldns_rr_get_class(question));
  query.recursion_desired = ldns_pkt_rd(packet.get());
  query.checking_disabled = ldns_pkt_cd(packet.get());
  query.authentic_data = ldns_pkt_ad(packet.get());
  query.edns = ldns_pkt_edns(packet.get());
  if (query.edns) {
    query.dnssec_ok = ldns_pkt_edns_do(packet.get());
    query.udp_answer_max =
        std::clamp<size_t>(ldns_pkt_edns_udp_size(packet.get()), kUdpPlainMax, kUdpAnswerMax);
    if (ldns_pkt_edns_version(packet.get()) > 0) {
      out.complaint = bad_version(query);
      return out;
    }
  }
  out.query = std::move(query);
  return out;
}

std::string build_answer(const Query& query, const Answer& answer, uint32_t ttl_s,
                         size_t bytes_max) {
  const Packet packet(ldns_pkt_new());
  ldns_pkt_set_id(packet.get(), query.id);
  ldns_pkt_set_qr(packet.get(), true);
  ldns_pkt_set_aa(packet.get(), answer.authoritative);
  ldns_pkt_set_rd(packet.get(), query.recursion_desired);
  ldns_pkt_set_cd(packet.get(), query.checking_disabled);
  ldns_pkt_set_ra(packet.get(), true);
  ldns_pkt_set_rcode(packet.get(), answer.rcode);
  push_question(packet.get(), query);
  for (const Record& record : answer.records) {
    if (ldns_rr* rr = make_record(query, record, ttl_s)) {
      ldns_pkt_push_rr(packet.get(), LDNS_SECTION_ANSWER, rr);
    }
  }
  for (const Record& record : answer.additional) {
    if (ldns_rr* rr = make_record(query, record, ttl_s)) {
      ldns_pkt_push_rr(packet.get(), LDNS_SECTION_ADDITIONAL, rr);
    }
  }
  set_edns(packet.get(), query);
  return serialize_within(packet.get(), bytes_max);
}

std::string build_upstream_query(const Query& query, uint16_t id, bool edns) {
  const Packet packet(ldns_pkt_new());
  ldns_pkt_set_id(packet.get(), id);
  ldns_pkt_set_rd(packet.get(), query.recursion_desired);
  ldns_pkt_set_cd(packet.get(), query.checking_disabled);
  ldns_pkt_set_ad(packet.get(), query.authentic_data);
  push_question(packet.get(), query);
  if (edns) {
    ldns_pkt_set_edns_udp_size(packet.get(), kUdpUpstreamMax);
    ldns_pkt_set_edns_do(packet.get(), query.dnssec_ok);
  }
  return serialize(packet.get());
}

Result<UpstreamAnswer> parse_upstream_answer(std::string_view bytes, const Query& query,
                                             uint16_t id) {
  const Packet packet = bytes.size() < kHeaderSize ? nullptr : parse(bytes);
  if (packet == nullptr) {
    // Some servers answer what they cannot read with a header alone.
    if (bytes.size() < kHeaderSize) return fail(data_loss("not a DNS message"));
    const auto* raw = reinterpret_cast<const uint8_t*>(bytes.data());
    if (raw[0] * 256 + raw[1] != id || (raw[2] & 0x80) == 0) {
      return fail(data_loss("not a DNS message"));
    }
    UpstreamAnswer out;
    out.truncated = (raw[2] & 0x02) != 0;
    out.rcode = raw[3] & 0x0f;
    if (out.rcode == kNoError && !out.truncated) out.rcode = kServerFailure;
    return out;
  }
  if (!ldns_pkt_qr(packet.get()) || ldns_pkt_id(packet.get()) != id) {
    return fail(data_loss("the answer to another question"));
  }
  UpstreamAnswer out;
  out.rcode = static_cast<uint8_t>(ldns_pkt_get_rcode(packet.get()));
  out.truncated = ldns_pkt_tc(packet.get());
  const bool refusal = out.rcode == kFormatError || out.rcode == kNotImplemented;
  const bool bare = ldns_pkt_qdcount(packet.get()) == 0;
  if (!same_question(packet.get(), query) && !(refusal && bare)) {
    return fail(data_loss("the answer to another question"));
  }
  out.ttl = ttl_of(packet.get());
  return out;
}

std::string relay_answer(std::string_view bytes, const Query& query, Duration age,
                         size_t bytes_max) {
  const Packet theirs = parse(bytes);
  if (theirs == nullptr) return build_answer(query, {kServerFailure, false, {}, {}}, 0, bytes_max);
  // A message of our own: the question as it was asked here (letters may differ in case), and
  // nothing of their EDNS, which is between two neighbours.
  const Packet packet(ldns_pkt_new());
  ldns_pkt_set_id(packet.get(), query.id);
  ldns_pkt_set_qr(packet.get(), true);
  ldns_pkt_set_rd(packet.get(), query.recursion_desired);
  ldns_pkt_set_ra(packet.get(), true);
  ldns_pkt_set_cd(packet.get(), query.checking_disabled);
  ldns_pkt_set_ad(packet.get(), ldns_pkt_ad(theirs.get()));
  ldns_pkt_set_rcode(packet.get(), static_cast<uint8_t>(ldns_pkt_get_rcode(theirs.get())));
  push_question(packet.get(), query);
  const auto age_s = static_cast<uint32_t>(age / 1s);
  copy_section(packet.get(), LDNS_SECTION_ANSWER, ldns_pkt_answer(theirs.get()), age_s);
  copy_section(packet.get(), LDNS_SECTION_AUTHORITY, ldns_pkt_authority(theirs.get()), age_s);
  copy_section(packet.get(), LDNS_SECTION_ADDITIONAL, ldns_pkt_additional(theirs.get()), age_s);
  set_edns(packet.get(), query);
  return serialize_within(packet.get(), bytes_max);
}

std::optional<Ip> address_of_reverse_name(std::string_view name) {
  constexpr std::string_view kV4 = ".in-addr.arpa";
  constexpr std::string_view kV6 = ".ip6.arpa";
  const bool v6 = name.ends_with(kV6);
  if (!v6 && !name.ends_with(kV4)) return std::nullopt;
  name.remove_suffix(v6 ? kV6.size() : kV4.size());
  Ip ip{v6, 0};
  const int base = v6 ? 16 : 10;
  const int bits = v6 ? 4 : 8;
  const int count = ip.bits() / bits;
  for (int i = 0; i < count; ++i) {
    if (name.empty()) return std::nullopt;
    const std::string_view part = name.substr(0, name.find('.'));
    unsigned value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value, base);
    if (error != std::errc() || end != part.data() + part.size() || value >> bits != 0) {
      return std::nullopt;
    }
    ip.value |= static_cast<Uint128>(value) << (bits * i);
    const bool last = i + 1 == count;
    if (last != (part.size() == name.size())) return std::nullopt;
    name.remove_prefix(last ? part.size() : part.size() + 1);
  }
  return ip;
}

}  // namespace muster::overlay::dns
