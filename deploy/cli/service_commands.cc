#include <signal.h>

#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/rng.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/port_clashes.h"
#include "deploy/cli/progress.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/registry_auth.h"
#include "deploy/cli/service_text.h"
#include "deploy/cli/spec_flags.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

std::string request_id() {
  SystemRng rng;
  return rng.id();
}

Result<std::string> read_text_file(const std::string& path) {
  return read_file(path, 8 << 20);
}

Result<v1::GetServiceResponse> get_service(Run& run, const std::string& name) {
  v1::GetServiceRequest request;
  request.set_service(name);
  return run.client().call(request);
}

// Networks are named by people and held by id. Both to leave and to join have to exist.
Status change_networks(Run& run, const ListChange& change, v1::TaskSpec* task) {
  auto* list = task->mutable_networks();
  const auto id_of = [&run, list](const std::string& name) -> Result<std::string> {
    v1::GetNetworkRequest request;
    request.set_network(name);
    const auto network = run.client().call(request);
    if (network) return network->network().id();
    // A network that is gone may still be named by its id.
    for (const auto& item : *list)
      if (item.target() == name) return name;
    return fail(network.error());
  };
  for (const std::string& name : change.remove) {
    MUSTER_ASSIGN(const std::string id, id_of(name));
    remove_if(list, [&](const auto& item) { return item.target() == id; });
  }
  for (const std::string& text : change.add) {
    MUSTER_ASSIGN(auto network, parsed("network-add", text, parse_network));
    MUSTER_ASSIGN(const std::string id, id_of(network.target()));
    for (const auto& item : *list)
      if (item.target() == id)
        return invalid_argument("service is already attached to network {}", network.target());
    network.set_target(id);
    *list->Add() = network;
  }
  return ok_status();
}

// Nothing but the waiting goes with --rollback.
Status check_rollback(const Flags& flags) {
  static const std::set<std::string> kFitting = {"rollback", "detach", "quiet", "monitor"};
  for (const std::string& name : flags.given())
    if (!kFitting.contains(name))
      return usage_error("other flags may not be combined with --rollback");
  return ok_status();
}

// The changed spec to the manager, then the waiting.
Result<int> send_update(Run& run, v1::UpdateServiceRequest request, const std::string& name,
                        const WaitOptions& wait, Signals& signals) {
  request.set_request_id(request_id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  for (const auto& warning : response.warnings()) run.warn("WARNING: " + warning);
  run.line(name);
  if (wait.detach) return 0;
  return wait_for_services(run, {response.service()}, wait, signals);
}

}  // namespace

Result<int> service_create(Run& run) {
  SpecFlags spec_flags;
  WaitOptions wait;
  bool with_registry_auth = false;
  bool no_resolve_image = false;
  run.flags.stop_at_first_argument();
  spec_flags.declare(run.flags, SpecFlags::For::kCreate);
  wait.declare(run.flags);
  run.flags.toggle("with-registry-auth", &with_registry_auth, "send registry credentials along");
  run.flags.toggle("no-resolve-image", &no_resolve_image,
                   "do not ask the registry which digest the image has now");
  MUSTER_TRY(run.parse(1, -1));
  MUSTER_TRY(wait.check());

  v1::CreateServiceRequest request;
  auto* spec = request.mutable_spec();
  auto* container = spec->mutable_task()->mutable_container();
  container->set_image(run.args[0]);
  for (size_t i = 1; i < run.args.size(); ++i) container->add_args(run.args[i]);
  MUSTER_TRY(spec_flags.apply(spec, SpecFlags::For::kCreate, run.world.environment,
                              run.world.current_dir, read_text_file));
  if (spec->annotations().name().empty()) spec->mutable_annotations()->set_name(random_name());
  if (with_registry_auth) MUSTER_TRY(put_registry_auth(run, spec->mutable_task()));
  request.set_resolve_image(!no_resolve_image);
  request.set_request_id(request_id());
  Signals signals({SIGINT, SIGTERM});
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  for (const auto& warning : response.warnings()) run.warn("WARNING: " + warning);
  run.line(response.service().id());
  if (wait.detach) return 0;
  return wait_for_services(run, {response.service()}, wait, signals);
}

Result<int> service_update(Run& run) {
  SpecFlags spec_flags;
  WaitOptions wait;
  bool rollback = false;
  bool with_registry_auth = false;
  bool no_resolve_image = false;
  spec_flags.declare(run.flags, SpecFlags::For::kUpdate);
  wait.declare(run.flags);
  run.flags.toggle("rollback", &rollback, "go back to the previous configuration");
  run.flags.toggle("with-registry-auth", &with_registry_auth, "send registry credentials along");
  run.flags.toggle("no-resolve-image", &no_resolve_image,
                   "do not ask the registry which digest the new image has now");
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_TRY(wait.check());
  if (rollback) MUSTER_TRY(check_rollback(run.flags));
  Signals signals({SIGINT, SIGTERM});
  MUSTER_ASSIGN(const auto current, get_service(run, run.args[0]));
  v1::UpdateServiceRequest request;
  request.set_service_id(current.service().id());
  request.set_version(current.service().meta().version());
  request.set_rollback(rollback);
  *request.mutable_spec() = current.service().spec();
  MUSTER_TRY(spec_flags.apply(request.mutable_spec(), SpecFlags::For::kUpdate,
                              run.world.environment, run.world.current_dir, read_text_file));
  auto* spec = request.mutable_spec();
  MUSTER_TRY(change_networks(run, spec_flags.networks(), spec->mutable_task()));
  if (spec_flags.image) {
    // Those of the image before.
    if (spec->task().has_placement()) spec->mutable_task()->mutable_placement()->clear_platforms();
    request.set_resolve_image(!no_resolve_image);
  }
  if (with_registry_auth) MUSTER_TRY(put_registry_auth(run, spec->mutable_task()));
  return send_update(run, std::move(request), run.args[0], wait, signals);
}

Result<int> service_rollback(Run& run) {
  WaitOptions wait;
  wait.declare(run.flags);
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_TRY(wait.check());
  Signals signals({SIGINT, SIGTERM});
  MUSTER_ASSIGN(const auto current, get_service(run, run.args[0]));
  v1::UpdateServiceRequest request;
  request.set_service_id(current.service().id());
  request.set_version(current.service().meta().version());
  request.set_rollback(true);
  return send_update(run, std::move(request), run.args[0], wait, signals);
}

Result<int> service_scale(Run& run) {
  WaitOptions wait;
  wait.declare(run.flags);
  MUSTER_TRY(run.parse(1, -1));
  MUSTER_TRY(wait.check());
  std::vector<std::pair<std::string, uint64_t>> wanted;
  for (const std::string& arg : run.args) {
    const size_t equals = arg.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(
          usage_error(fmt::format("invalid scale specifier '{}': expected SERVICE=REPLICAS", arg)));
    const auto replicas = parse_replicas(arg.substr(equals + 1));
    if (!replicas)
      return fail(usage_error(fmt::format("invalid replicas value {}", arg.substr(equals + 1))));
    wanted.emplace_back(arg.substr(0, equals), *replicas);
  }
  Signals signals({SIGINT, SIGTERM});
  std::vector<v1::Service> changed;
  for (const auto& [name, replicas] : wanted) {
    MUSTER_ASSIGN(const auto current, get_service(run, name));
    v1::UpdateServiceRequest request;
    request.set_service_id(current.service().id());
    request.set_version(current.service().meta().version());
    *request.mutable_spec() = current.service().spec();
    auto* spec = request.mutable_spec();
    if (spec->has_replicated())
      spec->mutable_replicated()->set_replicas(replicas);
    else if (spec->has_replicated_job())
      spec->mutable_replicated_job()->set_total_completions(replicas);
    else
      return fail(invalid_argument(
          "{}: scale can only be used with replicated or replicated-job mode", name));
    request.set_request_id(request_id());
    MUSTER_ASSIGN(const auto response, run.client().call(request));
    for (const auto& warning : response.warnings()) run.warn("WARNING: " + warning);
    run.line(fmt::format("{} scaled to {}", name, replicas));
    changed.push_back(response.service());
  }
  if (wait.detach) return 0;
  return wait_for_services(run, changed, wait, signals);
}

Result<int> service_ls(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"id", "name", "label", "mode"}));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListServicesRequest()));
  std::vector<v1::GetServiceResponse> services(response.services().begin(),
                                               response.services().end());
  MUSTER_TRY(options.print(run, service_listing(std::move(services), options)));
  return 0;
}

// What is wrong with a service's ports although its tasks run, on nodes without them, too.
Result<std::vector<std::string>> clashes_of(Run& run, const v1::Service& service) {
  if (service.endpoint().ports().empty()) return std::vector<std::string>();
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListNodesRequest()));
  return port_clashes(service, {response.nodes().begin(), response.nodes().end()});
}

Result<int> service_ps(Run& run) {
  ListOptions options;
  TaskTable table;
  std::vector<std::string> clashes;
  options.declare(run.flags, true);
  run.flags.toggle("no-resolve", &table.no_resolve, "show ids instead of names");
  MUSTER_TRY(run.parse(1, -1));
  v1::ListFilter filter;
  std::vector<std::string> missing;
  for (const std::string& name : run.args) {
    const auto service = get_service(run, name);
    if (service) {
      filter.add_service_ids(service->service().id());
      MUSTER_ASSIGN(const auto found, clashes_of(run, service->service()));
      clashes.insert(clashes.end(), found.begin(), found.end());
    } else if (service.error().code() == StatusCode::kNotFound) {
      missing.push_back(name);
    } else {
      return fail(service.error());
    }
  }
  if (!filter.service_ids().empty()) {
    MUSTER_TRY(table.fetch(run, filter));
    MUSTER_TRY(table.fetch_nodes(run));
    MUSTER_TRY(table.apply(options.filters));
    MUSTER_TRY(options.print(run, table.listing(options, run.world.now_ns())));
  }
  for (const std::string& clash : clashes) run.warn(clash);
  for (const std::string& name : missing) run.warn("no such service: " + name);
  return missing.empty() ? 0 : 1;
}

Result<int> service_inspect(Run& run) {
  std::string format;
  bool pretty = false;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  run.flags.toggle("pretty", &pretty, "print for people");
  MUSTER_TRY(run.parse(1, -1));
  if (pretty && !format.empty())
    return fail(usage_error("--format is incompatible with human friendly format"));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    MUSTER_ASSIGN(const auto response, get_service(run, name));
    if (pretty) {
      run.out(service_pretty(response.service()));
      MUSTER_ASSIGN(const auto clashes, clashes_of(run, response.service()));
      for (const std::string& clash : clashes) run.out(fmt::format("Warning:\t{}\n", clash));
    } else {
      objects.push_back(service_json(response.service()));
    }
    return ok_status();
  });
  if (pretty) return code;
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

Result<int> service_rm(Run& run) {
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::RemoveServiceRequest request;
    request.set_service(name);
    const auto response = run.client().call(request);
    MUSTER_TRY(response ? ok_status() : response.error());
    run.line(name);
    return ok_status();
  });
}

}  // namespace muster::deploy::cli
