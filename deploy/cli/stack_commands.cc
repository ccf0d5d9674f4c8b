#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/rng.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/network_pools.h"
#include "deploy/cli/network_waits.h"
#include "deploy/cli/progress.h"
#include "deploy/cli/registry_auth.h"
#include "deploy/cli/service_text.h"
#include "deploy/cli/stack_ledger.h"
#include "deploy/cli/stack_payloads.h"
#include "deploy/cli/task_table.h"
#include "deploy/compose/loader.h"

namespace muster::deploy::cli {
namespace {

constexpr const char* kNamespaceLabel = "com.docker.stack.namespace";
constexpr const char* kImageLabel = "com.docker.stack.image";
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kRemovalDeadline = 120 * kSecond;
constexpr int64_t kGraceMax = 24 * 3600 * kSecond;

v1::ListFilter of_stack(const std::string& stack) {
  v1::ListFilter filter;
  auto* label = filter.add_labels();
  label->set_key(kNamespaceLabel);
  label->set_value(stack);
  return filter;
}

Result<std::vector<v1::GetServiceResponse>> stack_services_of(Run& run, const std::string& stack) {
  v1::ListServicesRequest request;
  *request.mutable_filter() = of_stack(stack);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  return std::vector<v1::GetServiceResponse>(response.services().begin(),
                                             response.services().end());
}

Result<std::string> read_stdin(int fd) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0) return fail(errno_status(errno, "standard input"));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > (8 << 20)) return fail(resource_exhausted("standard input is over 8 MiB"));
  }
}

// The options that say what to load, common to deploy and config.
struct LoadOptions {
  std::vector<std::string> files, profiles, env_files;
  std::string dialect;
  bool ignore_unsupported = false;
  bool skip_interpolation = false;

  void declare(Flags& flags) {
    flags.list("compose-file,c", &files, "FILE", "Compose file, or - for standard input");
    flags.list("profile", &profiles, "NAME", "enable a profile (files without version)");
    flags.list("env-file", &env_files, "FILE", "variables instead of .env (files without version)");
    flags.value("dialect", &dialect, "v3|spec", "read the files as this dialect");
    flags.toggle("ignore-unsupported", &ignore_unsupported,
                 "warn of keys muster cannot honour instead of failing");
  }

  Result<compose::Project> load(Run& run, const std::string& stack) const {
    compose::LoadRequest request;
    std::vector<std::string> paths;
    for (const std::string& entry : files)
      for (const std::string& path : split(entry, ',')) paths.push_back(path);
    if (paths.empty())
      return fail(usage_error("Please specify a Compose file (with --compose-file)"));
    if (std::count(paths.begin(), paths.end(), "-") > 1)
      return fail(usage_error("standard input (-) can be read only once"));
    for (const std::string& path : paths) {
      compose::SourceFile file;
      file.path = path;
      if (path == "-") {
        MUSTER_ASSIGN(file.content, read_stdin(run.world.in_fd));
      }
      request.files.push_back(std::move(file));
    }
    request.current_dir = run.world.current_dir;
    if (paths[0] == "-") request.working_dir = run.world.current_dir;
    request.environment = run.world.environment;
    if (!env_files.empty()) request.env_files = env_files;
    request.profiles = profiles;
    request.stack = stack;
    request.ignore_unsupported = ignore_unsupported;
    request.skip_interpolation = skip_interpolation;
    if (dialect == "v3")
      request.dialect = compose::Dialect::kV3;
    else if (dialect == "spec")
      request.dialect = compose::Dialect::kSpec;
    else if (!dialect.empty() && dialect != "auto")
      return fail(usage_error(fmt::format("invalid dialect \"{}\": v3 or spec", dialect)));
    compose::LocalFiles local;
    return compose::load(request, local);
  }
};

Status check_external_networks(Run& run, const compose::StackSpecs& specs) {
  for (const std::string& name : specs.external_networks) {
    if (name == "host" || name == "none" || name == "bridge") continue;
    v1::GetNetworkRequest request;
    request.set_network(name);
    const auto network = run.client().call(request);
    if (network) continue;
    if (network.error().code() != StatusCode::kNotFound) return network.error();
    return not_found(
        "network \"{}\" is declared as external, but could not be found. You need to create a "
        "swarm-scoped network before the stack is deployed",
        name);
  }
  return ok_status();
}

std::string network_step(const v1::NetworkSpec& spec) {
  return "network " + spec.annotations().name();
}
std::string service_step(const v1::ServiceSpec& spec) {
  return "service " + spec.annotations().name();
}

// Networks of the stack that are not there yet. Existing ones are never changed.
Result<std::vector<v1::NetworkSpec>> missing_networks(Run& run, const std::string& stack,
                                                      const compose::StackSpecs& specs) {
  v1::ListNetworksRequest list;
  *list.mutable_filter() = of_stack(stack);
  MUSTER_ASSIGN(const auto existing, run.client().call(list));
  std::set<std::string> names;
  for (const auto& network : existing.networks()) names.insert(network.spec().annotations().name());
  std::vector<v1::NetworkSpec> missing;
  for (const auto& spec : specs.networks)
    if (!names.contains(spec.annotations().name())) missing.push_back(spec);
  return missing;
}

Status create_network(Run& run, const v1::NetworkSpec& spec) {
  const std::string& name = spec.annotations().name();
  run.line("Creating network " + name);
  v1::CreateNetworkRequest request;
  *request.mutable_spec() = spec;
  SystemRng rng;
  request.set_request_id(rng.id());
  const auto created = run.client().call(request);
  if (!created) return created.error().with_context("failed to create network " + name);
  const auto network = wait_for_network(run, created->network());
  print_warnings(run, network ? *network : created->network());
  // Its services wait for it, and say so.
  if (!network) run.warn("WARNING: " + network.error().message());
  return ok_status();
}

// --resolve-image: whose digests are asked for.
enum class ResolveImage { kAlways, kChanged, kNever };

Result<ResolveImage> parse_resolve_image(const std::string& text) {
  if (text.empty() || text == "always") return ResolveImage::kAlways;
  if (text == "changed") return ResolveImage::kChanged;
  if (text == "never") return ResolveImage::kNever;
  return fail(usage_error(fmt::format("Invalid option {} for flag --resolve-image", text)));
}

std::string image_as_written(const v1::ServiceSpec& spec) {
  for (const auto& label : spec.annotations().labels())
    if (label.key() == kImageLabel) return label.value();
  return {};
}

// Whether the leader is to ask the registry. An image that the file has not changed may keep the
// digest it has, which then goes into the spec: else the service would be updated to none.
bool settle_image(ResolveImage mode, const v1::Service* existing, v1::ServiceSpec* spec) {
  if (existing == nullptr) return mode != ResolveImage::kNever;
  if (mode == ResolveImage::kAlways) return true;
  auto* container = spec->mutable_task()->mutable_container();
  if (container->image() != image_as_written(existing->spec()))
    return mode == ResolveImage::kChanged;
  container->set_image(existing->spec().task().container().image());
  const auto& platforms = existing->spec().task().placement().platforms();
  if (spec->task().placement().platforms().empty() && !platforms.empty())
    *spec->mutable_task()->mutable_placement()->mutable_platforms() = platforms;
  return false;
}

// Creates or updates one service. A spec that is what is there already changes nothing.
Result<v1::Service> deploy_service(Run& run, v1::ServiceSpec spec, const v1::Service* existing,
                                   ResolveImage mode) {
  const std::string name = spec.annotations().name();
  SystemRng rng;
  const bool resolve = settle_image(mode, existing, &spec);
  if (existing == nullptr) {
    run.line("Creating service " + name);
    v1::CreateServiceRequest request;
    *request.mutable_spec() = std::move(spec);
    request.set_resolve_image(resolve);
    request.set_request_id(rng.id());
    auto created = run.client().call(request);
    if (!created) return fail(created.error().with_context("failed to create service " + name));
    for (const auto& warning : created->warnings()) run.warn("WARNING: " + warning);
    return std::move(*created->mutable_service());
  }
  run.line(fmt::format("Updating service {} (id: {})", name, existing->id()));
  v1::UpdateServiceRequest request;
  request.set_service_id(existing->id());
  request.set_version(existing->meta().version());
  // What `service update --force` counted stays, or every deploy would replace all tasks.
  spec.mutable_task()->set_force_update(existing->spec().task().force_update());
  *request.mutable_spec() = std::move(spec);
  request.set_resolve_image(resolve);
  request.set_request_id(rng.id());
  auto updated = run.client().call(request);
  if (!updated) return fail(updated.error().with_context("failed to update service " + name));
  for (const auto& warning : updated->warnings()) run.warn("WARNING: " + warning);
  return std::move(*updated->mutable_service());
}

Status remove_service(Run& run, const v1::Service& service) {
  run.line("Removing service " + service.spec().annotations().name());
  v1::RemoveServiceRequest request;
  request.set_service(service.id());
  const auto removed = run.client().call(request);
  if (removed || removed.error().code() == StatusCode::kNotFound) return ok_status();
  return removed.error();
}

// Services of the stack that the files no longer have.
std::vector<v1::Service> services_to_prune(const compose::StackSpecs& specs,
                                           const std::map<std::string, v1::Service>& existing) {
  std::set<std::string> kept;
  for (const auto& spec : specs.services) kept.insert(spec.annotations().name());
  std::vector<v1::Service> gone;
  for (const auto& [name, service] : existing)
    if (!kept.contains(name)) gone.push_back(service);
  return gone;
}

// What one deploy has to do, in its order; apply() stops at the first failure, and says how far it
// came.
struct Deployment {
  std::vector<v1::Service> prune;
  std::vector<v1::NetworkSpec> networks;
  const compose::StackSpecs* payloads = nullptr;  // its secrets and configs
  std::vector<v1::ServiceSpec> services;
  std::map<std::string, v1::Service> existing;  // by name
  ResolveImage resolve = ResolveImage::kAlways;

  StackLedger ledger(const std::string& stack) const {
    StackLedger ledger(stack);
    for (const auto& service : prune) ledger.plan("removal of " + service_step(service.spec()));
    for (const auto& network : networks) ledger.plan(network_step(network));
    for (const std::string& step : payload_steps(*payloads)) ledger.plan(step);
    for (const auto& service : services) ledger.plan(service_step(service));
    return ledger;
  }
  Status apply(Run& run, StackLedger& ledger, Signals& signals,
               std::vector<v1::Service>* deployed) const {
    const auto interrupted = [&signals]() -> Status {
      if (signals.pop() == 0) return ok_status();
      return Status(StatusCode::kCancelled, "interrupted");
    };
    for (const auto& service : prune) {
      MUSTER_TRY(interrupted());
      MUSTER_TRY(remove_service(run, service));
      ledger.done("removal of " + service_step(service.spec()));
    }
    for (const auto& network : networks) {
      MUSTER_TRY(interrupted());
      MUSTER_TRY(create_network(run, network));
      ledger.done(network_step(network));
    }
    MUSTER_TRY(interrupted());
    MUSTER_TRY(
        deploy_payloads(run, *payloads, [&ledger](const std::string& step) { ledger.done(step); }));
    for (const auto& spec : services) {
      MUSTER_TRY(interrupted());
      const auto it = existing.find(spec.annotations().name());
      MUSTER_ASSIGN(
          v1::Service service,
          deploy_service(run, spec, it == existing.end() ? nullptr : &it->second, resolve));
      deployed->push_back(std::move(service));
      ledger.done(service_step(spec));
    }
    return ok_status();
  }
};

// Waits until no task of the services is left. Changes of tasks say when to look again.
Status wait_tasks_gone(Run& run, const std::vector<v1::GetServiceResponse>& services,
                       Signals& signals, bool* interrupted) {
  if (services.empty()) return ok_status();
  v1::ListTasksRequest list;
  v1::WatchRequest watch;
  watch.add_kinds("task");
  int64_t patience_ns = 0;
  for (const auto& entry : services) {
    const v1::Service& service = entry.service();
    list.mutable_filter()->add_service_ids(service.id());
    watch.mutable_filter()->add_service_ids(service.id());
    patience_ns = std::max(patience_ns, service.spec().task().container().stop_grace_period_ns());
  }
  // Beyond the longest grace period, for whatever else the nodes have to do.
  patience_ns = std::min(patience_ns, kGraceMax) + kRemovalDeadline;
  const auto stream = run.client().watch(watch);
  const int64_t deadline = run.world.now_ns() + patience_ns;
  bool told = false;
  for (;;) {
    const auto tasks = run.client().call(list);
    if (tasks && tasks->tasks().empty()) return ok_status();
    if (!tasks && tasks.error().code() != StatusCode::kUnavailable) return tasks.error();
    if (run.world.now_ns() > deadline)
      return tasks
                 ? Status(StatusCode::kDeadlineExceeded,
                          fmt::format("{} tasks are still stopping after {}", tasks->tasks().size(),
                                      format_duration(Duration(patience_ns))))
                 : tasks.error();
    if (!tasks && !std::exchange(told, true))
      run.warn(fmt::format("muster: {}; waiting for it to come back", tasks.error().message()));
    // A second at the most, since the stream begins at an unknown moment and may break.
    wait_readable({stream->ended() ? -1 : stream->fd(), signals.fd()}, 1000);
    v1::WatchResponse message;
    while (stream->pop(&message)) continue;
    if (signals.pop() != 0) {
      *interrupted = true;
      return ok_status();
    }
  }
}

Status remove_network(Run& run, const v1::Network& network, bool patient, Signals& signals) {
  run.line("Removing network " + network.spec().annotations().name());
  v1::RemoveNetworkRequest request;
  request.set_network(network.id());
  const int64_t deadline = run.world.now_ns() + 30 * kSecond;
  for (;;) {
    const auto removed = run.client().call(request);
    if (removed || removed.error().code() == StatusCode::kNotFound) return ok_status();
    // In use by tasks on their way out.
    if (!patient || removed.error().code() != StatusCode::kFailedPrecondition ||
        run.world.now_ns() > deadline)
      return removed.error();
    wait_readable({signals.fd()}, 200);
    if (signals.pop() != 0) return removed.error();
  }
}

// `detach`: the networks go as soon as no task is wanted on them, and their tasks stop by
// themselves.
Status remove_stack(Run& run, const std::string& stack, bool detach, Signals& signals) {
  MUSTER_ASSIGN(auto services, stack_services_of(run, stack));
  v1::ListNetworksRequest list;
  *list.mutable_filter() = of_stack(stack);
  MUSTER_ASSIGN(const auto networks, run.client().call(list));
  MUSTER_ASSIGN(const StackPayloads payloads, payloads_of_stack(run, of_stack(stack)));
  if (services.empty() && networks.networks().empty() && payloads.empty()) {
    run.warn("Nothing found in stack: " + stack);
    return ok_status();
  }
  for (const auto& entry : services) MUSTER_TRY(remove_service(run, entry.service()));
  // Tasks that still stop keep their files.
  MUSTER_TRY(remove_payloads(run, payloads));
  bool interrupted = false;
  if (!detach) MUSTER_TRY(wait_tasks_gone(run, services, signals, &interrupted));
  if (interrupted)
    return Status(StatusCode::kCancelled,
                  fmt::format("interrupted: the tasks of {} go on stopping; its networks remain "
                              "until 'muster stack rm {}' is run again",
                              stack, stack));
  for (const auto& network : networks.networks())
    MUSTER_TRY(remove_network(run, network, true, signals));
  return ok_status();
}

}  // namespace

Result<int> stack_deploy(Run& run) {
  LoadOptions load;
  WaitOptions wait;
  bool prune_services = false;
  bool with_registry_auth = false;
  std::string resolve_image;
  load.declare(run.flags);
  wait.declare(run.flags);
  run.flags.toggle("prune", &prune_services, "remove services that the files no longer have");
  run.flags.toggle("with-registry-auth", &with_registry_auth, "send registry credentials along");
  run.flags.value("resolve-image", &resolve_image, "always|changed|never",
                  "which images have their digests asked for (always)");
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_TRY(wait.check());
  const std::string& stack = run.args[0];
  MUSTER_TRY(compose::check_stack_name(stack));
  Deployment deployment;
  MUSTER_ASSIGN(deployment.resolve, parse_resolve_image(resolve_image));
  MUSTER_ASSIGN(const compose::Project project, load.load(run, stack));
  for (const auto& warning : project.warnings) run.warn(warning);
  MUSTER_ASSIGN(compose::StackSpecs specs, compose::convert(project, stack));
  for (const auto& warning : specs.warnings) run.warn(warning);

  Signals signals({SIGINT, SIGTERM});
  // What is missing is found before anything is changed.
  MUSTER_TRY(check_external_networks(run, specs));
  MUSTER_TRY(check_payloads(run, specs));
  MUSTER_ASSIGN(const auto current, stack_services_of(run, stack));
  for (const auto& entry : current)
    deployment.existing[entry.service().spec().annotations().name()] = entry.service();
  if (prune_services) deployment.prune = services_to_prune(specs, deployment.existing);
  MUSTER_ASSIGN(deployment.networks, missing_networks(run, stack, specs));
  if (with_registry_auth)
    for (auto& spec : specs.services) MUSTER_TRY(put_registry_auth(run, spec.mutable_task()));
  deployment.services = std::move(specs.services);
  deployment.payloads = &specs;
  StackLedger ledger = deployment.ledger(stack);
  std::vector<v1::Service> deployed;
  if (const Status applied = deployment.apply(run, ledger, signals, &deployed); !applied.ok())
    return fail(ledger.stopped(applied));
  if (wait.detach) return 0;
  return wait_for_services(run, deployed, wait, signals);
}

Result<int> stack_config(Run& run) {
  LoadOptions load;
  load.declare(run.flags);
  run.flags.toggle("skip-interpolation", &load.skip_interpolation, "leave variables as written");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_ASSIGN(const compose::Project project, load.load(run, ""));
  for (const auto& warning : project.warnings) run.warn(warning);
  run.out(compose::to_yaml(project));
  return 0;
}

Result<int> stack_ls(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  v1::ListServicesRequest request;
  request.mutable_filter()->add_labels()->set_key(kNamespaceLabel);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  std::map<std::string, int> counts;
  for (const auto& entry : response.services())
    for (const auto& label : entry.service().spec().annotations().labels())
      if (label.key() == kNamespaceLabel) ++counts[label.value()];
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) names.push_back(name);
  std::sort(names.begin(), names.end(), natural_less);
  Listing listing({{"Name", "NAME"}, {"Services", "SERVICES"}});
  for (const auto& name : names) listing.add({name, std::to_string(counts[name])});
  MUSTER_TRY(options.print(run, listing, "Name"));
  return 0;
}

Result<int> stack_services(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_TRY(options.filters.check({"id", "name", "label", "mode"}));
  MUSTER_ASSIGN(auto services, stack_services_of(run, run.args[0]));
  if (services.empty()) {
    run.warn("Nothing found in stack: " + run.args[0]);
    return 0;
  }
  MUSTER_TRY(options.print(run, service_listing(std::move(services), options)));
  return 0;
}

Result<int> stack_ps(Run& run) {
  ListOptions options;
  TaskTable table;
  options.declare(run.flags, true);
  run.flags.toggle("no-resolve", &table.no_resolve, "show ids instead of names");
  MUSTER_TRY(run.parse(1, 1));
  MUSTER_ASSIGN(const auto services, stack_services_of(run, run.args[0]));
  v1::ListFilter filter;
  for (const auto& entry : services) filter.add_service_ids(entry.service().id());
  if (!services.empty()) MUSTER_TRY(table.fetch(run, filter));
  if (table.tasks.empty()) return fail(not_found("nothing found in stack: {}", run.args[0]));
  MUSTER_TRY(table.fetch_nodes(run));
  MUSTER_TRY(table.apply(options.filters));
  MUSTER_TRY(options.print(run, table.listing(options, run.world.now_ns())));
  return 0;
}

Result<int> stack_rm(Run& run) {
  bool detach = false;
  run.flags.toggle("detach,d", &detach, "do not wait until the tasks have stopped");
  MUSTER_TRY(run.parse(1, -1));
  Signals signals({SIGINT, SIGTERM});
  return for_each_name(run, run.args, [&](const std::string& stack) {
    return remove_stack(run, stack, detach, signals);
  });
}

}  // namespace muster::deploy::cli
