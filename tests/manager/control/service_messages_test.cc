// What the manager says of specs that contradict themselves or cannot be: it is the last to look,
// whatever client they come from.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "manager/control/validation.h"

namespace muster::manager::control {
namespace {

std::string message_of(const std::string& text) {
  v1::ServiceSpec spec;
  spec.mutable_annotations()->set_name("web");
  spec.mutable_task()->mutable_container()->set_image("web:1");
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec)) << text;
  normalise(spec);
  return validate_service_spec(spec).message();
}

TEST(ServiceMessages, ContradictionsAreTold) {
  const struct {
    const char* spec;
    const char* message;
  } cases[] = {
      {"", ""},
      {"task { container { image: 'A B' } }",
       "ContainerSpec: \"A B\" is not a valid repository/tag"},
      {"annotations { name: 'a_' }", "name must be valid as a DNS name component"},
      {"global { } task { placement { max_replicas: 1 } }",
       "replicas-max-per-node can only be used with replicated or replicated-job mode"},
      {"replicated { replicas: 4294967295 }",
       "Number of replicas must be between 0 and 2147483647"},
      {"task { resources { limits { nano_cpus: 1 } } }",
       "invalid cpu value 1e-09: Must be at least 0.001"},
      {"task { resources { reservations { memory_bytes: 4194303 } } }",
       "invalid memory value 4194303: Must be at least 4MiB"},
      {"task { resources { memory_swap_bytes: 1 } }", "a memory swap limit needs a memory limit"},
      {"task { resources { memory_swappiness: 101 } }",
       "invalid memory swappiness 101: Must be -1, or from 0 to 100"},
      {"task { resources { limits { pids: -1 } } }", "invalid pids limit -1: Must not be negative"},
      {"task { restart { delay_ns: -1 } }", "TaskSpec: restart-delay cannot be negative"},
      {"task { restart { window_ns: -1 } }", "TaskSpec: restart-window cannot be negative"},
      {"update { delay_ns: -1 }", "TaskSpec: update-delay cannot be negative"},
      {"rollback { monitor_ns: -1 }", "TaskSpec: rollback-monitor cannot be negative"},
      {"update { max_failure_ratio_ppm: 1000001 }",
       "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"},
      {"rollback { failure_action: ROLLBACK }",
       "a rollback's failure action can only be pause or continue"},
      {"task { container { mounts { target: 'a' } } }",
       "invalid mount target 'a': mount path must be absolute"},
      {"task { container { mounts { target: '/a' } mounts { target: '/a' type: TMPFS } } }",
       "ContainerSpec: duplicate mount point: /a"},
      {"task { container { mounts { type: BIND target: '/a' source: 'a' } } }",
       "invalid bind mount source, must be an absolute path: a"},
      {"task { container { mounts { type: BIND target: '/a' } } }",
       "invalid bind mount: the source must not be empty"},
      {"task { container { mounts { type: TMPFS target: '/a' source: 'b' } } }",
       "invalid tmpfs mount: the source must be empty"},
      {"task { container { mounts { type: VOLUME target: '/a' source: '/b' } } }",
       "invalid volume mount source: \"/b\""},
      {"task { container { mounts { type: IMAGE target: '/a' source: 'B' } } }",
       "ContainerSpec: \"B\" is not a valid repository/tag"},
      {"task { container { mounts { target: '/a' source: '{{.Service.Name}}-{{.Task.Slot}}' } } }",
       ""},
      {"task { container { healthcheck { interval_ns: 999999 } } }",
       "ContainerSpec: Interval in HealthConfig cannot be less than 1ms"},
      {"task { container { healthcheck { start_interval_ns: 1 } } }",
       "ContainerSpec: StartInterval in HealthConfig cannot be less than 1ms"},
      {"task { container { healthcheck { retries: -1 } } }",
       "ContainerSpec: Retries in HealthConfig cannot be negative"},
      {"task { container { stop_grace_period_ns: -1 } }",
       "ContainerSpec: stop grace period cannot be negative"},
      {"endpoint { drain_timeout_ns: -1 }", "EndpointSpec: the drain timeout cannot be negative"},
      {"endpoint { drain_timeout_ns: 86400000000001 }",
       "EndpointSpec: the drain timeout is 24h at most"},
      {"endpoint { drain_timeout_ns: 0 }", ""},
      {"endpoint { mode: DNSRR balancing: SOURCE_HASH }",
       "EndpointSpec: balancing, affinity and weights can't be used with dnsrr mode, which has no "
       "virtual address"},
      {"endpoint { mode: DNSRR weight_label: 'size' }",
       "EndpointSpec: balancing, affinity and weights can't be used with dnsrr mode, which has no "
       "virtual address"},
      {"endpoint { affinity_ns: -1 }", "EndpointSpec: the affinity cannot be negative"},
      {"endpoint { affinity_ns: 999999999 }",
       "EndpointSpec: the affinity is 1s at least, or 0 for none"},
      {"endpoint { affinity_ns: 86400000000001 }", "EndpointSpec: the affinity is 24h at most"},
      {"endpoint { weight_label: 'node.labels.size' }",
       "EndpointSpec: the weight label is a node label's key alone: size"},
      {"endpoint { weight_label: 'a b' }", "EndpointSpec: \"a b\" cannot be a node label's key"},
      {"endpoint { balancing: LEAST_CONNECTION affinity_ns: 1000000000 weight_label: 'size' }", ""},
      {"task { container { env: '=a' } }", "invalid environment variable: \"=a\""},
      {"task { container { ulimits { name: 'nofiles' } } }", "invalid ulimit type: nofiles"},
      {"task { container { ulimits { name: 'nofile' soft: 2 hard: 1 } } }",
       "ulimit soft limit must be less than or equal to hard limit: nofile"},
      {"task { container { sysctls { key: 'kernel.panic' value: '1' } } }",
       "sysctl 'kernel.panic' is not allowed"},
      {"task { container { sysctls { key: 'net.core.somaxconn' value: '1' } sysctls { key: "
       "'kernel.msgmax' value: '1' } } }",
       ""},
      {"task { container { oom_score_adj: -1001 } }",
       "Invalid value -1001, range for oom score adj is [-1000, 1000]"},
      {"endpoint { mode: DNSRR ports { target_port: 80 } }",
       "EndpointSpec: port published with ingress mode can't be used with dnsrr mode"},
      {"endpoint { ports { target_port: 80 published_port: 1 } ports { target_port: 81 "
       "published_port: 1 } }",
       "EndpointSpec: duplicate published ports provided"},
      {"endpoint { ports { published_port: 80 } }",
       "EndpointSpec: target port 0 is not from 1 to 65535"},
      {"task { container { secrets { secret_name: 'a' file { name: 't' } } secrets { secret_name: "
       "'b' file { name: 't' } } } }",
       "secret references have a conflicting target: 't'"},
      {"task { container { configs { config_name: 'a' } } }",
       "malformed config reference, no target given"},
  };
  for (const auto& c : cases) EXPECT_EQ(message_of(c.spec), c.message) << c.spec;
}

// Templates are tried with stand-ins for a task's values; what no task could have is told at once.
TEST(ServiceMessages, TemplatesAreTried) {
  const struct {
    const char* field;
    const char* what;
  } cases[] = {
      {"container { hostname: '%' }", "expanding hostname failed"},
      {"container { env: 'A=%' }", "expanding env failed"},
      {"container { mounts { target: '/a' source: '%' } }", "expanding mount source failed"},
      {"container { mounts { target: '/%' } }", "expanding mount target failed"},
      {"container { mounts { target: '/a' volume { labels { key: 'l' value: '%' } } } }",
       "expanding volume label failed"},
      {"container { mounts { target: '/a' volume { driver_options { key: 'o' value: '%' } } } }",
       "expanding volume option failed"},
  };
  for (const auto& c : cases) {
    const auto with = [&](const std::string& text) {
      std::string field = c.field;
      field.replace(field.find('%'), 1, text);
      return message_of("task { " + field + " }");
    };
    for (const char* good :
         {"{{.Service.ID}}", "{{.Service.Name}}", "{{index .Service.Labels \"a\"}}", "{{.Node.ID}}",
          "{{.Node.Hostname}}", "{{.Node.Platform.OS}}", "{{.Node.Platform.Architecture}}",
          "{{.Task.ID}}", "{{.Task.Name}}", "{{.Task.Slot}}"}) {
      EXPECT_EQ(with(good), "") << c.field << good;
    }
    for (const char* bad : {"{{.Service.Nme}}", "{{.Task.Slot", "{{secret \"a\"}}"}) {
      EXPECT_EQ(with(bad).rfind(c.what, 0), 0U) << c.field << bad << with(bad);
    }
  }
}

}  // namespace
}  // namespace muster::manager::control
