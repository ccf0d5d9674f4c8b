#include "agent/doctor/name_query.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>

#include <algorithm>

namespace muster::agent {
namespace {

constexpr uint16_t kAnswerMax = 4096;
constexpr size_t kLabelMax = 63;

void put16(std::string& out, uint16_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value & 0xff);
}

}  // namespace

std::string name_query(uint16_t id, const HostTests::Question& question) {
  std::string out;
  put16(out, id);
  put16(out, 0x0100);  // recursion desired, as every stub resolver asks
  for (const uint16_t count : {1, 0, 0, 1}) put16(out, count);
  std::string_view rest = question.name;
  while (!rest.empty()) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view label = rest.substr(0, std::min(dot, kLabelMax));
    if (!label.empty()) {
      out += static_cast<char>(label.size());
      out += label;
    }
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  out += '\0';
  put16(out, question.v6 ? ns_t_aaaa : ns_t_a);
  put16(out, ns_c_in);
  out += '\0';
  put16(out, ns_t_opt);
  put16(out, kAnswerMax);
  for (int i = 0; i < 3; ++i) put16(out, 0);
  return out;
}

std::optional<NameReply> parse_name_reply(std::string_view packet) {
  ns_msg message;
  const auto* bytes = reinterpret_cast<const unsigned char*>(packet.data());
  if (ns_initparse(bytes, static_cast<int>(packet.size()), &message) != 0) return std::nullopt;
  if (ns_msg_getflag(message, ns_f_qr) == 0) return std::nullopt;
  NameReply out;
  out.id = ns_msg_id(message);
  out.named.answered = true;
  out.named.cut = ns_msg_getflag(message, ns_f_tc) != 0;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
    ns_rr record;
    if (ns_parserr(&message, ns_s_an, i, &record) != 0) return std::nullopt;
    const bool v6 = ns_rr_type(record) == ns_t_aaaa;
    if (!v6 && ns_rr_type(record) != ns_t_a) continue;
    if (ns_rr_rdlen(record) != (v6 ? 16 : 4)) return std::nullopt;
    char text[INET6_ADDRSTRLEN];
    inet_ntop(v6 ? AF_INET6 : AF_INET, ns_rr_rdata(record), text, sizeof text);
    out.named.addresses.emplace_back(text);
  }
  return out;
}

}  // namespace muster::agent
