#include "tests/bench/samples.h"

#include <fmt/format.h>

namespace muster::bench {
namespace {

constexpr uint64_t kTasksOfService = 200;
constexpr uint64_t kServicesOfNetwork = 10;

}  // namespace

v1::Service sample_service(uint64_t number) {
  v1::Service s;
  s.set_id(fmt::format("service{:018}", number));
  s.mutable_spec()->mutable_annotations()->set_name(fmt::format("name-{}", number));
  s.mutable_spec()->mutable_task()->mutable_container()->set_image("registry.example/web:1.2");
  return s;
}

v1::Task sample_task(Rng& rng, uint64_t number, uint64_t nodes) {
  const uint64_t service = number / kTasksOfService;
  const uint64_t slot = number % kTasksOfService + 1;
  v1::Task t;
  t.set_id(rng.id());
  t.set_service_id(fmt::format("service{:018}", service));
  t.set_name(fmt::format("name-{}.{}", service, slot));
  t.set_slot(slot);
  t.set_node_id(fmt::format("node{:021}", rng.below(nodes)));
  t.set_revision(1);
  t.set_desired_state(v1::TASK_RUNNING);
  t.mutable_status()->set_state(v1::TASK_RUNNING);
  t.mutable_status()->set_timestamp_ns(1'700'000'000'000'000'000);
  t.mutable_status()->set_message("started");
  t.mutable_status()->mutable_container()->set_container_id(t.id());
  auto& network = *t.add_networks();
  network.set_network_id(fmt::format("network{:018}", service / kServicesOfNetwork));
  network.add_addresses("10.0.12.34/24");
  return t;
}

}  // namespace muster::bench
