#include "tests/bench/node_under_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/file.h"
#include "base/rng.h"
#include "base/unique_fd.h"

namespace muster::bench {
namespace {

constexpr auto kLimit = std::chrono::seconds(120);

std::unique_ptr<grpc::ClientContext> context(std::chrono::seconds limit = kLimit) {
  auto out = std::make_unique<grpc::ClientContext>();
  out->set_deadline(std::chrono::system_clock::now() + limit);
  return out;
}

Status from(const grpc::Status& status) {
  if (status.ok()) return ok_status();
  return Status(static_cast<StatusCode>(status.error_code()), status.error_message());
}

// A port nobody listens on at this moment.
uint16_t free_port() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

uint64_t field_kib(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size()));
  }
  return 0;
}

class Stopwatch {
 public:
  Duration elapsed() const { return std::chrono::steady_clock::now() - start_; }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

Result<std::unique_ptr<NodeUnderTest>> NodeUnderTest::start(const std::filesystem::path& bin_dir) {
  std::unique_ptr<NodeUnderTest> node(new NodeUnderTest);
  node->bin_dir_ = bin_dir;
  // Under /var/lib rather than /tmp, which may be a memory file system without a real sync.
  node->dir_ = "/var/lib/muster-bench-" + SystemRng().id().substr(0, 8);
  MUSTER_TRY(make_directory(node->dir_, 0700));
  MUSTER_TRY(node->launch());
  v1::InitSwarmRequest request;
  const std::string address = fmt::format("127.0.0.1:{}", free_port());
  request.set_listen_addr(address);
  request.set_advertise_addr(address);
  v1::InitSwarmResponse response;
  MUSTER_TRY(from(node->control_->InitSwarm(context().get(), request, &response)));
  return node;
}

NodeUnderTest::~NodeUnderTest() {
  if (control_ != nullptr) {
    v1::LeaveSwarmRequest request;
    request.set_force(true);
    v1::LeaveSwarmResponse response;
    control_->LeaveSwarm(context().get(), request, &response);
  }
  stop();
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

Status NodeUnderTest::launch() {
  const std::string program = bin_dir_ / "musterd";
  const std::string socket = dir_ / "run/muster.sock";
  const std::string data = dir_ / "data";
  const std::string log = dir_ / "musterd.log";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::string name = "musterd", f1 = "--data-dir", a1 = data, f2 = "--socket", a2 = socket;
  char* argv[] = {name.data(), f1.data(), a1.data(), f2.data(), a2.data(), nullptr};
  const int error = posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return errno_status(error, "cannot start " + program);
  const auto channel = grpc::CreateChannel("unix://" + socket, grpc::InsecureChannelCredentials());
  control_ = v1::Control::NewStub(channel);
  local_ = v1::Local::NewStub(channel);
  const auto ctx = context(std::chrono::seconds(20));
  ctx->set_wait_for_ready(true);
  v1::GetInfoResponse info;
  return from(control_->GetInfo(ctx.get(), {}, &info)).with_context("musterd does not answer");
}

void NodeUnderTest::stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Status NodeUnderTest::kill_and_restart() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  return launch();
}

Result<std::string> NodeUnderTest::load_busybox() {
  const std::string archive = dir_ / "busybox.tar";
  const std::string command = fmt::format(
      "deploy/packaging/images/build.sh --out {0}/images busybox >/dev/null && "
      "tar -C {0}/images/busybox -cf {1} .",
      dir_.string(), archive);
  std::string shell = "sh", flag = "-c", text = command;
  char* argv[] = {shell.data(), flag.data(), text.data(), nullptr};
  pid_t pid = -1;
  int status = 0;
  if (posix_spawnp(&pid, "sh", nullptr, nullptr, argv, environ) != 0 ||
      waitpid(pid, &status, 0) != pid || status != 0) {
    return fail(internal_error("deploy/packaging/images/build.sh failed"));
  }
  MUSTER_ASSIGN(const std::string data, read_file(archive, 256 << 20));
  v1::LoadImageResponse response;
  const auto ctx = context();
  const auto stream = local_->LoadImage(ctx.get(), &response);
  constexpr size_t kPiece = 1 << 20;
  for (size_t at = 0; at < data.size(); at += kPiece) {
    v1::LoadImageRequest piece;
    piece.set_data(data.substr(at, kPiece));
    if (!stream->Write(piece)) break;
  }
  stream->WritesDone();
  MUSTER_TRY(from(stream->Finish()));
  if (response.images().empty() || response.images(0).references().empty()) {
    return fail(internal_error("the image was loaded without a name"));
  }
  return response.images(0).references(0);
}

// Follows the tasks of the service through Watch, so that nothing is added to what is measured.
Status NodeUnderTest::wait_for(const std::string& service_id, uint64_t revision, uint64_t running) {
  const auto ctx = context();
  v1::WatchRequest watch;
  watch.add_kinds("task");
  watch.mutable_filter()->add_service_ids(service_id);
  const auto stream = control_->Watch(ctx.get(), watch);
  stream->WaitForInitialMetadata();

  std::set<std::string> fresh, old;
  const auto consider = [&](const v1::Task& task, bool gone) {
    const bool alive = !gone && task.status().state() == v1::TASK_RUNNING;
    auto& set = task.revision() == revision ? fresh : old;
    if (alive) {
      set.insert(task.id());
    } else {
      set.erase(task.id());
    }
  };
  v1::ListTasksRequest list;
  list.mutable_filter()->add_service_ids(service_id);
  v1::ListTasksResponse tasks;
  MUSTER_TRY(from(control_->ListTasks(context().get(), list, &tasks)));
  for (const auto& task : tasks.tasks()) consider(task, false);
  v1::WatchResponse event;
  while (fresh.size() != running || !old.empty()) {
    if (!stream->Read(&event)) return from(stream->Finish());
    for (const auto& change : event.events()) {
      if (change.has_task()) {
        consider(change.task(), change.action() == v1::ObjectEvent::REMOVE);
      }
    }
  }
  ctx->TryCancel();
  return ok_status();
}

Result<Duration> NodeUnderTest::create_service(const std::string& name, const std::string& image,
                                               uint64_t replicas, bool host_network) {
  v1::CreateServiceRequest request;
  v1::ServiceSpec& spec = *request.mutable_spec();
  spec.mutable_annotations()->set_name(name);
  spec.mutable_replicated()->set_replicas(replicas);
  spec.mutable_update()->set_parallelism(0);
  v1::ContainerSpec& container = *spec.mutable_task()->mutable_container();
  container.set_image(image);
  // Obeys TERM at once, as a well-behaved service does.
  for (const char* word : {"sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"}) {
    container.add_args(word);
  }
  if (host_network) spec.mutable_task()->add_networks()->set_target("host");
  const Stopwatch watch;
  v1::CreateServiceResponse response;
  MUSTER_TRY(from(control_->CreateService(context().get(), request, &response)));
  MUSTER_TRY(wait_for(response.service().id(), response.service().revision(), replicas));
  return watch.elapsed();
}

Result<Duration> NodeUnderTest::scale(const std::string& name, uint64_t replicas) {
  v1::GetServiceRequest get;
  get.set_service(name);
  v1::GetServiceResponse now;
  const Stopwatch watch;
  MUSTER_TRY(from(control_->GetService(context().get(), get, &now)));
  v1::UpdateServiceRequest request;
  request.set_service_id(now.service().id());
  request.set_version(now.service().meta().version());
  *request.mutable_spec() = now.service().spec();
  request.mutable_spec()->mutable_replicated()->set_replicas(replicas);
  v1::UpdateServiceResponse response;
  MUSTER_TRY(from(control_->UpdateService(context().get(), request, &response)));
  MUSTER_TRY(wait_for(now.service().id(), response.service().revision(), replicas));
  return watch.elapsed();
}

Result<Duration> NodeUnderTest::force_update(const std::string& name) {
  v1::GetServiceRequest get;
  get.set_service(name);
  v1::GetServiceResponse now;
  const Stopwatch watch;
  MUSTER_TRY(from(control_->GetService(context().get(), get, &now)));
  v1::UpdateServiceRequest request;
  request.set_service_id(now.service().id());
  request.set_version(now.service().meta().version());
  *request.mutable_spec() = now.service().spec();
  request.mutable_spec()->mutable_task()->set_force_update(
      now.service().spec().task().force_update() + 1);
  v1::UpdateServiceResponse response;
  MUSTER_TRY(from(control_->UpdateService(context().get(), request, &response)));
  MUSTER_TRY(wait_for(now.service().id(), response.service().revision(),
                      now.service().spec().replicated().replicas()));
  return watch.elapsed();
}

Result<Duration> NodeUnderTest::remove(const std::string& name) {
  v1::RemoveServiceRequest request;
  request.set_service(name);
  v1::RemoveServiceResponse response;
  const Stopwatch watch;
  MUSTER_TRY(from(control_->RemoveService(context().get(), request, &response)));
  MUSTER_TRY(wait_for(response.service_id(), 0, 0));
  return watch.elapsed();
}

Result<std::vector<int64_t>> NodeUnderTest::container_pids() {
  v1::ListContainersResponse response;
  MUSTER_TRY(from(local_->ListContainers(context().get(), {}, &response)));
  std::vector<int64_t> pids;
  for (const auto& container : response.containers()) pids.push_back(container.pid());
  std::sort(pids.begin(), pids.end());
  return pids;
}

NodeUnderTest::Memory NodeUnderTest::memory() const {
  Memory total;
  const auto add = [&](const std::string& process) {
    total.rss_kib += field_kib(process + "/smaps_rollup", "Rss:");
    total.pss_kib += field_kib(process + "/smaps_rollup", "Pss:");
  };
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string line;
    if (!std::getline(file, line)) continue;
    // musterd, its helpers and the monitors carry this node's data directory in their arguments.
    const std::string name = line.substr(0, line.find('\0'));
    const bool ours = name.ends_with("musterd") || name.ends_with("conmon");
    if (ours && line.find(dir_.string()) != std::string::npos) add(entry.path());
  }
  return total;
}

}  // namespace muster::bench
