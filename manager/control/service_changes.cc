#include "manager/control/service_changes.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "manager/control/references.h"
#include "manager/control/validation.h"

namespace muster::manager::control {
namespace {

bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
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

bool outdates_tasks(const v1::ServiceSpec& was, const v1::ServiceSpec& is) {
  return !equal(was.task(), is.task()) || !equal(was.endpoint(), is.endpoint());
}

}  // namespace

Status create_service_in(store::Transaction& tx, const std::string& id, v1::ServiceSpec spec) {
  const store::Snapshot state = tx.view();
  if (state.find<v1::Service>(spec.annotations().name()) != nullptr) {
    return already_exists("service {} already exists: name conflicts with an existing object",
                          spec.annotations().name());
  }
  MUSTER_TRY(resolve_references(state, spec));
  MUSTER_TRY(check_port_conflicts(state, {}, spec));
  v1::Service service;
  service.set_id(id);
  *service.mutable_spec() = std::move(spec);
  service.set_revision(1);
  MUSTER_TRY(tx.create(revision_of(service)));
  return tx.create(std::move(service));
}

Status update_service_in(store::Transaction& tx, const v1::UpdateServiceRequest& request) {
  const store::Snapshot state = tx.view();
  const auto known = state.get<v1::Service>(request.service_id());
  if (known == nullptr) return not_found("service {} not found", request.service_id());
  if (known->meta().version() != request.version()) {
    return Status(StatusCode::kAborted, "update out of sequence", "out-of-sequence");
  }
  v1::ServiceSpec spec = request.spec();
  if (request.rollback()) {
    if (!known->has_previous_spec()) {
      return failed_precondition("service {} does not have a previous spec",
                                 known->spec().annotations().name());
    }
    spec = known->previous_spec();
  }
  // Readers never see the credentials, so a spec that comes back without them means "the same".
  if (spec.task().registry_auth().empty()) {
    spec.mutable_task()->set_registry_auth(known->spec().task().registry_auth());
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
  v1::Service service = *known;
  *service.mutable_previous_spec() = known->spec();
  *service.mutable_spec() = std::move(spec);
  if (outdates_tasks(known->spec(), service.spec())) {
    service.set_previous_revision(known->revision());
    service.set_revision(std::max(known->revision(), known->previous_revision()) + 1);
    // What was said of the update before does not hold for this one.
    service.clear_update_status();
    MUSTER_TRY(tx.create(revision_of(service)));
  }
  return tx.update(std::move(service));
}

}  // namespace muster::manager::control
