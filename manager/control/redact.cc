#include "manager/control/redact.h"

namespace muster::manager::control {

void redact(v1::Service& service) {
  service.mutable_spec()->mutable_task()->clear_registry_auth();
  if (service.has_previous_spec()) {
    service.mutable_previous_spec()->mutable_task()->clear_registry_auth();
  }
}

void redact(v1::Revision& revision) {
  revision.mutable_spec()->clear_registry_auth();
}

void redact(v1::Cluster& cluster) {
  cluster.mutable_root_ca()->clear_key_pem();
  if (cluster.root_ca().has_rotation()) {
    cluster.mutable_root_ca()->mutable_rotation()->clear_key_pem();
  }
  cluster.clear_unlock_key();
  for (v1::NetworkKey& key : *cluster.mutable_network_keys()) key.clear_secret();
}

void redact(v1::Secret& secret) {
  secret.mutable_spec()->clear_data();
  secret.clear_blob_id();
}

void redact(v1::Config& config) {
  config.mutable_spec()->clear_data();
  config.clear_blob_id();
}

void drop_probes(v1::Task& task) {
  if (!task.status().health().probes().empty()) {
    task.mutable_status()->mutable_health()->clear_probes();
  }
}

}  // namespace muster::manager::control
