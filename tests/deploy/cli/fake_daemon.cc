#include "tests/deploy/cli/fake_daemon.h"

#include <grpcpp/grpcpp.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/security/x509.h"
#include "muster/v1/control.grpc.pb.h"
#include "muster/v1/local.grpc.pb.h"

namespace muster::deploy::cli {
namespace {

grpc::Status to_grpc(grpc::ServerContext* context, const Status& status) {
  if (!status.reason().empty()) context->AddTrailingMetadata("muster-reason", status.reason());
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), status.message());
}

grpc::Status missing(const char* kind, const std::string& name) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND, fmt::format("{} {} not found", kind, name));
}

bool has_label(const v1::Annotations& annotations, const v1::ListFilter& filter) {
  for (const auto& want : filter.labels()) {
    bool found = false;
    for (const auto& label : annotations.labels())
      found = found || (label.key() == want.key() &&
                        (want.value().empty() || label.value() == want.value()));
    if (!found) return false;
  }
  return true;
}

bool has_name(const v1::Annotations& annotations, const v1::ListFilter& filter) {
  return filter.names().empty() || std::find(filter.names().begin(), filter.names().end(),
                                             annotations.name()) != filter.names().end();
}

// Sends the script, then waits for the client to go unless the stream is to end.
template <class T>
grpc::Status play(grpc::ServerContext* context, grpc::ServerWriter<T>* writer,
                  const std::vector<T>& messages, bool end) {
  for (const auto& message : messages) writer->Write(message);
  while (!end && !context->IsCancelled()) std::this_thread::yield();
  return grpc::Status::OK;
}

}  // namespace

struct FakeDaemon::Server final : v1::Control::Service, v1::Local::Service {
  explicit Server(FakeDaemon& fake) : fake(fake) {
    char path[] = "/tmp/muster-cli-test-XXXXXX";
    directory = mkdtemp(path);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix://" + directory + "/sock", grpc::InsecureServerCredentials());
    builder.RegisterService(static_cast<v1::Control::Service*>(this));
    builder.RegisterService(static_cast<v1::Local::Service*>(this));
    server = builder.BuildAndStart();
  }
  ~Server() override {
    server->Shutdown(std::chrono::system_clock::now());
    server->Wait();
    std::filesystem::remove_all(directory);
  }

  using C = grpc::ServerContext;
  using S = grpc::Status;

  S changed(C* context) {
    if (!fake.next_error.ok() && fake.calls_before_error-- > 0) return S::OK;
    Status error;
    std::swap(error, fake.next_error);
    return error.ok() ? S::OK : to_grpc(context, error);
  }

  bool unavailable() { return fake.calls_unavailable > 0 && fake.calls_unavailable-- > 0; }
  static S no_manager() { return S(grpc::StatusCode::UNAVAILABLE, "no manager answers"); }

  v1::GetServiceResponse* find_service(const std::string& name) {
    for (auto& entry : fake.services)
      if (entry.service().id() == name || entry.service().spec().annotations().name() == name)
        return &entry;
    return nullptr;
  }

  S InitSwarm(C* context, const v1::InitSwarmRequest* request,
              v1::InitSwarmResponse* response) override {
    fake.init_request = *request;
    response->set_node_id("n1");
    response->set_manager_addr("10.0.0.1:2377");
    response->mutable_join_tokens()->set_worker("SWMTKN-1-abc-def");
    if (request->spec().autolock()) response->set_unlock_key("SWMKEY-1-first");
    return changed(context);
  }
  S JoinSwarm(C* context, const v1::JoinSwarmRequest* request,
              v1::JoinSwarmResponse* response) override {
    fake.join_request = *request;
    response->set_node_id("n2");
    response->set_manager(request->join_token().ends_with("-manager"));
    return changed(context);
  }
  S UnlockSwarm(C* context, const v1::UnlockSwarmRequest* request,
                v1::UnlockSwarmResponse*) override {
    fake.unlock_keys_tried.push_back(request->unlock_key());
    return changed(context);
  }
  S GetUnlockKey(C*, const v1::GetUnlockKeyRequest*, v1::GetUnlockKeyResponse* response) override {
    response->set_unlock_key(fake.unlock_key);
    return S::OK;
  }
  S IssueClientCertificate(C* context, const v1::IssueClientCertificateRequest* request,
                           v1::IssueClientCertificateResponse* response) override {
    fake.client_certificate_request = *request;
    const WallTime now{1'700'000'000'000'000'000};
    const auto root = security::create_root(now);
    const auto certificate = security::sign_request(
        *root, request->signing_request_pem(),
        {request->name(), security::CertificateRole::kClient, "c1"}, now, 24h);
    if (!certificate) return {grpc::StatusCode::INVALID_ARGUMENT, certificate.error().message()};
    response->set_certificate_pem(*certificate);
    response->set_trust_root_pem(root->certificate_pem);
    response->set_not_after_ns(1'700'086'400'000'000'000);
    return changed(context);
  }
  S BackupSwarm(C* context, const v1::BackupSwarmRequest* request,
                grpc::ServerWriter<v1::BackupSwarmResponse>* writer) override {
    fake.backup_request = *request;
    for (const auto& chunk : fake.backup_chunks) {
      v1::BackupSwarmResponse response;
      response.set_chunk(chunk);
      writer->Write(response);
    }
    return changed(context);
  }
  S RestoreSwarm(C* context, grpc::ServerReader<v1::RestoreSwarmRequest>* reader,
                 v1::RestoreSwarmResponse* response) override {
    v1::RestoreSwarmRequest request;
    while (reader->Read(&request)) fake.restore_requests.push_back(request);
    response->set_node_id("n1");
    return changed(context);
  }
  S LeaveSwarm(C* context, const v1::LeaveSwarmRequest*, v1::LeaveSwarmResponse*) override {
    return changed(context);
  }
  S GetCluster(C*, const v1::GetClusterRequest*, v1::GetClusterResponse* response) override {
    *response->mutable_cluster() = fake.cluster;
    if (fake.renewals.empty()) return S::OK;
    response->mutable_cluster()->mutable_root_ca()->mutable_rotation()->set_certificate_pem("new");
    const auto& waiting = fake.renewals.front();
    *response->mutable_nodes_to_renew() = {waiting.begin(), waiting.end()};
    fake.renewals.erase(fake.renewals.begin());
    return S::OK;
  }
  S UpdateCluster(C* context, const v1::UpdateClusterRequest* request,
                  v1::UpdateClusterResponse* response) override {
    fake.updated_clusters.push_back(*request);
    *fake.cluster.mutable_spec() = request->spec();
    *response->mutable_cluster() = fake.cluster;
    return changed(context);
  }
  S GetInfo(C*, const v1::GetInfoRequest*, v1::GetInfoResponse* response) override {
    *response = fake.info;
    if (!fake.info_script.empty()) {
      *response = fake.info_script.front();
      fake.info_script.erase(fake.info_script.begin());
    }
    return S::OK;
  }

  S CreateService(C* context, const v1::CreateServiceRequest* request,
                  v1::CreateServiceResponse* response) override {
    fake.created_services.push_back(*request);
    v1::Service& service = fake.add_service(request->spec().annotations().name(), 0);
    *service.mutable_spec() = request->spec();
    *response->mutable_service() = service;
    for (const auto& warning : fake.warnings) response->add_warnings(warning);
    return changed(context);
  }
  S UpdateService(C* context, const v1::UpdateServiceRequest* request,
                  v1::UpdateServiceResponse* response) override {
    fake.updated_services.push_back(*request);
    auto* entry = find_service(request->service_id());
    if (entry == nullptr) return missing("service", request->service_id());
    if (!request->rollback()) *entry->mutable_service()->mutable_spec() = request->spec();
    *response->mutable_service() = entry->service();
    for (const auto& warning : fake.warnings) response->add_warnings(warning);
    return changed(context);
  }
  S RemoveService(C* context, const v1::RemoveServiceRequest* request,
                  v1::RemoveServiceResponse*) override {
    if (find_service(request->service()) == nullptr) return missing("service", request->service());
    fake.removed.push_back(request->service());
    return changed(context);
  }
  S GetService(C*, const v1::GetServiceRequest* request,
               v1::GetServiceResponse* response) override {
    if (unavailable()) return no_manager();
    const auto* entry = find_service(request->service());
    if (entry == nullptr) return missing("service", request->service());
    *response = *entry;
    return S::OK;
  }
  S ExplainService(C*, const v1::ExplainServiceRequest* request,
                   v1::ExplainServiceResponse* response) override {
    const auto* entry = find_service(request->service());
    if (entry == nullptr) return missing("service", request->service());
    *response = fake.explanation;
    *response->mutable_service() = entry->service();
    return S::OK;
  }
  S ListServices(C*, const v1::ListServicesRequest* request,
                 v1::ListServicesResponse* response) override {
    for (const auto& entry : fake.services)
      if (has_label(entry.service().spec().annotations(), request->filter()))
        *response->add_services() = entry;
    return S::OK;
  }

  S GetTask(C*, const v1::GetTaskRequest* request, v1::GetTaskResponse* response) override {
    for (const auto& task : fake.tasks) {
      const bool named = fake.tasks_by_name && task.name() == request->task();
      if (task.id() != request->task() && !named) continue;
      *response->mutable_task() = task;
      return S::OK;
    }
    return missing("task", request->task());
  }
  S ListTasks(C*, const v1::ListTasksRequest* request, v1::ListTasksResponse* response) override {
    if (unavailable()) return no_manager();
    if (fake.before_tasks_listed) fake.before_tasks_listed();
    const auto in = [](const auto& list, const std::string& id) {
      if (list.empty()) return true;
      return std::find(list.begin(), list.end(), id) != list.end();
    };
    for (const auto& task : fake.tasks)
      if (in(request->filter().service_ids(), task.service_id()) &&
          in(request->filter().node_ids(), task.node_id()))
        *response->add_tasks() = task;
    for (const auto& revision : fake.revisions) *response->add_revisions() = revision;
    return S::OK;
  }

  S GetNode(C*, const v1::GetNodeRequest* request, v1::GetNodeResponse* response) override {
    ++fake.node_reads;
    for (const auto& node : fake.nodes) {
      if (node.id() != request->node() && node.description().hostname() != request->node() &&
          request->node() != "self")
        continue;
      *response->mutable_node() = node;
      return S::OK;
    }
    return missing("node", request->node());
  }
  S ListNodes(C*, const v1::ListNodesRequest*, v1::ListNodesResponse* response) override {
    for (const auto& node : fake.nodes) *response->add_nodes() = node;
    response->set_self_id("n1");
    return S::OK;
  }
  S RemoveNode(C* context, const v1::RemoveNodeRequest* request, v1::RemoveNodeResponse*) override {
    fake.removed_nodes.push_back(*request);
    return changed(context);
  }
  S UpdateNode(C* context, const v1::UpdateNodeRequest* request,
               v1::UpdateNodeResponse* response) override {
    fake.updated_nodes.push_back(*request);
    *response->mutable_node() = fake.node_after_update;
    return changed(context);
  }

  S CreateSecret(C* context, const v1::CreateSecretRequest* request,
                 v1::CreateSecretResponse* response) override {
    fake.created_secrets.push_back(*request);
    response->mutable_secret()->set_id("secret-new");
    return changed(context);
  }
  S UpdateSecret(C* context, const v1::UpdateSecretRequest* request,
                 v1::UpdateSecretResponse* response) override {
    fake.updated_secrets.push_back(*request);
    response->mutable_secret()->set_id(request->secret_id());
    return changed(context);
  }
  S RemoveSecret(C* context, const v1::RemoveSecretRequest* request,
                 v1::RemoveSecretResponse*) override {
    fake.removed.push_back(request->secret());
    return changed(context);
  }
  S GetSecret(C*, const v1::GetSecretRequest* request, v1::GetSecretResponse* response) override {
    for (const auto& secret : fake.secrets) {
      if (secret.id() != request->secret() &&
          secret.spec().annotations().name() != request->secret())
        continue;
      *response->mutable_secret() = secret;
      return S::OK;
    }
    return missing("secret", request->secret());
  }
  S ListSecrets(C*, const v1::ListSecretsRequest* request,
                v1::ListSecretsResponse* response) override {
    for (const auto& secret : fake.secrets)
      if (has_label(secret.spec().annotations(), request->filter()) &&
          has_name(secret.spec().annotations(), request->filter()))
        *response->add_secrets() = secret;
    return S::OK;
  }

  S CreateConfig(C* context, const v1::CreateConfigRequest* request,
                 v1::CreateConfigResponse* response) override {
    fake.created_configs.push_back(*request);
    response->mutable_config()->set_id("config-new");
    return changed(context);
  }
  S UpdateConfig(C* context, const v1::UpdateConfigRequest* request,
                 v1::UpdateConfigResponse* response) override {
    fake.updated_configs.push_back(*request);
    response->mutable_config()->set_id(request->config_id());
    return changed(context);
  }
  S RemoveConfig(C* context, const v1::RemoveConfigRequest* request,
                 v1::RemoveConfigResponse*) override {
    fake.removed.push_back(request->config());
    return changed(context);
  }
  S GetConfig(C*, const v1::GetConfigRequest* request, v1::GetConfigResponse* response) override {
    for (const auto& config : fake.configs) {
      if (config.id() != request->config() &&
          config.spec().annotations().name() != request->config())
        continue;
      *response->mutable_config() = config;
      return S::OK;
    }
    return missing("config", request->config());
  }
  S ListConfigs(C*, const v1::ListConfigsRequest* request,
                v1::ListConfigsResponse* response) override {
    for (const auto& config : fake.configs)
      if (has_label(config.spec().annotations(), request->filter()) &&
          has_name(config.spec().annotations(), request->filter()))
        *response->add_configs() = config;
    return S::OK;
  }

  S CreateNetwork(C* context, const v1::CreateNetworkRequest* request,
                  v1::CreateNetworkResponse* response) override {
    fake.created_networks.push_back(*request);
    response->mutable_network()->set_id("net-new");
    *response->mutable_network()->mutable_spec() = request->spec();
    for (const auto& warning : fake.network_warnings) {
      response->mutable_network()->add_warnings(warning);
    }
    return changed(context);
  }
  S UpdateNetwork(C* context, const v1::UpdateNetworkRequest* request,
                  v1::UpdateNetworkResponse* response) override {
    fake.updated_networks.push_back(*request);
    for (const auto& network : fake.networks) *response->mutable_network() = network;
    return changed(context);
  }
  // The task has its address when it is looked at next.
  S ConnectNetwork(C* context, const v1::ConnectNetworkRequest* request,
                   v1::ConnectNetworkResponse* response) override {
    fake.connections.push_back(*request);
    for (auto& task : fake.tasks) {
      *response->mutable_task() = task;
      for (const auto& network : fake.networks) task.add_networks()->set_network_id(network.id());
    }
    return changed(context);
  }
  S DisconnectNetwork(C* context, const v1::DisconnectNetworkRequest* request,
                      v1::DisconnectNetworkResponse*) override {
    fake.disconnections.push_back(*request);
    return changed(context);
  }
  S RemoveNetwork(C* context, const v1::RemoveNetworkRequest* request,
                  v1::RemoveNetworkResponse*) override {
    if (unavailable()) return no_manager();
    fake.removed.push_back(request->network());
    return changed(context);
  }
  S GetNetwork(C*, const v1::GetNetworkRequest* request,
               v1::GetNetworkResponse* response) override {
    if (fake.network_reads_fail) return no_manager();
    for (const auto& network : fake.networks) {
      if (network.id() != request->network() &&
          network.spec().annotations().name() != request->network())
        continue;
      *response->mutable_network() = network;
      return S::OK;
    }
    if (request->network() == "net-new" && !fake.created_networks.empty()) {
      // What is made has its subnet when it is looked at next, unless a test says otherwise.
      response->mutable_network()->set_id("net-new");
      *response->mutable_network()->mutable_spec() = fake.created_networks.back().spec();
      response->mutable_network()->mutable_state()->add_pools()->set_subnet("10.0.9.0/24");
      for (const auto& warning : fake.network_warnings) {
        response->mutable_network()->add_warnings(warning);
      }
      return S::OK;
    }
    return missing("network", request->network());
  }
  S ListNetworks(C*, const v1::ListNetworksRequest* request,
                 v1::ListNetworksResponse* response) override {
    for (const auto& network : fake.networks)
      if (has_label(network.spec().annotations(), request->filter()))
        *response->add_networks() = network;
    return S::OK;
  }
  S ExamineNetworks(C* context, const v1::ExamineNetworksRequest* request,
                    grpc::ServerWriter<v1::ExamineNetworksResponse>* writer) override {
    fake.examinations.push_back(*request);
    for (const std::string& name : request->networks()) {
      if (name == "nowhere") return missing("network", name);
    }
    return play(context, writer, fake.examination_messages, fake.end_streams);
  }
  S ServiceLogs(C* context, const v1::ServiceLogsRequest* request,
                grpc::ServerWriter<v1::ServiceLogsResponse>* writer) override {
    fake.service_log_requests.push_back(*request);
    const S played = play(context, writer, fake.service_log_messages, fake.end_streams);
    const Status& end = fake.service_logs_end;
    return end.ok() ? played : S(static_cast<grpc::StatusCode>(end.code()), end.message());
  }
  S Watch(C* context, const v1::WatchRequest* request,
          grpc::ServerWriter<v1::WatchResponse>* writer) override {
    fake.watch_requests.push_back(*request);
    return play(context, writer, fake.watch_messages, fake.end_streams || request->until_present());
  }

  S ListContainers(C*, const v1::ListContainersRequest*,
                   v1::ListContainersResponse* response) override {
    for (const auto& container : fake.containers) *response->add_containers() = container;
    return S::OK;
  }
  S Logs(C* context, const v1::LogsRequest* request,
         grpc::ServerWriter<v1::LogsResponse>* writer) override {
    fake.log_requests.push_back(*request);
    return play(context, writer, fake.log_messages, fake.end_streams);
  }
  S Exec(C* context, grpc::ServerReaderWriter<v1::ExecOutput, v1::ExecInput>* stream) override {
    v1::ExecInput input;
    bool wants_input = false;
    while (stream->Read(&input)) {
      fake.exec_inputs.push_back(input);
      if (input.has_start()) wants_input = input.start().stdin();
      // A line typed on a terminal, or the end of the input.
      if (!wants_input || input.stdin_closed() || input.stdin().ends_with('\r')) break;
    }
    for (const auto& message : fake.exec_messages) stream->Write(message);
    return changed(context);
  }
  S Stats(C* context, const v1::StatsRequest*,
          grpc::ServerWriter<v1::StatsResponse>* writer) override {
    return play(context, writer, fake.stats_messages, fake.end_streams);
  }
  S ListImages(C*, const v1::ListImagesRequest*, v1::ListImagesResponse* response) override {
    for (const auto& image : fake.images) *response->add_images() = image;
    return S::OK;
  }
  S PullImage(C* context, const v1::PullImageRequest*,
              grpc::ServerWriter<v1::PullProgress>* writer) override {
    play(context, writer, fake.pull_messages, true);
    return changed(context);
  }
  S LoadImage(C* context, grpc::ServerReader<v1::LoadImageRequest>* reader,
              v1::LoadImageResponse* response) override {
    v1::LoadImageRequest piece;
    while (reader->Read(&piece)) fake.loaded += piece.data();
    for (const auto& image : fake.images) *response->add_images() = image;
    return changed(context);
  }
  S RemoveImage(C* context, const v1::RemoveImageRequest* request,
                v1::RemoveImageResponse* response) override {
    response->add_untagged(request->reference());
    return changed(context);
  }
  S PruneImages(C* context, const v1::PruneImagesRequest*,
                v1::PruneImagesResponse* response) override {
    response->set_freed_bytes(1'500'000);
    return changed(context);
  }
  S ListVolumes(C*, const v1::ListVolumesRequest*, v1::ListVolumesResponse* response) override {
    for (const auto& volume : fake.volumes) *response->add_volumes() = volume;
    return S::OK;
  }
  S CreateVolume(C* context, const v1::CreateVolumeRequest* request,
                 v1::CreateVolumeResponse* response) override {
    response->mutable_volume()->set_name(request->name());
    return changed(context);
  }
  S RemoveVolume(C* context, const v1::RemoveVolumeRequest* request,
                 v1::RemoveVolumeResponse*) override {
    fake.removed.push_back(request->name());
    return changed(context);
  }
  S PruneVolumes(C* context, const v1::PruneVolumesRequest*,
                 v1::PruneVolumesResponse* response) override {
    response->add_deleted("old");
    return changed(context);
  }

  FakeDaemon& fake;
  std::string directory;
  std::unique_ptr<grpc::Server> server;
};

FakeDaemon::FakeDaemon() {
  server_ = std::make_unique<Server>(*this);
  v1::Node node;
  node.set_id("n1");
  node.mutable_description()->set_hostname("host1");
  node.mutable_status()->set_state(v1::NodeStatus::READY);
  node.mutable_manager_status()->set_leader(true);
  node.set_role(v1::NodeSpec::MANAGER);
  nodes.push_back(node);
}

FakeDaemon::~FakeDaemon() = default;

std::string FakeDaemon::address() const {
  return "unix://" + server_->directory + "/sock";
}

v1::Service& FakeDaemon::add_service(const std::string& name, uint64_t replicas) {
  v1::GetServiceResponse entry;
  auto* service = entry.mutable_service();
  service->set_id("id-" + name);
  service->mutable_meta()->set_version(10);
  service->set_revision(1);
  auto* spec = service->mutable_spec();
  spec->mutable_annotations()->set_name(name);
  spec->mutable_task()->mutable_container()->set_image("nginx:1");
  spec->mutable_replicated()->set_replicas(replicas);
  entry.mutable_status()->set_running_tasks(replicas);
  entry.mutable_status()->set_desired_tasks(replicas);
  for (uint64_t slot = 1; slot <= replicas; ++slot) {
    v1::Task task;
    task.set_id(fmt::format("task{}{}", name, slot));
    task.set_name(fmt::format("{}.{}", name, slot));
    task.set_service_id(service->id());
    task.set_slot(slot);
    task.set_revision(1);
    task.set_node_id("n1");
    task.mutable_meta()->set_version(11);
    task.mutable_meta()->set_created_at_ns(kNow - 60'000'000'000);
    task.set_desired_state(v1::TASK_RUNNING);
    task.mutable_status()->set_state(v1::TASK_RUNNING);
    task.mutable_status()->set_timestamp_ns(kNow - 30'000'000'000);
    tasks.push_back(task);
  }
  v1::Revision revision;
  revision.set_id(service->id() + ".1");
  *revision.mutable_spec() = spec->task();
  revisions.push_back(revision);
  services.push_back(entry);
  return *services.back().mutable_service();
}

Outcome run_muster(FakeDaemon& daemon, const std::vector<std::string>& words,
                   const std::string& input, bool real_time) {
  Outcome outcome;
  World world = World::of_process();
  world.out = [&outcome](std::string_view text) { outcome.out += text; };
  world.err = [&outcome](std::string_view text) { outcome.err += text; };
  world.in_is_terminal = false;
  world.out_is_terminal = false;
  world.environment = {
      {"MUSTER_SOCKET", daemon.address()}, {"HOME", "/nonexistent"}, {"FROM_SHELL", "yes"}};
  for (const auto& [name, value] : daemon.environment) world.environment[name] = value;
  world.current_dir = "/work-dir";
  if (!real_time) world.now_ns = [] { return kNow; };
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) return outcome;
  std::thread writer([&] {
    if (write(pipe_fds[1], input.data(), input.size()) < 0) return;
    close(pipe_fds[1]);
  });
  world.in_fd = pipe_fds[0];
  outcome.code = run_program(world, words);
  writer.join();
  close(pipe_fds[0]);
  return outcome;
}

}  // namespace muster::deploy::cli
