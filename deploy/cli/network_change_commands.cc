// `network update`, `connect` and `disconnect`: networks in use.
#include <algorithm>
#include <utility>

#include "base/rng.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/network_pools.h"
#include "deploy/cli/network_waits.h"
#include "deploy/cli/quantities.h"

namespace muster::deploy::cli {
namespace {

Status wait_for_address(Run& run, v1::Task task, const std::string& network_name) {
  v1::GetNetworkRequest which;
  which.set_network(network_name);
  MUSTER_ASSIGN(const auto network, run.client().call(which));
  const std::string& id = network.network().id();
  v1::GetTaskRequest ask;
  ask.set_task(task.id());
  const auto has = [&] {
    return std::any_of(task.networks().begin(), task.networks().end(),
                       [&](const auto& attachment) { return attachment.network_id() == id; });
  };
  MUSTER_ASSIGN(const bool done, wait_until(kChangeWait, [&]() -> Result<bool> {
                  if (has()) return true;
                  MUSTER_ASSIGN(auto now, run.client().call(ask));
                  task = std::move(*now.mutable_task());
                  if (task.status().state() > v1::TASK_RUNNING) {
                    return fail(failed_precondition("task {} has ended meanwhile", task.name()));
                  }
                  return has();
                }));
  if (done) return ok_status();
  return Status(
      StatusCode::kDeadlineExceeded,
      fmt::format("task {} has no address in network {} yet{}: it gets one when one is "
                  "free, or `network disconnect` takes the wish back",
                  task.name(), network.network().spec().annotations().name(),
                  task.status().error().empty() ? "" : " (" + task.status().error() + ")"));
}

}  // namespace

Result<int> network_update(Run& run) {
  v1::UpdateNetworkRequest request;
  PoolFlags pools;
  std::vector<std::string> labels, gone;
  pools.declare(run.flags, true);
  run.flags.list("label-add", &labels, "K=V", "add or change a label");
  run.flags.list("label-rm", &gone, "KEY", "remove a label");
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_ASSIGN(*request.mutable_add_pools(), pools.pools());
  for (const auto& label : labels) *request.add_labels() = parse_key_value(label);
  for (const auto& key : gone) request.add_remove_labels(key);
  if (pools.none() && labels.empty() && gone.empty()) {
    return fail(usage_error("nothing to change: give --subnet, --label-add or --label-rm"));
  }
  request.set_network(run.args[0]);
  SystemRng rng;
  request.set_request_id(rng.id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  MUSTER_TRY(wait_for_subnets(run, response.network()));
  print_warnings(run, response.network());
  run.line(run.args[0]);
  return 0;
}

Result<int> network_connect(Run& run) {
  v1::ConnectNetworkRequest request;
  std::vector<std::string> aliases;
  std::string ip, ip6;
  run.flags.list("alias", &aliases, "NAME", "another name for it in the network");
  run.flags.value("ip", &ip, "IP", "its IPv4 address there (default: a free one)");
  run.flags.value("ip6", &ip6, "IP", "its IPv6 address there");
  MUSTER_TRY(run.parse(2, 2));
  request.set_network(run.args[0]);
  request.set_task(run.args[1]);
  for (const auto& alias : aliases) request.add_aliases(alias);
  if (!ip.empty() && ip.find(':') != std::string::npos) {
    return fail(usage_error("--ip takes an IPv4 address; use --ip6 for " + ip));
  }
  if (!ip6.empty() && ip6.find(':') == std::string::npos) {
    return fail(usage_error("--ip6 takes an IPv6 address; use --ip for " + ip6));
  }
  if (!ip.empty()) request.add_addresses(ip);
  if (!ip6.empty()) request.add_addresses(ip6);
  SystemRng rng;
  request.set_request_id(rng.id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  MUSTER_TRY(wait_for_address(run, response.task(), run.args[0]));
  return 0;
}

Result<int> network_disconnect(Run& run) {
  v1::DisconnectNetworkRequest request;
  bool force = false;
  run.flags.toggle("force,f", &force, "no error when it is not, or no longer, connected");
  MUSTER_TRY(run.parse(2, 2));
  request.set_network(run.args[0]);
  request.set_task(run.args[1]);
  SystemRng rng;
  request.set_request_id(rng.id());
  const auto response = run.client().call(request);
  if (response) return 0;
  const Status& why = response.error();
  if (force && (why.code() == StatusCode::kNotFound || why.reason() == "not-running")) return 0;
  return fail(why);
}

}  // namespace muster::deploy::cli
