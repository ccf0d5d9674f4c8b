#include "manager/control/service_changes.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "manager/control/references.h"
#include "manager/control/validation.h"
#include "manager/store/job_status.h"
#include "manager/store/update_status.h"

namespace muster::manager::control {
namespace {

bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

Status no_previous_spec(const v1::Service& service) {
  return failed_precondition("service {} does not have a previous spec",
                             service.spec().annotations().name());
}

v1::Revision revision_of(const v1::Service& service) {
  v1::Revision revision;
  revision.set_id(store::revision_id(service.id(), service.revision()));
  revision.set_service_id(service.id());
  revision.set_number(service.revision());
  revision.set_service_name(service.spec().annotations().name());
  *revision.mutable_service_labels() = service.spec().annotations().labels();
  *revision.mutable_spec() = service.spec().task();
  *revision.mutable_ports() = service.spec().endpoint().ports();
  return revision;
}

// The revision of the previous spec, if the service still has it: a rollback goes back to it, and
// tasks of it that the update did not reach are not touched.
uint64_t previous_revision(const store::Snapshot& state, const v1::Service& service,
                           const v1::ServiceSpec& spec) {
  const auto revision =
      state.get<v1::Revision>(store::revision_id(service.id(), service.previous_revision()));
  if (revision == nullptr || !equal(revision->spec(), spec.task())) return 0;
  const auto& ports = spec.endpoint().ports();
  const bool same =
      std::equal(ports.begin(), ports.end(), revision->ports().begin(), revision->ports().end(),
                 [](const auto& a, const auto& b) { return equal(a, b); });
  return same ? revision->number() : 0;
}

// The job runs, or runs again: the orchestrator ends what is left of the iteration before.
void begin_iteration(v1::Service& service, WallTime now) {
  const uint64_t last = service.job_status().iteration();
  v1::JobStatus& status = *service.mutable_job_status();
  status.Clear();
  status.set_iteration(last + 1);
  status.set_last_execution_ns(now.unix_ns);
}

// The orchestrator takes it from here.
void begin_update(v1::Service& service, bool rollback, WallTime now) {
  service.clear_update_status();
  if (store::is_job(service.spec())) return;
  v1::UpdateStatus& status = *service.mutable_update_status();
  status.set_state(rollback ? v1::UpdateStatus::ROLLBACK_STARTED : v1::UpdateStatus::UPDATING);
  status.set_started_at_ns(now.unix_ns);
  status.set_message(rollback ? "manually requested rollback" : "update in progress");
}

// A change that outdates no task leaves the update under way as it is, but that a paused one goes
// on when how it is to go on has changed.
void resume_update(const v1::ServiceSpec& was, v1::Service& service, WallTime now) {
  const v1::ServiceSpec& is = service.spec();
  const v1::UpdateStatus status = service.update_status();
  if (status.state() == v1::UpdateStatus::PAUSED && !equal(was.update(), is.update())) {
    begin_update(service, false, now);
  } else if (status.state() == v1::UpdateStatus::ROLLBACK_PAUSED &&
             !equal(was.rollback(), is.rollback())) {
    begin_update(service, true, now);
    service.mutable_update_status()->set_reason(status.reason());
  }
}

// Names become ids.
Status fit_new_service(const store::Snapshot& state, v1::ServiceSpec& spec) {
  if (state.find<v1::Service>(spec.annotations().name()) != nullptr) {
    return already_exists("service {} already exists: name conflicts with an existing object",
                          spec.annotations().name());
  }
  MUSTER_TRY(resolve_references(state, spec));
  return check_port_conflicts(state, {}, spec);
}

bool outdates_tasks(const v1::ServiceSpec& was, const v1::ServiceSpec& is) {
  return !equal(was.task(), is.task()) || !equal(was.endpoint(), is.endpoint());
}

}  // namespace

Status check_new_service(const store::Snapshot& state, v1::ServiceSpec spec) {
  return fit_new_service(state, spec);
}

Status create_service_in(store::Transaction& tx, const std::string& id, v1::ServiceSpec spec) {
  MUSTER_TRY(fit_new_service(tx.view(), spec));
  v1::Service service;
  service.set_id(id);
  *service.mutable_spec() = std::move(spec);
  service.set_revision(1);
  if (store::is_job(service.spec())) begin_iteration(service, tx.now());
  MUSTER_TRY(tx.create(revision_of(service)));
  return tx.create(std::move(service));
}

// Readers never see the credentials, so a spec that comes back without them means "the same".
Result<std::string> credentials_for(const v1::UpdateServiceRequest& request,
                                    const v1::Service& known) {
  if (!request.spec().task().registry_auth().empty()) return request.spec().task().registry_auth();
  if (request.registry_auth_from() != v1::UpdateServiceRequest::PREVIOUS_SPEC) {
    return known.spec().task().registry_auth();
  }
  if (!known.has_previous_spec()) return fail(no_previous_spec(known));
  return known.previous_spec().task().registry_auth();
}

Status update_service_in(store::Transaction& tx, const v1::UpdateServiceRequest& request,
                         const std::optional<ImageAnswer>& image) {
  const store::Snapshot state = tx.view();
  const auto known = state.get<v1::Service>(request.service_id());
  if (known == nullptr) return not_found("service {} not found", request.service_id());
  if (known->meta().version() != request.version()) {
    return Status(StatusCode::kAborted, "update out of sequence", "out-of-sequence");
  }
  v1::ServiceSpec spec = request.spec();
  if (request.rollback() && store::is_job(known->spec())) {
    return failed_precondition(
        "service {} is a job, and jobs are not rolled back: a run that has begun cannot be undone; "
        "update the service to run it with another spec",
        known->spec().annotations().name());
  }
  if (request.rollback()) {
    if (!known->has_previous_spec()) return no_previous_spec(*known);
    spec = known->previous_spec();
  } else {
    MUSTER_ASSIGN(*spec.mutable_task()->mutable_registry_auth(), credentials_for(request, *known));
    if (image) pin_image(*image, &known->spec().task(), *spec.mutable_task());
  }
  normalise(spec);
  MUSTER_TRY(validate_service_spec(spec));
  if (spec.annotations().name() != known->spec().annotations().name()) {
    return Status(StatusCode::kUnimplemented, "renaming services is not supported");
  }
  if (spec.mode_case() != known->spec().mode_case()) {
    return Status(StatusCode::kUnimplemented, "service mode change is not allowed");
  }
  MUSTER_TRY(resolve_references(state, spec));
  MUSTER_TRY(check_port_conflicts(state, known->id(), spec));
  // Deploying an unchanged file is no change, and leaves what a rollback would go back to. A job
  // runs again with every update, as in Swarm.
  if (!request.rollback() && !store::is_job(spec) && equal(spec, known->spec())) {
    return ok_status();
  }
  v1::Service service = *known;
  *service.mutable_spec() = std::move(spec);
  const bool outdates = outdates_tasks(known->spec(), service.spec());
  // Scaling or labelling in the middle of an update does not change what that is taken back to.
  if (outdates || request.rollback() || !store::is_unfinished(known->update_status())) {
    *service.mutable_previous_spec() = known->spec();
    service.set_previous_revision(known->revision());
  }
  if (outdates) {
    const uint64_t last =
        std::max({known->last_revision(), known->revision(), known->previous_revision()});
    const uint64_t back = request.rollback() ? previous_revision(state, *known, service.spec()) : 0;
    service.set_revision(back != 0 ? back : last + 1);
    service.set_last_revision(std::max(last, service.revision()));
    if (back == 0) MUSTER_TRY(tx.create(revision_of(service)));
  }
  if (outdates || request.rollback()) {
    begin_update(service, request.rollback(), tx.now());
  } else {
    resume_update(known->spec(), service, tx.now());
  }
  if (store::is_job(service.spec())) begin_iteration(service, tx.now());
  return tx.update(std::move(service));
}

}  // namespace muster::manager::control
