#include "agent/worker/task_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "agent/runtime/oci_bundle.h"
#include "agent/runtime/signals.h"
#include "agent/runtime/user_lookup.h"
#include "agent/secrets/expand.h"
#include "agent/volumes/volume_mounts.h"
#include "agent/worker/log_view.h"
#include "agent/worker/mutant.h"
#include "base/container_names.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kImageRootMark = ".image";
constexpr std::string_view kImageRoots = "image-roots";  // in a container's folder: a root a line
// In a container's directory: its resolver, as netd was told.
constexpr const char* kResolverFile = "resolver";
// There for containers whose networks were changed while they ran.
constexpr const char* kReconnectedFile = "reconnected";
constexpr size_t kTextBytesMax = 1 << 20;

std::string progress_text(const PullProgress& progress) {
  const auto mb = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  switch (progress.step) {
    case PullProgress::Step::kResolving: return "pulling image: asking the registry";
    case PullProgress::Step::kDownloading:
      if (progress.bytes_total == 0) return "pulling image";
      return fmt::format("pulling image: {:.1f} MB of {:.1f} MB", mb(progress.bytes_done),
                         mb(progress.bytes_total));
    case PullProgress::Step::kUnpacking: return "pulling image: unpacking";
    case PullProgress::Step::kDone: return "pulled image";
  }
  return "pulling image";
}

void keep_first(Status& first, Status next) {
  if (first.ok()) first = std::move(next);
}

// The resolvers of the host. systemd's stub listens on loopback only, its real list is elsewhere.
std::string host_resolv_conf(HostFiles& files) {
  auto text = files.read("/etc/resolv.conf", kTextBytesMax);
  if (text && text->find("nameserver 127.0.0.53") != std::string::npos) {
    if (auto real = files.read("/run/systemd/resolve/resolv.conf", kTextBytesMax)) return *real;
  }
  return text ? *text : "";
}

// "uid" or a name of the image; empty is root.
Result<uint32_t> owner_number(const std::string& text, const std::string& rootfs, bool group) {
  if (text.empty() || text == "0") return uint32_t{0};
  MUSTER_ASSIGN(const std::string passwd, read_in_root(rootfs, "/etc/passwd", 4 << 20));
  MUSTER_ASSIGN(const std::string groups, read_in_root(rootfs, "/etc/group", 4 << 20));
  MUSTER_ASSIGN(const ResolvedUser user,
                resolve_user(group ? "0:" + text : text, {}, passwd, groups));
  return group ? user.gid : user.uid;
}

// One reference of either kind.
struct PayloadFile {
  const std::string& id;
  const std::string& name;
  const v1::FileTarget& file;
  const char* kind;
  const char* base;  // of relative targets
};

std::vector<PayloadFile> payload_files(const v1::ContainerSpec& spec) {
  std::vector<PayloadFile> out;
  for (const v1::SecretReference& r : spec.secrets()) {
    out.push_back({r.secret_id(), r.secret_name(), r.file(), "secret", "/run/secrets/"});
  }
  for (const v1::ConfigReference& r : spec.configs()) {
    out.push_back({r.config_id(), r.config_name(), r.file(), "config", "/"});
  }
  return out;
}

PreparedMount bind_payload(const std::string& source, const PayloadFile& file) {
  const std::string& target = file.file.name().empty() ? file.name : file.file.name();
  PreparedMount mount;
  mount.source = source;
  mount.options = {"nosuid", "nodev", "noexec"};
  mount.spec.set_type(v1::Mount::BIND);
  mount.spec.set_target(target.front() == '/' ? target : file.base + target);
  mount.spec.set_read_only(true);
  // A file has no mounts below it, and crun takes what is bound "recursively read-only" for a
  // directory.
  mount.spec.mutable_bind()->set_non_recursive(true);
  return mount;
}

}  // namespace

TaskSteps::TaskSteps(std::string instance_id, TaskPaths paths, StepPorts ports)
    : instance_id_(std::move(instance_id)),
      paths_(std::move(paths)),
      runtime_(ports.runtime),
      images_(ports.images),
      volumes_(ports.volumes),
      network_(ports.network),
      files_(ports.files),
      payload_files_(ports.payload_files),
      names_(ports.names) {}

Result<PreparedTask> TaskSteps::prepare(const PrepareInput& input) {
  const v1::Task& task = input.task.assignment().task();
  PreparedTask out;
  ContainerRequest& request = out.request;
  request.container_id = input.task.container_id();
  request.instance_id = instance_id_;
  request.task_id = TaskId(task.id());
  request.name = container_name(task);
  MUSTER_ASSIGN(request.spec, expand_spec(input.task, input.node));
  request.log_driver = request.spec.log_driver();
  MUSTER_TRY(check_log_driver_here(request.log_driver));
  request.labels = container_labels(input.task, input.node);
  request.extra_env = resource_env(task);
  request.bundle_dir = paths_.container(request.container_id);
  MUSTER_TRY(files_.make_directory(request.bundle_dir, 0700));

  PullRequest pull;
  pull.reference = request.spec.container().image();
  pull.registry_auth = request.spec.registry_auth();
  pull.cancelled = input.cancelled;
  pull.progress = [&input](const PullProgress& progress) {
    if (input.progress) input.progress(progress_text(progress));
  };
  MUSTER_ASSIGN(const ImageHandle image, images_.ensure(pull));
  if (input.cancelled && input.cancelled->load()) {
    return fail(StatusCode::kCancelled, "the task was stopped");
  }
  out.image_digest = image.digest;
  request.image = image.config;
  // A name that nobody knows is told now; at the stop it would be too late.
  const std::string& signal = request.spec.container().stop_signal();
  MUSTER_ASSIGN([[maybe_unused]] const int known,
                parse_signal(signal.empty() ? image.config.stop_signal : signal));
  MUSTER_ASSIGN(const std::vector<std::string> args,
                container_args(request.spec.container(), image.config));
  out.command = fmt::format("{}", fmt::join(args, " "));
  MUSTER_ASSIGN(request.rootfs, images_.mount_root(image, request.container_id));
  MUSTER_TRY(prepare_mounts(image, request));
  const NetworkPlan plan = plan_network(input.task.assignment(), input.task.revision().spec());
  out.host_network = plan.host;
  request.hostname = request.spec.container().hostname();
  if (request.hostname.empty()) {
    request.hostname =
        plan.host ? input.node.hostname : request.container_id.substr(0, kShortIdLength);
  }
  MUSTER_TRY(prepare_network(input, plan, request));
  MUSTER_ASSIGN(out.host_ports, reserve_ports(input.task));
  MUSTER_TRY(write_files(plan, request));
  MUSTER_TRY(write_payloads(input, request));
  return out;
}

Status TaskSteps::prepare_mounts(const ImageHandle& image, ContainerRequest& request) {
  for (const v1::Mount& mount : planned_mounts(request.spec.container(), image.config)) {
    PreparedMount prepared;
    prepared.spec = mount;
    switch (mount.type()) {
      case v1::Mount::VOLUME: {
        MUSTER_ASSIGN(prepared.source,
                      volumes_.acquire(mount, request.rootfs, request.container_id));
        break;
      }
      case v1::Mount::BIND: {
        prepared.source = mount.source();
        if (mount.source().empty() || mount.source()[0] != '/') {
          return invalid_argument("bind source \"{}\" is not an absolute path", mount.source());
        }
        if (files_.exists(mount.source())) break;
        if (!mount.bind().create_source()) {
          return invalid_argument(
              "invalid mount config for type \"bind\": bind source path does not exist: {}",
              mount.source());
        }
        MUSTER_TRY(files_.make_directory(mount.source(), 0755));
        break;
      }
      case v1::Mount::TMPFS: break;
      case v1::Mount::IMAGE: {
        MUSTER_ASSIGN(prepared.source, mount_image(mount, request));
        prepared.spec.set_read_only(true);
        break;
      }
      default:
        return Status(StatusCode::kUnimplemented, fmt::format("mounts of type {} are not supported",
                                                              v1::Mount::Type_Name(mount.type())));
    }
    request.mounts.push_back(std::move(prepared));
  }
  return {};
}

// Each image gets a root of its own, named after the container. Which ones there are is written
// down before the first is mounted: clean_up() goes by it.
Result<std::string> TaskSteps::mount_image(const v1::Mount& mount,
                                           const ContainerRequest& request) {
  PullRequest pull;
  pull.reference = mount.source();
  pull.registry_auth = request.spec.registry_auth();
  MUSTER_ASSIGN(const ImageHandle image, images_.ensure(pull));
  const std::string record = fmt::format("{}/{}", request.bundle_dir, kImageRoots);
  size_t number = 0;
  for (const v1::Mount& other : request.spec.container().mounts()) {
    if (other.target() == mount.target()) break;
    ++number;
  }
  const std::string id = fmt::format("{}{}{}", request.container_id, kImageRootMark, number);
  const auto known = files_.read(record, kTextBytesMax);
  MUSTER_TRY(files_.write(record, (known ? *known : "") + id + "\n", 0600, Durability::kNone));
  MUSTER_ASSIGN(const std::string root, images_.mount_root(image, id));
  const std::string& subpath = mount.image().subpath();
  if (subpath.empty()) return root;
  // Links in the image lead nowhere outside of it.
  const auto opened = open_in_root(root, subpath);
  if (!opened) {
    return fail(opened.error().with_context(
        fmt::format("subpath \"{}\" of image {}", subpath, mount.source())));
  }
  std::error_code error;
  const fs::path path = fs::read_symlink(fmt::format("/proc/self/fd/{}", opened->get()), error);
  if (error) return fail(internal_error("subpath \"{}\": {}", subpath, error.message()));
  return path.string();
}

Status TaskSteps::unmount_images(const std::string& container_id) {
  const std::string path = fmt::format("{}/{}", paths_.container(container_id), kImageRoots);
  const auto record = files_.read(path, kTextBytesMax);
  if (!record) return {};
  Status first;
  std::string_view rest = *record;
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    keep_first(first, images_.unmount_root(std::string(rest.substr(0, end))));
  }
  if (first.ok()) first = files_.remove(path);
  return first;
}

overlay::ContainerNetworkRequest TaskSteps::network_request(const v1::LocalTask& task,
                                                            const NetworkPlan& plan, bool mesh) {
  overlay::ContainerNetworkRequest out;
  out.container_id = task.container_id();
  out.links = plan.links;
  for (const v1::PortConfig& port : task.assignment().task().ports()) {
    out.ports.push_back(port);
    // The mesh comes in by a network of its own.
    if (port.mode() == v1::PortConfig::HOST || !mesh) out.host_ports = true;
  }
  return out;
}

Status TaskSteps::reconnect(const v1::LocalTask& task, bool mesh, bool* left) {
  const NetworkPlan plan = plan_network(task.assignment(), task.revision().spec());
  if (plan.host) {
    *left = true;
    return {};
  }
  const std::string directory = paths_.container(task.container_id());
  // A successor of this process looks whether all of it was done.
  const std::string mark = directory + "/" + kReconnectedFile;
  if (!files_.exists(mark)) MUSTER_TRY(files_.write(mark, "", 0600, Durability::kNone));
  MUSTER_TRY(network_.reconnect(network_request(task, plan, mesh), left));
  auto resolver = resolver_of(task.container_id());
  if (!resolver || names_ == nullptr) return {};
  set_resolver_networks(plan, *resolver);
  MUSTER_TRY(files_.write(directory + "/" + kResolverFile, resolver->SerializeAsString(), 0600,
                          Durability::kNone));
  names_->adopt(*resolver);
  return {};
}

bool TaskSteps::was_reconnected(const std::string& container_id) const {
  return files_.exists(paths_.container(container_id) + "/" + kReconnectedFile);
}

Status TaskSteps::prepare_network(const PrepareInput& input, const NetworkPlan& plan,
                                  ContainerRequest& request) {
  if (plan.host) {
    for (const v1::KeyValue& entry : request.spec.container().sysctls()) {
      if (entry.key().rfind("net.", 0) == 0) {
        return invalid_argument("sysctl \"{}\" not allowed in host network namespace", entry.key());
      }
    }
    return {};
  }
  overlay::ContainerNetworkRequest attach = network_request(input.task, plan, input.mesh);
  // As Docker does: a process without privileges may listen on low ports of its own namespace.
  v1::KeyValue& low_ports = attach.sysctls.emplace_back();
  low_ports.set_key("net.ipv4.ip_unprivileged_port_start");
  low_ports.set_value("0");
  for (const v1::KeyValue& entry : request.spec.container().sysctls()) {
    if (entry.key().rfind("net.", 0) == 0) attach.sysctls.push_back(entry);
  }
  MUSTER_ASSIGN(request.network_namespace, network_.attach(attach));
  return give_resolver(plan, request);
}

Status TaskSteps::give_resolver(const NetworkPlan& plan, const ContainerRequest& request) {
  if (names_ == nullptr || plan.links.empty()) return {};
  const v1::NetdContainer container = plan_resolver(plan, request);
  // A successor of this process finds it here, also when the next step is the last.
  MUSTER_TRY(files_.write(request.bundle_dir + "/" + kResolverFile, container.SerializeAsString(),
                          0600, Durability::kNone));
  return names_->attach(container);
}

std::optional<v1::NetdContainer> TaskSteps::resolver_of(const std::string& container_id) const {
  const auto bytes =
      files_.read(paths_.container(container_id) + "/" + kResolverFile, kTextBytesMax);
  v1::NetdContainer container;
  if (!bytes || !container.ParseFromString(*bytes)) return std::nullopt;
  return container;
}

Result<std::vector<v1::PortConfig>> TaskSteps::reserve_ports(const v1::LocalTask& task) {
  std::vector<v1::PortConfig> out;
  for (v1::PortConfig port : task.assignment().task().ports()) {
    if (port.mode() != v1::PortConfig::HOST) continue;
    if (port.published_port() == 0) {
      // Chosen before by an earlier attempt at the same task?
      for (const v1::PortConfig& known : task.status().host_ports()) {
        if (known.target_port() == port.target_port() && known.protocol() == port.protocol()) {
          port.set_published_port(known.published_port());
        }
      }
    }
    if (port.published_port() == 0) {
      MUSTER_ASSIGN(const uint32_t number, network_.reserve_host_port(port.protocol()));
      port.set_published_port(number);
    }
    out.push_back(std::move(port));
  }
  return out;
}

Status TaskSteps::write_files(const NetworkPlan& plan, ContainerRequest& request) {
  const v1::ContainerSpec& spec = request.spec.container();
  request.hosts_file = request.bundle_dir + "/hosts";
  request.hostname_file = request.bundle_dir + "/hostname";
  request.resolv_conf_file = request.bundle_dir + "/resolv.conf";
  std::string hosts = hosts_text(spec, request.hostname, plan);
  if (plan.host && spec.hosts_size() == 0) {
    if (auto own = files_.read("/etc/hosts", kTextBytesMax)) hosts = *own;
  }
  const auto write = [this](const std::string& path, const std::string& text) {
    return files_.write(path, text, 0644, Durability::kNone);
  };
  MUSTER_TRY(write(request.hosts_file, hosts));
  MUSTER_TRY(write(request.hostname_file, request.hostname + "\n"));
  const bool resolver = names_ != nullptr && !plan.links.empty();
  const std::string host_text = host_resolv_conf(files_);
  return write(request.resolv_conf_file, resolver
                                             ? resolver_conf_text(spec.dns(), host_text)
                                             : resolv_conf_text(spec.dns(), host_text, plan.host));
}

Status TaskSteps::write_payloads(const PrepareInput& input, ContainerRequest& request) {
  const std::vector<PayloadFile> wanted = payload_files(request.spec.container());
  if (wanted.empty()) return {};
  const boost::json::value data = task_template_data(input.task, input.node);
  std::vector<MemoryFile> files;
  size_t bytes = 0;
  for (const PayloadFile& file : wanted) {
    const auto payload = input.payloads.find(file.id);
    if (payload == input.payloads.end()) {
      return not_found("{} {} is not on this node", file.kind, file.name);
    }
    const auto where = [&](Status status) {
      return status.with_context(fmt::format("{} {}", file.kind, file.name));
    };
    auto uid = owner_number(file.file.uid(), request.rootfs, false);
    if (!uid) return where(std::move(uid).error());
    auto gid = owner_number(file.file.gid(), request.rootfs, true);
    if (!gid) return where(std::move(gid).error());
    MUSTER_ASSIGN(std::string content,
                  expand_payload(*payload->second, request.spec.container(), input.payloads, data));
    bytes += content.size();
    if (bytes > PayloadFiles::kContainerBytesMax) {
      return resource_exhausted("the task's secrets and configs have more than {} bytes together",
                                PayloadFiles::kContainerBytesMax);
    }
    files.push_back({std::move(content), *uid, *gid, file.file.mode()});
  }
  MUSTER_ASSIGN(const std::vector<std::string> paths,
                payload_files_.write(request.container_id, files));
  for (size_t i = 0; i < paths.size(); ++i) {
    request.mounts.push_back(bind_payload(paths[i], wanted[i]));
  }
  return {};
}

Status TaskSteps::clean_up(const std::string& container_id) {
  const std::string directory = paths_.container(container_id);
  Status first = runtime_.remove(container_id, directory);
  // The resolver's sockets would keep the namespace alive.
  if (names_ != nullptr) names_->detach(container_id);
  if (!fault(WorkerMutant::kLeavesNetwork)) keep_first(first, network_.detach(container_id));
  keep_first(first, payload_files_.remove(container_id));
  keep_first(first, unmount_images(container_id));
  keep_first(first, images_.unmount_root(container_id));
  keep_first(first, volumes_.release(container_id));
  const auto names = files_.list(directory);
  if (!names) keep_first(first, names.error());
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (name.rfind("container.log", 0) == 0 || name == kImageRoots) continue;
    keep_first(first, files_.remove(directory + "/" + name));
  }
  return first;
}

Status TaskSteps::forget(const std::string& container_id) {
  // Whoever sends its lines to a log server may be writing down right now how far he is.
  Status removed;
  for (int tries = 0; tries < 3; ++tries) {
    removed = files_.remove(paths_.container(container_id));
    if (removed.ok()) break;
  }
  return removed;
}

Status TaskSteps::collect_garbage(const std::vector<std::string>& live,
                                  const std::vector<std::string>& known) {
  const std::set<std::string> keep(live.begin(), live.end());
  const std::set<std::string> recorded(known.begin(), known.end());
  std::set<std::string> found;
  Status first;
  const auto collect = [&](Result<std::vector<std::string>> ids) {
    if (!ids) return keep_first(first, ids.error());
    found.insert(ids->begin(), ids->end());
  };
  collect(runtime_.list());
  if (auto roots = images_.mounted_roots()) {
    // A root of a mounted image belongs to its container.
    for (const std::string& id : *roots) found.insert(id.substr(0, id.find(kImageRootMark)));
  } else {
    keep_first(first, roots.error());
  }
  for (const std::string& id : payload_files_.list()) found.insert(id);
  if (auto folders = files_.list(paths_.containers())) {
    for (const std::string& id : *folders) {
      if (recorded.count(id) == 0) found.insert(id);
    }
  } else {
    keep_first(first, folders.error());
  }
  for (const std::string& id : found) {
    if (keep.count(id) != 0) continue;
    keep_first(first, clean_up(id));
    if (recorded.count(id) == 0) keep_first(first, forget(id));
  }
  keep_first(first, network_.collect_garbage(live));
  return first;
}

}  // namespace muster::agent
