#include "deploy/daemon/local_service.h"

#include <grpcpp/support/server_callback.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/worker/local_view.h"
#include "agent/worker/log_view.h"
#include "base/file.h"
#include "deploy/daemon/exec_calls.h"
#include "deploy/daemon/grpc_status.h"
#include "deploy/daemon/image_calls.h"
#include "deploy/daemon/log_calls.h"
#include "deploy/daemon/stats_calls.h"
#include "manager/control/access.h"
#include "muster/v1/local.grpc.pb.h"

namespace muster::daemon {
namespace {

using Context = grpc::CallbackServerContext;

class Service final : public v1::Local::CallbackService {
 public:
  explicit Service(LocalServiceDeps deps) : deps_(std::move(deps)), stats_(*deps_.parts.runtime) {}

  grpc::ServerUnaryReactor* ListContainers(Context* c, const v1::ListContainersRequest* in,
                                           v1::ListContainersResponse* out) override {
    return unary(c, "ListContainers", [this, in, out]() -> Status {
      const auto agent = deps_.agent();
      if (agent == nullptr) return no_agent();
      for (auto& container : agent::list_containers(agent->tasks(), agent->node(), in->all())) {
        *out->add_containers() = std::move(container);
      }
      return ok_status();
    });
  }

  grpc::ServerWriteReactor<v1::LogsResponse>* Logs(Context* c, const v1::LogsRequest* in) override {
    if (const Status allowed = check(*c, "Logs"); !allowed.ok()) return LogCalls::refuse(allowed);
    const auto agent = deps_.agent();
    if (agent == nullptr) return LogCalls::refuse(no_agent());
    std::vector<v1::LocalTask> tasks = agent->tasks();
    if (!in->container().empty()) {
      auto one = agent::resolve_container(tasks, in->container());
      if (!one) return LogCalls::refuse(one.error());
      tasks = {*std::move(one)};
    } else {
      tasks = agent::tasks_for_logs(tasks, *in);
    }
    const agent::NodeContext node = agent->node();
    std::vector<agent::LogSource> sources;
    std::string unreadable;
    for (const v1::LocalTask& task : tasks) {
      if (task.container_id().empty()) continue;
      agent::LoggedTask logged = agent::describe_logged_task(task, node, agent->paths());
      if (!logged.unreadable.empty()) {
        unreadable = std::move(logged.unreadable);
      } else {
        sources.push_back({logged.task_id, logged.bundle_dir, logged.ended});
      }
    }
    if (sources.empty() && !unreadable.empty()) {
      return LogCalls::refuse(failed_precondition("{}", unreadable));
    }
    std::vector<std::string> ids;
    for (const agent::LogSource& source : sources) ids.push_back(source.task_id);
    return logs_.start(*in, std::move(sources), [this, ids] { return ended_of(ids); });
  }

  grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* Exec(Context* c) override {
    if (const Status allowed = check(*c, "Exec"); !allowed.ok()) return refuse_exec(allowed);
    return start_exec(*c, deps_.pool, *deps_.parts.runtime,
                      [this](const v1::ExecInput::Start& start) { return resolve_exec(start); });
  }

  grpc::ServerWriteReactor<v1::StatsResponse>* Stats(Context* c,
                                                     const v1::StatsRequest* in) override {
    if (const Status allowed = check(*c, "Stats"); !allowed.ok())
      return StatsCalls::refuse(allowed);
    return stats_.start(*in, [this] { return local_tasks(); });
  }

  grpc::ServerUnaryReactor* ListImages(Context* c, const v1::ListImagesRequest*,
                                       v1::ListImagesResponse* out) override {
    return unary(c, "ListImages", [this, out]() -> Status {
      MUSTER_ASSIGN(auto images, deps_.parts.images->list());
      for (auto& image : images) *out->add_images() = std::move(image);
      return ok_status();
    });
  }
  grpc::ServerWriteReactor<v1::PullProgress>* PullImage(Context* c,
                                                        const v1::PullImageRequest* in) override {
    if (const Status allowed = check(*c, "PullImage"); !allowed.ok()) return refuse_pull(allowed);
    return pull_image(deps_.pool, *deps_.parts.images, *in);
  }
  grpc::ServerReadReactor<v1::LoadImageRequest>* LoadImage(Context* c,
                                                           v1::LoadImageResponse* out) override {
    Status allowed = check(*c, "LoadImage");
    const auto scratch = deps_.data_dir / "tmp";
    if (allowed.ok()) allowed = make_directory(scratch, 0700);
    if (!allowed.ok()) return refuse_load(allowed);
    return load_image(deps_.pool, *deps_.parts.images, scratch, out);
  }
  grpc::ServerUnaryReactor* RemoveImage(Context* c, const v1::RemoveImageRequest* in,
                                        v1::RemoveImageResponse* out) override {
    return unary(c, "RemoveImage", [this, in, out]() -> Status {
      MUSTER_ASSIGN(*out, deps_.parts.images->remove(in->reference(), in->force()));
      return ok_status();
    });
  }
  grpc::ServerUnaryReactor* PruneImages(Context* c, const v1::PruneImagesRequest* in,
                                        v1::PruneImagesResponse* out) override {
    return unary(c, "PruneImages", [this, in, out]() -> Status {
      MUSTER_ASSIGN(*out, deps_.parts.images->prune(in->all()));
      return ok_status();
    });
  }

  grpc::ServerUnaryReactor* ListVolumes(Context* c, const v1::ListVolumesRequest*,
                                        v1::ListVolumesResponse* out) override {
    return unary(c, "ListVolumes", [this, out]() -> Status {
      MUSTER_ASSIGN(auto volumes, deps_.parts.volumes->list());
      for (auto& volume : volumes) *out->add_volumes() = std::move(volume);
      return ok_status();
    });
  }
  grpc::ServerUnaryReactor* CreateVolume(Context* c, const v1::CreateVolumeRequest* in,
                                         v1::CreateVolumeResponse* out) override {
    return unary(c, "CreateVolume", [this, in, out]() -> Status {
      MUSTER_ASSIGN(*out->mutable_volume(), deps_.parts.volumes->create(*in));
      return ok_status();
    });
  }
  grpc::ServerUnaryReactor* RemoveVolume(Context* c, const v1::RemoveVolumeRequest* in,
                                         v1::RemoveVolumeResponse*) override {
    return unary(c, "RemoveVolume",
                 [this, in] { return deps_.parts.volumes->remove(in->name(), in->force()); });
  }
  grpc::ServerUnaryReactor* PruneVolumes(Context* c, const v1::PruneVolumesRequest* in,
                                         v1::PruneVolumesResponse* out) override {
    return unary(c, "PruneVolumes", [this, in, out]() -> Status {
      MUSTER_ASSIGN(*out, deps_.parts.volumes->prune(in->all()));
      return ok_status();
    });
  }

 private:
  Status check(Context& context, std::string_view method) const {
    return manager::control::check_access("muster.v1.Local." + std::string(method),
                                          deps_.principal_of(context));
  }

  // Runs `body` on the pool; what it needs of the request and the response lives until the call is
  // finished.
  template <class Body>
  grpc::ServerUnaryReactor* unary(Context* context, std::string_view method, Body body) {
    auto* reactor = context->DefaultReactor();
    if (const Status allowed = check(*context, method); !allowed.ok()) {
      reactor->Finish(to_grpc(allowed));
    } else if (!deps_.pool.post([reactor, body] { reactor->Finish(to_grpc(body())); })) {
      reactor->Finish(to_grpc(resource_exhausted("too many requests wait on this node")));
    }
    return reactor;
  }

  Result<std::vector<v1::LocalTask>> local_tasks() const {
    const auto agent = deps_.agent();
    if (agent == nullptr) return fail(no_agent());
    return agent->tasks();
  }
  // Of these tasks the ones that write no more: ended, or gone.
  std::vector<std::string> ended_of(std::vector<std::string> ids) const {
    if (const auto tasks = local_tasks()) {
      for (const v1::LocalTask& task : *tasks) {
        if (task.status().state() < v1::TASK_COMPLETE) {
          std::erase(ids, task.assignment().task().id());
        }
      }
    }
    return ids;
  }

  Status no_agent() const {
    if (const std::string error = deps_.role_error(); !error.empty()) {
      return failed_precondition("{}", error);
    }
    return unavailable(
        "This node is not part of a swarm and runs no containers. Use \"muster swarm init\" to "
        "create a swarm.");
  }
  Result<agent::ExecRequest> resolve_exec(const v1::ExecInput::Start& start) const {
    const auto agent = deps_.agent();
    if (agent == nullptr) return fail(no_agent());
    MUSTER_ASSIGN(const v1::LocalTask task,
                  agent::resolve_container(agent->tasks(), start.container()));
    if (!agent::is_running(task)) {
      return fail(failed_precondition("container {} is not running", start.container()));
    }
    if (start.command().empty()) return fail(invalid_argument("no command is given"));
    agent::ExecRequest request;
    request.container_id = task.container_id();
    request.bundle_dir = agent->paths().container(task.container_id());
    request.command.assign(start.command().begin(), start.command().end());
    request.tty = start.tty();
    request.open_stdin = start.stdin();
    request.env.assign(start.env().begin(), start.env().end());
    request.dir = start.dir();
    request.user = start.user();
    request.privileged = start.privileged();
    request.rows = start.size().rows();
    request.columns = start.size().columns();
    return request;
  }

  LocalServiceDeps deps_;
  LogCalls logs_;
  StatsCalls stats_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_local_service(LocalServiceDeps deps) {
  return std::make_unique<Service>(std::move(deps));
}

}  // namespace muster::daemon
