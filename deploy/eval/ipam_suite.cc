#include "deploy/eval/ipam_suite.h"

#include <string>
#include <vector>

#include "overlay/ipam/ipam.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;
using overlay::Ipam;
using overlay::Prefix;

const json::value* member(const json::object& o, std::string_view key) {
  return o.if_contains(json::string_view(key.data(), key.size()));
}

Result<std::string> text(const json::object& o, std::string_view key) {
  const json::value* v = member(o, key);
  if (v == nullptr || v->is_null()) return std::string();
  if (!v->is_string()) return fail(invalid_argument("\"{}\" is not a string", key));
  return std::string(v->as_string());
}

Result<uint32_t> number(const json::object& o, std::string_view key) {
  const json::value* v = member(o, key);
  if (v == nullptr || v->is_null()) return 0;
  boost::system::error_code error;
  const auto n = v->to_number<uint32_t>(error);
  if (error) return fail(invalid_argument("\"{}\" is not a number", key));
  return n;
}

Result<std::vector<std::string>> texts(const json::object& o, std::string_view key) {
  std::vector<std::string> out;
  const json::value* v = member(o, key);
  if (v == nullptr) return out;
  if (!v->is_array()) return fail(invalid_argument("\"{}\" is not a list", key));
  for (const json::value& item : v->as_array()) {
    if (!item.is_string()) return fail(invalid_argument("\"{}\" is not a list of strings", key));
    out.emplace_back(item.as_string());
  }
  return out;
}

Result<std::vector<Prefix>> prefixes(const json::object& o, std::string_view key) {
  std::vector<Prefix> out;
  MUSTER_ASSIGN(const auto list, texts(o, key));
  for (const std::string& item : list) {
    MUSTER_ASSIGN(const Prefix prefix, Prefix::parse(item));
    out.push_back(prefix);
  }
  return out;
}

Result<v1::Network> network_of(const json::object& op, const std::string& name) {
  v1::Network network;
  network.set_id(name);
  auto& spec = *network.mutable_spec();
  spec.mutable_annotations()->set_name(name);
  MUSTER_ASSIGN(*spec.mutable_driver(), text(op, "driver"));
  const json::value* ipv6 = member(op, "ipv6");
  spec.set_ipv6(ipv6 != nullptr && ipv6->is_bool() && ipv6->as_bool());
  const json::value* ingress = member(op, "ingress");
  spec.set_ingress(ingress != nullptr && ingress->is_bool() && ingress->as_bool());
  const json::value* pools = member(op, "pools");
  if (pools == nullptr) return network;
  if (!pools->is_array()) return fail(invalid_argument("\"pools\" is not a list"));
  for (const json::value& item : pools->as_array()) {
    if (!item.is_object()) return fail(invalid_argument("a pool is not an object"));
    auto& pool = *spec.add_pools();
    MUSTER_ASSIGN(*pool.mutable_subnet(), text(item.as_object(), "subnet"));
    MUSTER_ASSIGN(*pool.mutable_ip_range(), text(item.as_object(), "ip_range"));
    MUSTER_ASSIGN(*pool.mutable_gateway(), text(item.as_object(), "gateway"));
    MUSTER_ASSIGN(const auto aux, texts(item.as_object(), "aux_addresses"));
    for (const std::string& address : aux) pool.add_aux_addresses()->set_value(address);
  }
  return network;
}

Result<v1::PortConfig> port_of(const json::object& op) {
  v1::PortConfig port;
  MUSTER_ASSIGN(const uint32_t published, number(op, "port"));
  port.set_published_port(published);
  MUSTER_ASSIGN(const std::string protocol, text(op, "protocol"));
  MUSTER_ASSIGN(const std::string mode, text(op, "mode"));
  if (protocol == "udp") port.set_protocol(v1::PortConfig::UDP);
  if (protocol == "sctp") port.set_protocol(v1::PortConfig::SCTP);
  if (mode == "host") port.set_mode(v1::PortConfig::HOST);
  return port;
}

template <class Pools>
json::array pools_json(const Pools& pools) {
  json::array out;
  for (const v1::IpamPool& pool : pools) {
    out.push_back(json::object{{"subnet", pool.subnet()}, {"gateway", pool.gateway()}});
  }
  return out;
}

// One operation. An error of the form is the function's, one of the operation is in the answer.
Result<json::object> run(Ipam& ipam, const json::object& op) {
  MUSTER_ASSIGN(const std::string kind, text(op, "op"));
  MUSTER_ASSIGN(const std::string network, text(op, "network"));
  json::object out;
  const auto error = [&](const Status& s) {
    out["error"] = s.message();
    return out;
  };
  if (kind == "network") {
    MUSTER_ASSIGN(const v1::Network wanted, network_of(op, network));
    const auto state =
        wanted.spec().ingress() ? ipam.take_shared_network(wanted) : ipam.take_network(wanted);
    if (!state) return error(state.error());
    out["pools"] = pools_json(state->pools());
    out["vni"] = state->vni();
  } else if (kind == "grow") {
    MUSTER_ASSIGN(const v1::Network wanted, network_of(op, network));
    const auto& pools = wanted.spec().pools();
    const auto grown = ipam.grow_network(network, {pools.begin(), pools.end()});
    if (!grown) return error(grown.error());
    out["pools"] = pools_json(*grown);
  } else if (kind == "remove-network") {
    ipam.put_back_network(network);
  } else if (kind == "address") {
    MUSTER_ASSIGN(const auto wanted, texts(op, "wanted"));
    const auto addresses = ipam.take_addresses(network, wanted);
    if (!addresses) return error(addresses.error());
    out["addresses"] = json::array(addresses->begin(), addresses->end());
    out["mac"] = overlay::mac_of(overlay::Cidr::parse(addresses->front())->ip);
  } else if (kind == "release") {
    MUSTER_ASSIGN(const std::string address, text(op, "address"));
    out["released"] = ipam.put_back_address(network, address);
  } else if (kind == "port" || kind == "release-port") {
    MUSTER_ASSIGN(v1::PortConfig port, port_of(op));
    MUSTER_ASSIGN(const std::string owner, text(op, "service"));
    if (kind == "release-port") {
      out["released"] = ipam.ports().put_back(port, owner);
      return out;
    }
    if (const Status taken = ipam.ports().take(port, owner); !taken.ok()) return error(taken);
    out["port"] = port.published_port();
  } else if (kind == "free") {
    out["free"] = ipam.free_addresses(network);
  } else {
    return fail(invalid_argument("unknown operation \"{}\"", kind));
  }
  return out;
}

}  // namespace

Result<json::value> eval_ipam(const json::value& input) {
  if (!input.is_object()) return fail(invalid_argument("the case is not an object"));
  const json::object& test = input.as_object();
  auto options = overlay::SubnetPoolOptions::defaults();
  MUSTER_ASSIGN(const auto pools, prefixes(test, "default_address_pools"));
  if (!pools.empty()) options.pools = pools;
  MUSTER_ASSIGN(auto avoid, prefixes(test, "avoid"));
  MUSTER_ASSIGN(const uint32_t bits, number(test, "subnet_mask_bits"));
  if (bits > 30) return fail(invalid_argument("\"subnet_mask_bits\" is above 30"));
  if (bits != 0) options.mask_bits_v4 = static_cast<int>(bits);
  Ipam ipam(std::move(options));
  ipam.avoid(overlay::RangeSet(std::move(avoid)));
  const json::value* operations = member(test, "operations");
  if (operations == nullptr || !operations->is_array()) {
    return fail(invalid_argument("\"operations\" is missing or not a list"));
  }
  json::array results;
  for (const json::value& op : operations->as_array()) {
    if (!op.is_object()) return fail(invalid_argument("an operation is not an object"));
    MUSTER_ASSIGN(json::object result, run(ipam, op.as_object()));
    results.push_back(std::move(result));
  }
  return json::value(json::object{{"results", std::move(results)}});
}

}  // namespace muster::deploy::eval
