// Any bytes as a message of DNS: as a container's question, as another resolver's answer, and as
// what is kept and handed on.

#include <cstdint>
#include <string>
#include <string_view>

#include "overlay/dns/message.h"
#include "overlay/dns/resolver.h"

namespace {

using namespace muster;                // NOLINT: a program of one file
using namespace muster::overlay::dns;  // NOLINT

const NameTable& table() {
  static const NameTable filled = [] {
    NameTable out;
    v1::NetdNetwork network;
    network.set_id("n");
    network.set_name("net");
    network.add_subnets("10.0.1.0/24");
    out.set(network);
    v1::NetdEndpoint endpoint;
    endpoint.set_network_id("n");
    endpoint.set_task_id("t");
    endpoint.set_service_name("web");
    endpoint.set_name("web.1.t");
    endpoint.add_addresses("10.0.1.3");
    endpoint.add_addresses("fd00::3");
    endpoint.set_ready(true);
    out.set(endpoint);
    return out;
  }();
  return filled;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  SeededRng rng(1);
  const Resolver resolver(table(), rng);
  const ParsedQuery parsed = parse_query(bytes);
  Query query;
  query.name = "example.org";
  query.name_wire = std::string("\7example\3org\0", 13);
  query.type = kTypeA;
  if (parsed.query) {
    query = *parsed.query;
    const auto answer = resolver.answer({"n"}, query, query.udp_answer_max);
    if (answer && answer->size() > query.udp_answer_max) __builtin_trap();
    (void)build_upstream_query(query, 7, true);
    (void)failure_answer(query, kServerFailure);
  }
  const auto id = static_cast<uint16_t>(size < 2 ? 0 : data[0] * 256 + data[1]);
  if (parse_upstream_answer(bytes, query, id)) {
    const std::string relayed = relay_answer(bytes, query, 3s, kUdpPlainMax);
    if (relayed.size() > kUdpPlainMax) __builtin_trap();
  }
  (void)address_of_reverse_name(bytes);
  return 0;
}
