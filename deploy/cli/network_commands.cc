#include <algorithm>

#include "base/rng.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/network_members.h"
#include "deploy/cli/network_pools.h"
#include "deploy/cli/network_waits.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {
namespace {

std::string number_text(uint32_t number) {
  return number == 0 ? "" : std::to_string(number);
}

// Who takes part in any of the networks.
Result<NetworkMembers> members_of(Run& run, const std::vector<v1::Network>& networks) {
  NetworkMembers out;
  MUSTER_ASSIGN(const auto nodes, run.client().call(v1::ListNodesRequest()));
  out.nodes.assign(nodes.nodes().begin(), nodes.nodes().end());
  MUSTER_ASSIGN(const auto services, run.client().call(v1::ListServicesRequest()));
  // Any task may be connected to those.
  const bool open = std::any_of(networks.begin(), networks.end(), [](const v1::Network& network) {
    return network.spec().attachable();
  });
  v1::ListTasksRequest wanted;
  for (const auto& entry : services.services()) {
    const v1::Service& service = entry.service();
    if (std::none_of(networks.begin(), networks.end(),
                     [&](const v1::Network& network) { return takes_part(service, network); })) {
      continue;
    }
    out.services.push_back(service);
    if (!open) wanted.mutable_filter()->add_service_ids(service.id());
  }
  if (out.services.empty() && !open) return out;
  if (open) {
    wanted.mutable_filter()->add_desired_states(v1::TASK_RUNNING);
    wanted.mutable_filter()->add_desired_states(v1::TASK_COMPLETE);
  }
  MUSTER_ASSIGN(const auto tasks, run.client().call(wanted));
  out.tasks.assign(tasks.tasks().begin(), tasks.tasks().end());
  return out;
}

}  // namespace

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
                   {"VNI", "VNI", false},
                   {"MTU", "MTU", false},
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
                 number_text(network.state().vni()), number_text(network.state().mtu()),
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
  PoolFlags pools;
  std::vector<std::string> options, labels;
  run.flags.value("driver,d", &driver, "NAME", "overlay (default) or bridge");
  run.flags.value("scope", &scope, "swarm", "swarm is all there is");
  run.flags.toggle("internal", &internal, "no way out of the network");
  run.flags.toggle("attachable", &attachable, "allow attaching by hand");
  run.flags.toggle("ingress", &ingress, "make it the routing mesh's network");
  run.flags.toggle("ipv6", &ipv6, "enable IPv6");
  pools.declare(run.flags, false);
  run.flags.value("ipam-driver", &ipam_driver, "NAME", "address management driver");
  run.flags.list("opt,o", &options, "K=V", "driver option");
  run.flags.list("label", &labels, "K=V", "label");
  MUSTER_TRY(run.parse(1, 1));
  if (!scope.empty() && scope != "swarm") {
    return fail(usage_error(fmt::format(
        "scope \"{}\" cannot be had: every network is the swarm's (-d bridge makes one that is not "
        "led from node to node)",
        scope)));
  }
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
  MUSTER_ASSIGN(*spec->mutable_pools(), pools.pools());
  SystemRng rng;
  request.set_request_id(rng.id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  run.line(response.network().id());
  const auto network = wait_for_network(run, response.network());
  print_warnings(run, network ? *network : response.network());
  // It is there, but cannot be what was asked for now: who goes on has to know.
  if (!network) return fail(network.error());
  return 0;
}

Result<int> network_inspect(Run& run) {
  std::string format;
  bool verbose = false;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  run.flags.toggle("verbose,v", &verbose, "also show the services and tasks in it");
  MUSTER_TRY(run.parse(1, -1));
  std::vector<v1::Network> networks;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::GetNetworkRequest request;
    request.set_network(name);
    MUSTER_ASSIGN(auto response, run.client().call(request));
    networks.push_back(std::move(*response.mutable_network()));
    return ok_status();
  });
  NetworkMembers members;
  if (!networks.empty()) {
    MUSTER_ASSIGN(members, members_of(run, networks));
  }
  boost::json::array objects;
  for (const v1::Network& network : networks) {
    boost::json::object object = network_json(network);
    add_members(network, members, verbose, object);
    objects.push_back(std::move(object));
  }
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
