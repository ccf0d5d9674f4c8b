#pragma once

#include <ldns/ldns.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace muster::overlay::dns::testing {

// A question as a client's library writes it.
inline std::string question(const std::string& name, ldns_rr_type type, uint16_t id = 77,
                            uint16_t edns_size = 0, uint8_t edns_version = 0) {
  ldns_pkt* packet =
      ldns_pkt_query_new(ldns_dname_new_frm_str(name.c_str()), type, LDNS_RR_CLASS_IN, LDNS_RD);
  ldns_pkt_set_id(packet, id);
  if (edns_size > 0) ldns_pkt_set_edns_udp_size(packet, edns_size);
  if (edns_version > 0) ldns_pkt_set_edns_version(packet, edns_version);
  uint8_t* data = nullptr;
  size_t size = 0;
  ldns_pkt2wire(&data, packet, &size);
  std::string out(reinterpret_cast<const char*>(data), size);
  std::free(data);
  ldns_pkt_free(packet);
  return out;
}

// An answer as text: "NOERROR aa tc" and the records of the sections after it.
struct Shown {
  bool ok = false;
  uint16_t id = 0;
  std::string rcode;
  bool authoritative = false;
  bool truncated = false;
  bool edns = false;
  std::string name;                  // that was asked for
  std::vector<std::string> answers;  // "web. 5 A 10.0.1.3"
  std::vector<std::string> additional;
};

inline std::string text_of(char* text) {
  std::string out(text == nullptr ? "" : text);
  std::free(text);
  return out;
}

inline std::vector<std::string> records_of(const ldns_rr_list* list) {
  std::vector<std::string> out;
  for (size_t i = 0; i < ldns_rr_list_rr_count(list); ++i) {
    const ldns_rr* rr = ldns_rr_list_rr(list, i);
    std::string line = text_of(ldns_rdf2str(ldns_rr_owner(rr))) + " " +
                       std::to_string(ldns_rr_ttl(rr)) + " " +
                       text_of(ldns_rr_type2str(ldns_rr_get_type(rr)));
    for (size_t k = 0; k < ldns_rr_rd_count(rr); ++k) {
      line += " " + text_of(ldns_rdf2str(ldns_rr_rdf(rr, k)));
    }
    out.push_back(std::move(line));
  }
  return out;
}

inline Shown show(std::string_view bytes) {
  Shown out;
  ldns_pkt* packet = nullptr;
  if (ldns_wire2pkt(&packet, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) !=
      LDNS_STATUS_OK) {
    return out;
  }
  out.ok = true;
  out.id = ldns_pkt_id(packet);
  out.rcode = text_of(ldns_pkt_rcode2str(ldns_pkt_get_rcode(packet)));
  out.authoritative = ldns_pkt_aa(packet);
  out.truncated = ldns_pkt_tc(packet);
  out.edns = ldns_pkt_edns(packet);
  if (ldns_pkt_qdcount(packet) == 1) {
    out.name = text_of(ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(packet), 0))));
  }
  out.answers = records_of(ldns_pkt_answer(packet));
  out.additional = records_of(ldns_pkt_additional(packet));
  ldns_pkt_free(packet);
  return out;
}

// A server's answer to the bytes of a question, with records in zone file form.
inline std::string reply(std::string_view to, const std::vector<std::string>& answers,
                         ldns_pkt_rcode rcode = LDNS_RCODE_NOERROR, bool truncated = false,
                         const std::vector<std::string>& authority = {}) {
  ldns_pkt* packet = nullptr;
  ldns_wire2pkt(&packet, reinterpret_cast<const uint8_t*>(to.data()), to.size());
  ldns_pkt_set_qr(packet, true);
  ldns_pkt_set_ra(packet, true);
  ldns_pkt_set_tc(packet, truncated);
  ldns_pkt_set_rcode(packet, static_cast<uint8_t>(rcode));
  const auto push = [&](const std::string& line, ldns_pkt_section section) {
    ldns_rr* rr = nullptr;
    ldns_rr_new_frm_str(&rr, line.c_str(), 0, nullptr, nullptr);
    ldns_pkt_push_rr(packet, section, rr);
  };
  for (const std::string& line : answers) push(line, LDNS_SECTION_ANSWER);
  for (const std::string& line : authority) push(line, LDNS_SECTION_AUTHORITY);
  uint8_t* data = nullptr;
  size_t size = 0;
  ldns_pkt2wire(&data, packet, &size);
  std::string out(reinterpret_cast<const char*>(data), size);
  std::free(data);
  ldns_pkt_free(packet);
  return out;
}

}  // namespace muster::overlay::dns::testing
