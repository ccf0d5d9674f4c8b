#include <algorithm>

#include "base/rng.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {

Result<int> network_ls(Run& run) {
  ListOptions options;
  options.declare(run.flags, true);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"id", "name", "label", "driver", "scope"}));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListNetworksRequest()));
  std::vector<v1::Network> networks(response.networks().begin(), response.networks().end());
  std::sort(networks.begin(), networks.end(), [](const auto& a, const auto& b) {
    return natural_less(a.spec().annotations().name(), b.spec().annotations().name());
  });
  Listing listing({{"ID", "NETWORK ID"},
                   {"Name", "NAME"},
                   {"Driver", "DRIVER"},
                   {"Scope", "SCOPE"},
                   {"Internal", "INTERNAL", false},
                   {"IPv6", "IPV6", false},
                   {"CreatedAt", "CREATED AT", false}});
  for (const auto& network : networks) {
    const auto& spec = network.spec();
    const auto& filters = options.filters;
    if (!filters.prefixes("id", network.id()) ||
        !filters.prefixes("name", spec.annotations().name()) ||
        !filters.labels("label", spec.annotations().labels()) ||
        !filters.equals("driver", spec.driver()) || !filters.equals("scope", "swarm"))
      continue;
    listing.add({options.id(network.id()), spec.annotations().name(), spec.driver(), "swarm",
                 spec.internal() ? "true" : "false", spec.ipv6() ? "true" : "false",
                 format_rfc3339(WallTime{network.meta().created_at_ns()})});
  }
  MUSTER_TRY(options.print(run, listing));
  return 0;
}

Result<int> network_create(Run& run) {
  v1::CreateNetworkRequest request;
  auto* spec = request.mutable_spec();
  std::string driver = "overlay", scope, ipam_driver;
  bool internal = false, attachable = false, ingress = false, ipv6 = false;
  std::vector<std::string> subnets, gateways, ranges, aux, options, labels;
  run.flags.value("driver,d", &driver, "NAME", "overlay (default) or bridge");
  run.flags.value("scope", &scope, "swarm", "accepted for compatibility");
  run.flags.toggle("internal", &internal, "no way out of the network");
  run.flags.toggle("attachable", &attachable, "allow attaching by hand");
  run.flags.toggle("ingress", &ingress, "make it the routing mesh's network");
  run.flags.toggle("ipv6", &ipv6, "enable IPv6");
  run.flags.list("subnet", &subnets, "CIDR", "subnet");
  run.flags.list("gateway", &gateways, "IP", "gateway of a subnet");
  run.flags.list("ip-range", &ranges, "CIDR", "give out addresses from this part only");
  run.flags.list("aux-address", &aux, "NAME=IP", "never give out this address");
  run.flags.value("ipam-driver", &ipam_driver, "NAME", "address management driver");
  run.flags.list("opt,o", &options, "K=V", "driver option");
  run.flags.list("label", &labels, "K=V", "label");
  MUSTER_TRY(run.parse(1, 1));
  if (gateways.size() > subnets.size() || ranges.size() > subnets.size())
    return fail(usage_error("every gateway and ip-range must have a corresponding subnet"));
  if (!aux.empty() && subnets.empty())
    return fail(usage_error("no matching subnet for aux-address"));
  spec->mutable_annotations()->set_name(run.args[0]);
  for (const auto& label : labels)
    set_pair(spec->mutable_annotations()->mutable_labels(), parse_key_value(label));
  for (const auto& option : options)
    set_pair(spec->mutable_driver_options(), parse_key_value(option));
  spec->set_driver(driver);
  spec->set_internal(internal);
  spec->set_attachable(attachable);
  spec->set_ingress(ingress);
  spec->set_ipv6(ipv6);
  spec->set_ipam_driver(ipam_driver);
  for (size_t i = 0; i < subnets.size(); ++i) {
    auto* pool = spec->add_pools();
    pool->set_subnet(subnets[i]);
    if (i < gateways.size()) pool->set_gateway(gateways[i]);
    if (i < ranges.size()) pool->set_ip_range(ranges[i]);
  }
  for (const auto& address : aux)
    set_pair(spec->mutable_pools(0)->mutable_aux_addresses(), parse_key_value(address));
  SystemRng rng;
  request.set_request_id(rng.id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  for (const auto& warning : response.network().warnings()) run.warn("WARNING: " + warning);
  run.line(response.network().id());
  return 0;
}

Result<int> network_inspect(Run& run) {
  std::string format;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  MUSTER_TRY(run.parse(1, -1));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::GetNetworkRequest request;
    request.set_network(name);
    MUSTER_ASSIGN(const auto response, run.client().call(request));
    objects.push_back(network_json(response.network()));
    return ok_status();
  });
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

Result<int> network_rm(Run& run) {
  bool force = false;
  run.flags.toggle("force,f", &force, "no error when the network does not exist");
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::RemoveNetworkRequest request;
    request.set_network(name);
    const auto response = run.client().call(request);
    if (!response && !(force && response.error().code() == StatusCode::kNotFound))
      return response.error();
    run.line(name);
    return ok_status();
  });
}

}  // namespace muster::deploy::cli
