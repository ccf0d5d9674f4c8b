#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay::dns {

// DNS messages (RFC 1035, 6891) to and from bytes, by ldns. Pure.

// Numbers of the registry that are used here.
enum Type : uint16_t { kTypeA = 1, kTypePtr = 12, kTypeAaaa = 28, kTypeSrv = 33, kTypeAny = 255 };
enum Rcode : uint8_t {
  kNoError = 0,
  kFormatError = 1,
  kServerFailure = 2,
  kNameError = 3,
  kNotImplemented = 4,
  kRefused = 5,
};

// The largest answer we send, and accept, over UDP. Answers stay on the host, questions to other
// resolvers name a size that no path cuts to pieces.
constexpr size_t kUdpAnswerMax = 4096;
constexpr size_t kUdpUpstreamMax = 1232;
constexpr size_t kTcpAnswerMax = 65535;
constexpr size_t kUdpPlainMax = 512;

struct Query {
  uint16_t id = 0;
  std::string name;       // in lower case, dotted, without a closing dot; "" is the root
  bool plain = true;      // the name is text; otherwise it cannot be one of ours
  std::string name_wire;  // as it was asked
  uint16_t type = 0;
  uint16_t klass = 1;
  bool recursion_desired = false;
  bool checking_disabled = false;
  bool authentic_data = false;
  bool edns = false;
  bool dnssec_ok = false;
  size_t udp_answer_max = kUdpPlainMax;
};

struct ParsedQuery {
  std::optional<Query> query;
  // Without a query: what to answer to a message that is none we understand; empty = nothing.
  std::string complaint;
};
ParsedQuery parse_query(std::string_view packet);

struct Record {
  uint16_t type = kTypeA;
  Ip address;           // A, AAAA
  std::string target;   // PTR, SRV
  uint16_t port = 0;    // SRV
  std::string owner{};  // empty = the name that was asked for
};
struct Answer {
  Rcode rcode = kNoError;
  bool authoritative = true;
  std::vector<Record> records;
  std::vector<Record> additional;
};
// At most `bytes_max` long: records that do not fit are left out and the answer says so.
std::string build_answer(const Query& query, const Answer& answer, uint32_t ttl_s,
                         size_t bytes_max);

// The question for another resolver.
std::string build_upstream_query(const Query& query, uint16_t id, bool edns);

struct UpstreamAnswer {
  uint8_t rcode = kNoError;
  bool truncated = false;
  Duration ttl{0};  // how long it may be kept; 0 = not at all
};
// DATA_LOSS for what is not the answer to that question.
Result<UpstreamAnswer> parse_upstream_answer(std::string_view packet, const Query& query,
                                             uint16_t id);
// Another resolver's answer, `age` old, for whoever asked us.
std::string relay_answer(std::string_view packet, const Query& query, Duration age,
                         size_t bytes_max);

// The address that a name of in-addr.arpa or ip6.arpa stands for.
std::optional<Ip> address_of_reverse_name(std::string_view name);

}  // namespace muster::overlay::dns
