// Every option of `service create` and `service update`: what it makes of the spec, and what is
// said of wrong ones.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "deploy/cli/spec_flags.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using google::protobuf::TextFormat;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

class ServiceFlags : public testing::Test {
 protected:
  Outcome run(const char* verb, std::vector<std::string> options,
              const std::vector<std::string>& rest) {
    std::vector<std::string> words = {"service", verb, "--detach"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), rest.begin(), rest.end());
    return run_muster(daemon_, words);
  }
  FakeDaemon daemon_;
};

// As reference lists of Docker's have them; letters aside.
constexpr const char* kBoth =
    "cap-add cap-drop credential-spec detach endpoint-mode entrypoint health-cmd health-interval "
    "health-retries health-start-interval health-start-period health-timeout hostname init "
    "isolation limit-cpu limit-memory limit-pids log-driver log-opt max-concurrent memory-swap "
    "memory-swappiness no-healthcheck no-resolve-image oom-score-adj quiet read-only replicas "
    "replicas-max-per-node reserve-cpu reserve-memory restart-condition restart-delay "
    "restart-max-attempts restart-window rollback-delay rollback-failure-action "
    "rollback-max-failure-ratio rollback-monitor rollback-order rollback-parallelism "
    "stop-grace-period stop-signal tty update-delay update-failure-action "
    "update-max-failure-ratio update-monitor update-order update-parallelism user "
    "with-registry-auth workdir";
constexpr const char* kCreateOnly =
    "config constraint container-label dns dns-option dns-search env env-file generic-resource "
    "group host label mode mount name network placement-pref publish secret sysctl ulimit";
constexpr const char* kLists =
    "config constraint container-label dns dns-option dns-search env generic-resource group host "
    "label mount network placement-pref publish secret sysctl ulimit";
constexpr const char* kUpdateOnly = "args force image rollback";

TEST_F(ServiceFlags, EveryOneOfDockersIsThere) {
  const std::string create = run("create", {"--help"}, {}).out;
  const std::string update = run("update", {"--help"}, {}).out;
  const auto has = [](const std::string& help, const std::string& flag) {
    return help.find("--" + flag + " ") != std::string::npos;
  };
  for (const std::string& flag : words_of(kBoth)) {
    EXPECT_TRUE(has(create, flag)) << flag;
    EXPECT_TRUE(has(update, flag)) << flag;
  }
  for (const std::string& flag : words_of(kCreateOnly)) {
    EXPECT_TRUE(has(create, flag)) << flag;
    EXPECT_FALSE(has(update, flag)) << flag;
  }
  for (const std::string& flag : words_of(kLists)) {
    EXPECT_TRUE(has(update, flag + "-add")) << flag;
    EXPECT_TRUE(has(update, flag + "-rm")) << flag;
  }
  for (const std::string& flag : words_of(kUpdateOnly)) {
    EXPECT_TRUE(has(update, flag)) << flag;
    EXPECT_FALSE(has(create, flag)) << flag;
  }
}

struct Case {
  std::vector<std::string> options;
  std::string expected;  // what the spec has beside the image, as text
  std::string before;    // update: what it had; empty for nothing
};

const std::vector<Case>& create_cases() {
  static const std::vector<Case> kCases = {
      // Who and how many.
      {{"--name", "api"}, "annotations { name: 'api' }"},
      {{"-l", "b=2", "--label", "a=1", "--label", "c"},
       "annotations { labels { key: 'a' value: '1' } labels { key: 'b' value: '2' } labels { key: "
       "'c' } }"},
      {{"--replicas", "0"}, "replicated { replicas: 0 }"},
      {{"--replicas", "3", "--replicas-max-per-node", "2"},
       "replicated { replicas: 3 } task { placement { max_replicas: 2 } }"},
      {{"--mode", "global"}, "global {}"},
      // The process.
      {{"--container-label", "a=1"}, "task { container { labels { key: 'a' value: '1' } } }"},
      {{"--entrypoint", "sh -c 'echo \"a b\"'"},
       "task { container { command: ['sh', '-c', 'echo \"a b\"'] } }"},
      {{"-w", "/srv"}, "task { container { dir: '/srv' } }"},
      {{"-u", "1:2"}, "task { container { user: '1:2' } }"},
      {{"--group", "audio", "--group", "video"},
       "task { container { groups: ['audio', 'video'] } }"},
      {{"-e", "A=1", "-e", "A=2", "-e", "FROM_SHELL", "-e", "UNSET", "-e", "B="},
       "task { container { env: ['A=2', 'FROM_SHELL=yes', 'UNSET', 'B='] } }"},
      {{"--hostname", "h-{{.Task.Slot}}"}, "task { container { hostname: 'h-{{.Task.Slot}}' } }"},
      {{"-t"}, "task { container { tty: true } }"},
      {{"--read-only"}, "task { container { read_only: true } }"},
      {{"--init"}, "task { container { init: true } }"},
      {{"--init=false"}, "task { container { init: false } }"},
      {{"--stop-signal", "SIGUSR1"}, "task { container { stop_signal: 'SIGUSR1' } }"},
      {{"--stop-grace-period", "1m"}, "task { container { stop_grace_period_ns: 60000000000 } }"},
      {{"--drain-timeout", "30s"}, "endpoint { drain_timeout_ns: 30000000000 }"},
      {{"--drain-timeout", "0"}, "endpoint { drain_timeout_ns: 0 }"},
      {{"--endpoint-balancing", "source-hash", "--endpoint-affinity", "10m",
        "--endpoint-weight-label", "size"},
       "endpoint { balancing: SOURCE_HASH affinity_ns: 600000000000 weight_label: 'size' }"},
      {{"--endpoint-balancing", "least-connection"}, "endpoint { balancing: LEAST_CONNECTION }"},
      {{"--isolation", "default", "--credential-spec", ""}, "task { container { } }"},
      // Limits.
      {{"--limit-cpu", ".5", "--limit-memory", "64m", "--limit-pids", "9"},
       "task { resources { limits { nano_cpus: 500000000 memory_bytes: 67108864 pids: 9 } } }"},
      {{"--reserve-cpu", "2", "--reserve-memory", "1g"},
       "task { resources { reservations { nano_cpus: 2000000000 memory_bytes: 1073741824 } } }"},
      {{"--limit-memory", "1g", "--memory-swap", "-1", "--memory-swappiness", "0"},
       "task { resources { limits { memory_bytes: 1073741824 } memory_swap_bytes: -1 "
       "memory_swappiness: 0 } }"},
      {{"--generic-resource", "gpu=2"},
       "task { resources { reservations { generic { kind: 'gpu' count: 2 } } } }"},
      {{"--oom-score-adj", "-5"}, "task { container { oom_score_adj: -5 } }"},
      {{"--ulimit", "nofile=10:20", "--ulimit", "core=-1"},
       "task { container { ulimits { name: 'nofile' soft: 10 hard: 20 } ulimits { name: 'core' "
       "soft: -1 hard: -1 } } }"},
      {{"--sysctl", "net.core.somaxconn=7"},
       "task { container { sysctls { key: 'net.core.somaxconn' value: '7' } } }"},
      {{"--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "all", "--cap-drop",
        "mknod"},
       "task { container { capability_add: ['CAP_NET_ADMIN', 'CAP_SYS_TIME'] capability_drop: "
       "'ALL' } }"},
      {{"--cap-add", "chown", "--cap-drop", "CHOWN"},
       "task { container { capability_add: 'CAP_CHOWN' } }"},
      // Health.
      {{"--health-cmd", "curl x", "--health-interval", "5s", "--health-timeout", "1s",
        "--health-retries", "2", "--health-start-period", "9s", "--health-start-interval", "3s"},
       "task { container { healthcheck { test: ['CMD-SHELL', 'curl x'] interval_ns: 5000000000 "
       "timeout_ns: 1000000000 start_period_ns: 9000000000 start_interval_ns: 3000000000 retries: "
       "2 } } }"},
      {{"--health-retries", "7"}, "task { container { healthcheck { retries: 7 } } }"},
      {{"--no-healthcheck"}, "task { container { healthcheck { test: 'NONE' } } }"},
      // Mounts.
      {{"--mount", "src=data,dst=/data"},
       "task { container { mounts { source: 'data' target: '/data' } } }"},
      {{"--mount",
        "type=volume,source=v,target=/v,ro,volume-nocopy,volume-subpath=a/b,volume-driver=local,"
        "\"volume-opt=o=addr=1.2.3.4,rw\",volume-opt=type=nfs,volume-label=x=1"},
       "task { container { mounts { source: 'v' target: '/v' read_only: true volume { no_copy: "
       "true labels { key: 'x' value: '1' } driver: 'local' driver_options { key: 'o' value: "
       "'addr=1.2.3.4,rw' } driver_options { key: 'type' value: 'nfs' } subpath: 'a/b' } } } }"},
      {{"--mount", "type=bind,source=./a,target=/a,bind-propagation=rslave,consistency=cached"},
       "task { container { mounts { type: BIND source: '/work-dir/a' target: '/a' bind { "
       "propagation: 'rslave' } } } }"},
      {{"--mount", "type=bind,source=.,target=/a,bind-recursive=disabled,bind-create-src"},
       "task { container { mounts { type: BIND source: '/work-dir' target: '/a' bind { "
       "non_recursive: true create_source: true } } } }"},
      {{"--mount",
        "type=bind,source=/a,target=/a,readonly,bind-recursive=readonly,bind-propagation=rprivate"},
       "task { container { mounts { type: BIND source: '/a' target: '/a' read_only: true bind { "
       "propagation: 'rprivate' read_only_force_recursive: true } } } }"},
      {{"--mount", "type=bind,source=/a,target=/a,readonly,bind-recursive=writable"},
       "task { container { mounts { type: BIND source: '/a' target: '/a' read_only: true bind { "
       "read_only_non_recursive: true } } } }"},
      {{"--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700"},
       "task { container { mounts { type: TMPFS target: '/t' tmpfs { size_bytes: 1048576 mode: 448 "
       "} } } }"},
      {{"--mount", "type=image,source=tools:1,target=/i,image-subpath=bin"},
       "task { container { mounts { type: IMAGE source: 'tools:1' target: '/i' image { subpath: "
       "'bin' } } } }"},
      // Networks and names.
      {{"--network", "back", "--network", "name=front,alias=a,alias=b,\"driver-opt=k=v,w\""},
       "task { networks { target: 'back' } networks { target: 'front' aliases: ['a', 'b'] "
       "driver_options { key: 'k' value: 'v,w' } } }"},
      {{"--dns", "10.0.0.1", "--dns", "fd00::1", "--dns-option", "ndots:2", "--dns-search", "x.y"},
       "task { container { dns { nameservers: ['10.0.0.1', 'fd00::1'] search: 'x.y' options: "
       "'ndots:2' } } }"},
      {{"--host", "a:10.0.0.1", "--host", "b=[fd00::1]"},
       "task { container { hosts: ['10.0.0.1 a', 'fd00::1 b'] } }"},
      // Ports.
      {{"-p", "8080:80", "-p", "53/udp", "-p", "9000-9001:90-91"},
       "endpoint { ports { target_port: 80 published_port: 8080 } ports { protocol: UDP "
       "target_port: 53 } ports { target_port: 90 published_port: 9000 } ports { target_port: 91 "
       "published_port: 9001 } }"},
      {{"--publish", "mode=host,target=80,published=8080,protocol=sctp"},
       "endpoint { ports { protocol: SCTP target_port: 80 published_port: 8080 mode: HOST } }"},
      {{"--endpoint-mode", "dnsrr", "-p", "mode=host,target=80"},
       "endpoint { mode: DNSRR ports { target_port: 80 mode: HOST } }"},
      // Policies.
      {{"--restart-condition", "on-failure", "--restart-delay", "1s", "--restart-max-attempts", "3",
        "--restart-window", "1m"},
       "task { restart { condition: ON_FAILURE delay_ns: 1000000000 max_attempts: 3 window_ns: "
       "60000000000 } }"},
      {{"--update-order", "start-first"},
       "update { parallelism: 1 monitor_ns: 5000000000 order: START_FIRST }"},
      {{"--update-parallelism", "0", "--update-delay", "1s", "--update-monitor", "2s",
        "--update-failure-action", "rollback", "--update-max-failure-ratio", "0.25"},
       "update { parallelism: 0 delay_ns: 1000000000 failure_action: ROLLBACK monitor_ns: "
       "2000000000 max_failure_ratio_ppm: 250000 }"},
      {{"--rollback-parallelism", "2", "--rollback-failure-action", "continue"},
       "rollback { parallelism: 2 failure_action: CONTINUE monitor_ns: 5000000000 }"},
      {{"--constraint", "node.role==worker", "--placement-pref", "spread=node.labels.dc",
        "--placement-pref", "spread=engine.labels.rack"},
       "task { placement { constraints: 'node.role==worker' preferences { spread_descriptor: "
       "'node.labels.dc' } preferences { spread_descriptor: 'engine.labels.rack' } } }"},
      // Logs, secrets, configs.
      {{"--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2"},
       "task { log_driver { name: 'json-file' options { key: 'max-file' value: '2' } options { "
       "key: 'max-size' value: '1m' } } }"},
      {{"--secret", "key", "--secret", "source=cert,target=tls.pem,uid=1,gid=2,mode=0400"},
       "task { container { secrets { secret_name: 'key' file { name: 'key' uid: '0' gid: '0' mode: "
       "292 } } secrets { secret_name: 'cert' file { name: 'tls.pem' uid: '1' gid: '2' mode: 256 } "
       "} } }"},
      {{"--config", "app.conf"},
       "task { container { configs { config_name: 'app.conf' file { name: '/app.conf' uid: '0' "
       "gid: '0' mode: 292 } } } }"},
  };
  return kCases;
}

TEST_F(ServiceFlags, CreatePutsEachIntoTheSpec) {
  for (const Case& c : create_cases()) {
    SCOPED_TRACE(testing::PrintToString(c.options));
    daemon_.created_services.clear();
    std::vector<std::string> options = c.options;
    if (options[0] != "--name") options.insert(options.begin(), {"--name", "web"});
    const Outcome outcome = run("create", options, {"nginx", "-g", "x"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    v1::ServiceSpec expected;
    ASSERT_TRUE(TextFormat::ParseFromString(c.expected, &expected));
    if (options[1] == "web") expected.mutable_annotations()->set_name("web");
    auto* container = expected.mutable_task()->mutable_container();
    container->set_image("nginx");
    container->add_args("-g");
    container->add_args("x");
    expected.mutable_endpoint();
    if (expected.mode_case() == v1::ServiceSpec::MODE_NOT_SET)
      expected.mutable_replicated()->set_replicas(1);
    const auto& request = daemon_.created_services.at(0);
    EXPECT_TRUE(request.resolve_image());
    std::string differences;
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&differences);
    EXPECT_TRUE(differencer.Compare(expected, request.spec())) << differences;
  }
}

const std::vector<Case>& update_cases() {
  static const std::vector<Case> kCases = {
      {{"--image", "nginx:2", "--args", "-a 'b c'", "--force"},
       "task { container { image: 'nginx:2' args: ['-a', 'b c'] } force_update: 2 }",
       "task { container { image: 'nginx:1' args: 'old' } force_update: 1 placement { platforms { "
       "os: 'linux' } } }"},
      {{"--label-add", "a=2", "--label-rm", "b", "--container-label-add", "c=3"},
       "annotations { labels { key: 'a' value: '2' } } task { container { labels { key: 'c' value: "
       "'3' } } }",
       "annotations { labels { key: 'a' value: '1' } labels { key: 'b' } }"},
      {{"--env-rm", "A", "--env-add", "B=3", "--env-add", "A=9"},
       "task { container { env: ['B=3', 'A=9'] } }",
       "task { container { env: ['A=1', 'B=2'] } }"},
      {{"--group-add", "g", "--group-rm", "h"},
       "task { container { groups: 'g' } }",
       "task { container { groups: 'h' } }"},
      {{"--mount-rm", "/gone", "--mount-add", "type=tmpfs,target=/t"},
       "task { container { mounts { source: 'kept' target: '/kept' } mounts { type: TMPFS target: "
       "'/t' } } }",
       "task { container { mounts { source: 'x' target: '/gone' } mounts { source: 'kept' target: "
       "'/kept' } mounts { source: 'was' target: '/t' } } }"},
      {{"--dns-add", "10.0.0.2", "--dns-rm", "10.0.0.1", "--dns-search-add", "b", "--dns-search-rm",
        "a", "--dns-option-add", "d", "--dns-option-rm", "c"},
       "task { container { dns { nameservers: '10.0.0.2' search: 'b' options: 'd' } } }",
       "task { container { dns { nameservers: '10.0.0.1' search: 'a' options: 'c' } } }"},
      {{"--host-rm", "a", "--host-rm", "b:10.0.0.2", "--host-add", "d:10.0.0.4"},
       "task { container { hosts: ['10.0.0.1 x', '10.0.0.3 b', '10.0.0.4 d'] } }",
       "task { container { hosts: ['10.0.0.1 a x', '10.0.0.2 b', '10.0.0.3 b'] } }"},
      {{"--ulimit-add", "core=1", "--ulimit-rm", "nofile", "--sysctl-add", "net.a=2", "--sysctl-rm",
        "net.b"},
       "task { container { ulimits { name: 'core' soft: 1 hard: 1 } sysctls { key: 'net.a' value: "
       "'2' } } }",
       "task { container { ulimits { name: 'nofile' soft: 1 hard: 1 } sysctls { key: 'net.b' } } "
       "}"},
      // Taking a capability off the other list comes before putting it on this one.
      {{"--cap-add", "a", "--cap-add", "b"},
       "task { container { capability_add: 'CAP_B' capability_drop: 'CAP_C' } }",
       "task { container { capability_drop: ['CAP_A', 'CAP_C'] } }"},
      {{"--cap-add", "RESET", "--cap-add", "d", "--cap-drop", "RESET"},
       "task { container { capability_add: 'CAP_D' } }",
       "task { container { capability_add: 'CAP_A' capability_drop: 'CAP_B' } }"},
      {{"--cap-drop", "a", "--cap-add", "a"},
       "task { container { capability_add: 'CAP_A' } }",
       "task { container { } }"},
      {{"--publish-rm", "80", "--publish-add", "9090:90"},
       "endpoint { ports { target_port: 80 mode: HOST } ports { target_port: 90 published_port: "
       "9090 } }",
       "endpoint { ports { target_port: 80 published_port: 8080 } ports { target_port: 80 mode: "
       "HOST } }"},
      {{"--publish-rm", "mode=host,target=80"},
       "endpoint { ports { target_port: 80 published_port: 8080 } }",
       "endpoint { ports { target_port: 80 published_port: 8080 } ports { target_port: 80 mode: "
       "HOST } }"},
      {{"--network-add", "name=front,alias=f", "--network-rm", "back"},
       "task { networks { target: 'id-front' aliases: 'f' } }",
       "task { networks { target: 'id-back' } }"},
      {{"--network-rm", "gone"}, "task { }", "task { networks { target: 'gone' } }"},
      {{"--constraint-add", "b==2", "--constraint-add", "a==1", "--constraint-rm", "c == 3"},
       "task { placement { constraints: ['a==1', 'b==2'] } }",
       "task { placement { constraints: 'c == 3' } }"},
      {{"--placement-pref-add", "spread=node.labels.b", "--placement-pref-rm",
        "spread=node.labels.a"},
       "task { placement { preferences { spread_descriptor: 'node.labels.b' } } }",
       "task { placement { preferences { spread_descriptor: 'node.labels.a' } } }"},
      {{"--generic-resource-add", "gpu=2", "--generic-resource-rm", "ssd"},
       "task { resources { reservations { generic { kind: 'gpu' count: 2 } } } }",
       "task { resources { reservations { generic { kind: 'ssd' count: 1 } } } }"},
      {{"--health-cmd", ""},
       "task { container { healthcheck { interval_ns: 7 } } }",
       "task { container { healthcheck { test: ['CMD-SHELL', 'x'] interval_ns: 7 } } }"},
      {{"--health-interval", "1s"},
       "task { container { healthcheck { interval_ns: 1000000000 } } }",
       "task { container { healthcheck { test: 'NONE' } } }"},
      {{"--update-delay", "1s"},
       "update { parallelism: 4 delay_ns: 1000000000 order: START_FIRST }",
       "update { parallelism: 4 order: START_FIRST }"},
      {{"--secret-rm", "a", "--config-rm", "b"},
       "task { container { } }",
       "task { container { secrets { secret_id: '1' secret_name: 'a' } configs { config_id: '2' "
       "config_name: 'b' } } }"},
      {{"--tty=false", "--read-only=false", "--entrypoint", "", "--user", ""},
       "task { container { } }",
       "task { container { tty: true read_only: true command: 'x' user: 'y' } }"},
  };
  return kCases;
}

TEST_F(ServiceFlags, UpdateChangesWhatIsSaidAndNothingElse) {
  daemon_.add_service("web", 2);
  for (const char* name : {"front", "back"}) {
    v1::Network network;
    network.set_id(fmt::format("id-{}", name));
    network.mutable_spec()->mutable_annotations()->set_name(name);
    daemon_.networks.push_back(network);
  }
  for (const Case& c : update_cases()) {
    SCOPED_TRACE(testing::PrintToString(c.options));
    daemon_.updated_services.clear();
    const auto spec_of = [](const std::string& text) {
      v1::ServiceSpec spec;
      EXPECT_TRUE(TextFormat::ParseFromString(text, &spec)) << text;
      spec.mutable_annotations()->set_name("web");
      spec.mutable_replicated()->set_replicas(2);
      spec.mutable_task()->mutable_container();
      spec.mutable_endpoint();
      return spec;
    };
    *daemon_.services[0].mutable_service()->mutable_spec() = spec_of(c.before);
    const Outcome outcome = run("update", c.options, {"web"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto& request = daemon_.updated_services.at(0);
    EXPECT_EQ(request.resolve_image(), c.options[0] == "--image");
    v1::ServiceSpec got = request.spec();
    // Empty messages say nothing.
    if (got.task().placement().ByteSizeLong() == 0) got.mutable_task()->clear_placement();
    std::string differences;
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&differences);
    EXPECT_TRUE(differencer.Compare(spec_of(c.expected), got)) << differences;
  }
}

TEST_F(ServiceFlags, WrongOnesSayWhatIsWrong) {
  const struct {
    std::vector<std::string> options;
    const char* error;
  } cases[] = {
      {{"--isolation", "hyperv"}, "isolation \"hyperv\" is of Windows nodes"},
      {{"--credential-spec", "file://x"}, "credential specs are of Windows nodes"},
      {{"--dns", "nowhere"}, "IP address is not correctly formatted: nowhere"},
      {{"--host", "a"}, "bad format for add-host: \"a\""},
      {{"--host", "a:b"}, "invalid IP address in add-host: \"b\""},
      {{"--ulimit", "nofile=1:2:3"}, "too many limit values - 1:2:3"},
      {{"--ulimit", "nofile"}, "invalid ulimit argument: nofile"},
      {{"--ulimit", "nofile=3:2"},
       "ulimit soft limit must be less than or equal to hard limit: 3 > 2"},
      {{"-e", "=x"}, "invalid environment variable: =x"},
      {{"--mount", "type=bind,target=/a"}, "source is required when specifying a bind mount"},
      {{"--mount", "type=image,target=/a"}, "source is required when specifying an image mount"},
      {{"--mount", "source=a"}, "target is required"},
      {{"--mount", "type=npipe,source=a,target=b"}, "mounts of type npipe are of Windows nodes"},
      {{"--mount", "type=cluster,source=a,target=b"}, "cluster volumes (CSI) are not supported"},
      {{"--mount", "type=odd,target=/a"}, "mount type 'odd' is not supported"},
      {{"--mount", "source=a,target=/a,colour=red"}, "unexpected key 'colour' in 'colour=red'"},
      {{"--mount", "source=a,target=/a,tmpfs-size=1"},
       "cannot mix 'tmpfs-*' options with mount type 'volume'"},
      {{"--mount", "type=bind,source=/a,target=/a,image-subpath=x"},
       "cannot mix 'image-*' options with mount type 'bind'"},
      {{"--mount", "type=bind,source=/a,target=/a,bind-recursive=maybe"},
       "invalid value for bind-recursive: maybe"},
      {{"--mount", "type=bind,source=/a,target=/a,bind-recursive=writable"},
       "option 'bind-recursive=writable' requires 'readonly'"},
      {{"--mount", "type=bind,source=/a,target=/a,ro,bind-recursive=readonly"},
       "requires 'bind-propagation=rprivate' to be specified in conjunction"},
      {{"--mount", "source=a,target=/a", "--mount", "source=b,target=/a"},
       "duplicate mount target: /a"},
      {{"--mount", "source=\"a,target=/a"}, "for \"--mount\" flag"},
      {{"--network", "alias=x"}, "network name is missing"},
      {{"--network", "name=a,colour=red"}, "invalid field key colour"},
      {{"-p", "1.2.3:80:80"}, "neither an IP address nor the name of an interface"},
      {{"-p", "mode=odd,target=80"}, "invalid publish mode value 'odd'"},
      {{"-p", "published=80"}, "missing mandatory field \"target\""},
      {{"-p", "1-3:1-2"}, "not of the same length"},
      {{"--update-failure-action", "odd"},
       "invalid failure action \"odd\": pause, continue or rollback"},
      {{"--update-order", "odd"}, "invalid order \"odd\""},
      {{"--restart-condition", "odd"}, "invalid restart condition \"odd\""},
      {{"--endpoint-mode", "odd"}, "invalid endpoint mode \"odd\""},
      {{"--endpoint-balancing", "odd"},
       "invalid argument \"odd\" for \"--endpoint-balancing\" flag: unknown balancing \"odd\": "
       "round-robin, least-connection or source-hash"},
      {{"--memory-swappiness", "101"}, "--memory-swappiness is between 0 and 100, or -1"},
      {{"--placement-pref", "pack=x"}, "only spread is supported"},
      {{"--entrypoint", "sh -c 'open"}, "for \"--entrypoint\" flag"},
      {{"--stop-grace-period", "soon"}, "for \"--stop-grace-period\" flag"},
      {{"--drain-timeout", "soon"}, "for \"--drain-timeout\" flag"},
      {{"--env-file", "/nonexistent/env"}, "/nonexistent/env"},
  };
  for (const auto& c : cases) {
    const Outcome outcome = run("create", c.options, {"nginx"});
    EXPECT_NE(outcome.code, 0) << c.error;
    EXPECT_THAT(outcome.err, HasSubstr(c.error));
  }
  EXPECT_THAT(daemon_.created_services, IsEmpty());
}

TEST_F(ServiceFlags, NetworksThatAreNotThereOrAreThereAlready) {
  auto& service = daemon_.add_service("web", 1);
  service.mutable_spec()->mutable_task()->add_networks()->set_target("id-back");
  v1::Network network;
  network.set_id("id-back");
  network.mutable_spec()->mutable_annotations()->set_name("back");
  daemon_.networks.push_back(network);
  EXPECT_THAT(run("update", {"--network-add", "back"}, {"web"}).err,
              HasSubstr("service is already attached to network back"));
  EXPECT_THAT(run("update", {"--network-add", "nope"}, {"web"}).err, HasSubstr("nope not found"));
  EXPECT_THAT(run("update", {"--network-rm", "nope"}, {"web"}).err, HasSubstr("nope not found"));
  EXPECT_THAT(daemon_.updated_services, IsEmpty());
}

TEST_F(ServiceFlags, NothingGoesWithRollback) {
  daemon_.add_service("web", 1);
  // Even what would change nothing.
  for (const char* option : {"--env-rm=NONE", "--with-registry-auth", "--tty=false", "--force"})
    EXPECT_THAT(run("update", {"--rollback", option}, {"web"}).err,
                HasSubstr("other flags may not be combined with --rollback"));
  EXPECT_EQ(run("update", {"--rollback", "--quiet"}, {"web"}).code, 0);
}

TEST_F(ServiceFlags, EnvironmentFiles) {
  const std::string path = testing::TempDir() + "/service_flags.env";
  std::ofstream(path) << "# comment\n\nA=1\r\n  B=two words\nFROM_SHELL\nNOT_SET\nC=\n";
  ASSERT_EQ(run("create", {"--env-file", path, "-e", "A=2"}, {"nginx"}).code, 0);
  EXPECT_THAT(daemon_.created_services.at(0).spec().task().container().env(),
              testing::ElementsAre("B=two words", "FROM_SHELL=yes", "C=", "A=2"));
  std::ofstream(path) << "A B=1\n";
  EXPECT_THAT(run("create", {"--env-file", path}, {"nginx"}).err,
              HasSubstr("variable 'A B' contains whitespaces"));
  std::ofstream(path) << "=1\n";
  EXPECT_THAT(run("create", {"--env-file", path}, {"nginx"}).err, HasSubstr("no variable name"));
}

TEST_F(ServiceFlags, NoResolveImageAsksNobody) {
  daemon_.add_service("web", 1);
  ASSERT_EQ(run("create", {"--no-resolve-image"}, {"nginx"}).code, 0);
  EXPECT_FALSE(daemon_.created_services.at(0).resolve_image());
  ASSERT_EQ(run("update", {"--no-resolve-image", "--image", "nginx:2"}, {"web"}).code, 0);
  EXPECT_FALSE(daemon_.updated_services.at(0).resolve_image());
}

}  // namespace
}  // namespace muster::deploy::cli
