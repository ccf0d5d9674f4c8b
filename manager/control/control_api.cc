#include "manager/control/control_api.h"

#include <utility>

#include "base/check.h"
#include "manager/control/access.h"
#include "manager/control/balancing.h"
#include "manager/control/calls.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/data_paths.h"
#include "manager/control/redact.h"
#include "manager/control/references.h"
#include "manager/control/service_changes.h"
#include "manager/control/standing.h"
#include "manager/control/validation.h"
#include "manager/store/ingress_network.h"
#include "manager/store/update_status.h"

namespace muster::manager::control {
namespace {

Status not_a_manager(const NodeControl& node) {
  if (const std::string error = node.role_error(); !error.empty()) {
    return Status(StatusCode::kFailedPrecondition, error, "not-a-manager");
  }
  return Status(StatusCode::kUnavailable,
                "This node is not a swarm manager. Use \"muster swarm init\" to create one and try "
                "again.",
                "not-a-manager");
}

}  // namespace

ControlApi::ControlApi(Executor& strand, Rng& rng, NodeControl& node, Log log)
    : strand_(strand), rng_(rng), node_(node), log_(std::move(log)), images_(strand) {}

void ControlApi::activate(store::Store& store, raft::Group* group) {
  applied_ = std::make_unique<AppliedWait>(strand_, store);
  blobs_ = std::make_shared<BlobKeeper>(strand_, store, log_);
  // Else when leadership begins.
  if (store.leading()) blobs_->look();
  std::lock_guard lock(mutex_);
  store_ = &store;
  group_ = group;
}

void ControlApi::deactivate() {
  blobs_.reset();
  {
    std::lock_guard lock(mutex_);
    store_ = nullptr;
    group_ = nullptr;
  }
  applied_.reset();
  images_.end_all(not_a_manager(node_));  // whose requests then find no store
}

void ControlApi::collect_blobs() {
  if (blobs_ != nullptr) blobs_->look();
}

Result<store::Snapshot> ControlApi::reading(std::string_view method,
                                            const Principal& principal) const {
  MUSTER_TRY(check_access(method, principal));
  std::lock_guard lock(mutex_);
  if (store_ == nullptr) return fail(not_a_manager(node_));
  store::Snapshot view = store_->snapshot();
  MUSTER_TRY(check_standing(view, principal));
  return view;
}

Result<store::Store*> ControlApi::writing(std::string_view method,
                                          const Principal& principal) const {
  MUSTER_CHECK(strand_.is_current(), "a write off the strand");
  MUSTER_TRY(check_access(method, principal));
  if (store_ == nullptr) return fail(not_a_manager(node_));
  MUSTER_TRY(check_standing(store_->snapshot(), principal));
  return store_;
}

std::optional<raft::GroupView> ControlApi::group_view() const {
  std::lock_guard lock(mutex_);
  if (group_ == nullptr) return std::nullopt;
  return group_->view();
}

uint64_t ControlApi::version() const {
  std::lock_guard lock(mutex_);
  return store_ == nullptr ? 0 : store_->snapshot().version();
}

Status ControlApi::check_caller(const Principal& principal) const {
  std::lock_guard lock(mutex_);
  return store_ == nullptr ? ok_status() : check_standing(store_->snapshot(), principal);
}

void ControlApi::read_barrier(UniqueFunction<void(Status)> done) {
  MUSTER_CHECK(strand_.is_current());
  if (group_ == nullptr) return done(ok_status());
  group_->read_barrier([done = std::move(done)](const Result<raft::Index>& index) mutable {
    done(index ? ok_status() : index.error());
  });
}

void ControlApi::when_applied(uint64_t version, UniqueFunction<void()> done) {
  MUSTER_CHECK(strand_.is_current());
  if (applied_ == nullptr) return done();
  applied_->wait(version, std::move(done));
}

// ---------------------------------------------------------------- the node's own

void ControlApi::init_swarm(const Principal& principal, const v1::InitSwarmRequest& request,
                            Callback<v1::InitSwarmResponse> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.InitSwarm", principal));
  MUSTER_OR_DONE(validate_cluster_spec(request.spec()));
  node_.init_swarm(request, std::move(done));
}

void ControlApi::leave_swarm(const Principal& principal, const v1::LeaveSwarmRequest& request,
                             Callback<v1::LeaveSwarmResponse> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.LeaveSwarm", principal));
  node_.leave_swarm(request, std::move(done));
}

void ControlApi::get_info(const Principal& principal, const v1::GetInfoRequest&,
                          Callback<v1::GetInfoResponse> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.GetInfo", principal));
  node_.get_info(std::move(done));
}

// ---------------------------------------------------------------- services

void ControlApi::create_service(const Principal& principal, const v1::CreateServiceRequest& request,
                                Callback<v1::CreateServiceResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.CreateService");
  v1::ServiceSpec spec = request.spec();
  normalise(spec);
  MUSTER_OR_DONE(validate_service_spec(spec));
  const std::string image = spec.task().container().image();
  // What fails anyway, or was done already under this request id, asks no registry.
  if (!request.resolve_image() || has_digest(image) ||
      !check_new_service(store.snapshot(), spec).ok()) {
    write_new_service(principal, request, std::move(spec), {}, std::move(done));
    return;
  }
  const std::string auth = spec.task().registry_auth();
  images_.ask(image, auth,
              [this, principal, request, spec = std::move(spec), image,
               done = std::move(done)](ImageAnswer answer) mutable {
                pin_image(answer, nullptr, *spec.mutable_task());
                std::vector<std::string> warnings;
                if (!answer) warnings.push_back(unpinned_warning(image, image, answer.error()));
                write_new_service(principal, request, std::move(spec), std::move(warnings),
                                  std::move(done));
              });
}

void ControlApi::write_new_service(const Principal& principal,
                                   const v1::CreateServiceRequest& request, v1::ServiceSpec spec,
                                   std::vector<std::string> warnings,
                                   Callback<v1::CreateServiceResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.CreateService");
  commit<v1::CreateServiceResponse>(
      store, "service.create", request.request_id(),
      [id = rng_.id(), spec = std::move(spec)](store::Transaction& tx) -> Result<std::string> {
        MUSTER_TRY(create_service_in(tx, id, spec));
        return id;
      },
      [warnings = std::move(warnings)](const store::Snapshot& state, const std::string& id) {
        auto response =
            respond(state.get<v1::Service>(id), &v1::CreateServiceResponse::mutable_service);
        if (!response) return response;
        redact(*response->mutable_service());
        for (const std::string& warning : warnings) response->add_warnings(warning);
        if (const auto warning = balancing_warning(state, response->service())) {
          response->add_warnings(*warning);
        }
        return response;
      },
      std::move(done));
}

void ControlApi::update_service(const Principal& principal, const v1::UpdateServiceRequest& request,
                                Callback<v1::UpdateServiceResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateService");
  const std::string& image = request.spec().task().container().image();
  const auto known = store.snapshot().get<v1::Service>(request.service_id());
  const bool resolve = request.resolve_image() && !request.rollback() && !has_digest(image);
  // What fails anyway, or was done already under this request id, asks no registry.
  if (!resolve || known == nullptr || known->meta().version() != request.version() ||
      !validate_image_reference(image).ok()) {
    write_service(principal, request, std::nullopt, std::move(done));
    return;
  }
  const auto auth = credentials_for(request, *known);
  MUSTER_OR_DONE(auth ? ok_status() : auth.error());
  images_.ask(image, *auth,
              [this, principal, request, done = std::move(done)](ImageAnswer answer) mutable {
                write_service(principal, request, std::move(answer), std::move(done));
              });
}

void ControlApi::write_service(const Principal& principal, const v1::UpdateServiceRequest& request,
                               std::optional<ImageAnswer> image,
                               Callback<v1::UpdateServiceResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateService");
  const Status unresolved = !image || *image ? ok_status() : image->error();
  commit<v1::UpdateServiceResponse>(
      store, "service.update", request.request_id(),
      [request, image = std::move(image)](store::Transaction& tx) -> Result<std::string> {
        MUSTER_TRY(update_service_in(tx, request, image));
        return request.service_id();
      },
      [asked = request.spec().task().container().image(), unresolved](const store::Snapshot& state,
                                                                      const std::string& id) {
        auto response =
            respond(state.get<v1::Service>(id), &v1::UpdateServiceResponse::mutable_service);
        if (!response) return response;
        redact(*response->mutable_service());
        const v1::Service& service = response->service();
        if (const auto warning = balancing_warning(state, service)) {
          response->add_warnings(*warning);
        }
        if (!unresolved.ok()) {
          response->add_warnings(
              unpinned_warning(asked, service.spec().task().container().image(), unresolved));
        }
        if (store::is_paused(service.update_status())) {
          response->add_warnings(fmt::format(
              "service {} stays paused in the middle of an update, which this change does not "
              "resume: change what its tasks are made of (--force does), the update's "
              "configuration, or roll back ({})",
              service.spec().annotations().name(), service.update_status().message()));
        }
        return response;
      },
      std::move(done));
}

void ControlApi::remove_service(const Principal& principal, const v1::RemoveServiceRequest& request,
                                Callback<v1::RemoveServiceResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.RemoveService");
  // The service goes at once; the orchestrator sees to its tasks.
  commit<v1::RemoveServiceResponse>(
      store, "service.remove", request.request_id(),
      [request](store::Transaction& tx) -> Result<std::string> {
        MUSTER_ASSIGN(const auto service, tx.view().resolve<v1::Service>(request.service()));
        MUSTER_TRY(tx.remove<v1::Service>(service->id()));
        return service->id();
      },
      [](const store::Snapshot&, const std::string& id) -> Result<v1::RemoveServiceResponse> {
        v1::RemoveServiceResponse response;
        response.set_service_id(id);
        return response;
      },
      std::move(done));
}

}  // namespace muster::manager::control
