// ControlApi: networks.
#include <utility>

#include "manager/control/calls.h"
#include "manager/control/connections.h"
#include "manager/control/data_paths.h"
#include "manager/control/references.h"
#include "manager/control/validation.h"
#include "manager/store/ingress_network.h"

namespace muster::manager::control {
namespace {

template <class Response>
Result<Response> told(const store::Snapshot& state, const std::string& id) {
  auto response = respond(state.get<v1::Network>(id), &Response::mutable_network);
  if (response) Warnings(state).add_to(*response->mutable_network());
  return response;
}

}  // namespace

void ControlApi::create_network(const Principal& principal, const v1::CreateNetworkRequest& request,
                                Callback<v1::CreateNetworkResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.CreateNetwork");
  v1::NetworkSpec spec = request.spec();
  if (spec.driver().empty()) spec.set_driver("overlay");
  MUSTER_OR_DONE(validate_network_spec(spec));
  commit<v1::CreateNetworkResponse>(
      store, "network.create", request.request_id(),
      [id = rng_.id(), spec = std::move(spec)](store::Transaction& tx) -> Result<std::string> {
        const std::string& name = spec.annotations().name();
        if (tx.view().find<v1::Network>(name) != nullptr) {
          return fail(
              already_exists("network with name {} already exists: name conflicts with an "
                             "existing object",
                             name));
        }
        if (spec.ingress() && store::ingress_network(tx.view()) != nullptr) {
          return fail(already_exists("ingress network is already present"));
        }
        MUSTER_TRY(check_network_fits(tx.view(), spec));
        v1::Network network;
        network.set_id(id);
        *network.mutable_spec() = spec;
        MUSTER_TRY(tx.create(std::move(network)));
        return id;
      },
      told<v1::CreateNetworkResponse>, std::move(done));
}

void ControlApi::remove_network(const Principal& principal, const v1::RemoveNetworkRequest& request,
                                Callback<v1::RemoveNetworkResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.RemoveNetwork");
  commit<v1::RemoveNetworkResponse>(
      store, "network.remove", request.request_id(),
      [request](store::Transaction& tx) -> Result<std::string> {
        MUSTER_ASSIGN(const auto network, tx.view().resolve<v1::Network>(request.network()));
        // The ingress network is made by itself, but may be made anew by hand.
        if (network->predefined() && !network->spec().ingress()) {
          return fail(failed_precondition("{} is a pre-defined network and cannot be removed",
                                          network->spec().annotations().name()));
        }
        MUSTER_TRY(check_network_unused(tx.view(), *network));
        MUSTER_TRY(tx.remove<v1::Network>(network->id()));
        return network->id();
      },
      [](const store::Snapshot&, const std::string& id) -> Result<v1::RemoveNetworkResponse> {
        v1::RemoveNetworkResponse response;
        response.set_network_id(id);
        return response;
      },
      std::move(done));
}

void ControlApi::update_network(const Principal& principal, const v1::UpdateNetworkRequest& request,
                                Callback<v1::UpdateNetworkResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateNetwork");
  commit<v1::UpdateNetworkResponse>(
      store, "network.update", request.request_id(),
      [request](store::Transaction& tx) -> Result<std::string> {
        MUSTER_ASSIGN(const auto network, tx.view().resolve<v1::Network>(request.network()));
        MUSTER_ASSIGN(v1::Network changed, grown(tx.view(), *network, request.add_pools()));
        if (!request.labels().empty() || !request.remove_labels().empty()) {
          if (network->predefined()) {
            return fail(failed_precondition("{} is a pre-defined network and cannot be changed",
                                            network->spec().annotations().name()));
          }
          change_labels(*changed.mutable_spec()->mutable_annotations(), request.labels(),
                        request.remove_labels());
          MUSTER_TRY(validate_labels(changed.spec().annotations().labels()));
        }
        if (request.version() != 0) changed.mutable_meta()->set_version(request.version());
        MUSTER_TRY(tx.update(std::move(changed)));
        return network->id();
      },
      told<v1::UpdateNetworkResponse>, std::move(done));
}

void ControlApi::connect_network(const Principal& principal,
                                 const v1::ConnectNetworkRequest& request,
                                 Callback<v1::ConnectNetworkResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.ConnectNetwork");
  commit<v1::ConnectNetworkResponse>(
      store, "network.connect", request.request_id(),
      [request](store::Transaction& tx) -> Result<std::string> {
        MUSTER_ASSIGN(const auto network, tx.view().resolve<v1::Network>(request.network()));
        MUSTER_ASSIGN(const auto task, resolve_task(tx.view(), request.task()));
        MUSTER_ASSIGN(v1::Task changed, connected(tx.view(), *network, *task, request));
        MUSTER_TRY(tx.update(std::move(changed)));
        return task->id();
      },
      [](const store::Snapshot& state, const std::string& id) {
        return respond(state.get<v1::Task>(id), &v1::ConnectNetworkResponse::mutable_task);
      },
      std::move(done));
}

void ControlApi::disconnect_network(const Principal& principal,
                                    const v1::DisconnectNetworkRequest& request,
                                    Callback<v1::DisconnectNetworkResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.DisconnectNetwork");
  commit<v1::DisconnectNetworkResponse>(
      store, "network.disconnect", request.request_id(),
      [request](store::Transaction& tx) -> Result<std::string> {
        MUSTER_ASSIGN(const auto network, tx.view().resolve<v1::Network>(request.network()));
        MUSTER_ASSIGN(const auto task, resolve_task(tx.view(), request.task()));
        MUSTER_ASSIGN(v1::Task changed, disconnected(tx.view(), *network, *task));
        MUSTER_TRY(tx.update(std::move(changed)));
        return task->id();
      },
      [](const store::Snapshot& state, const std::string& id) {
        return respond(state.get<v1::Task>(id), &v1::DisconnectNetworkResponse::mutable_task);
      },
      std::move(done));
}

}  // namespace muster::manager::control
