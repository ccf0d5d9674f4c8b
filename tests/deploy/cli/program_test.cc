// Whole commands against a fake daemon over a real socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <fstream>

#include "base/status.h"
#include "deploy/cli/network_waits.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class Program : public testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& words, const std::string& input = "") {
    return run_muster(daemon_, words, input);
  }
  FakeDaemon daemon_;
};

TEST_F(Program, HelpTeaches) {
  EXPECT_THAT(run({"--help"}).out, HasSubstr("service create"));
  EXPECT_THAT(run({"service", "--help"}).out, HasSubstr("rollback"));
  const Outcome help = run({"service", "create", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out,
              StartsWith("Usage:  muster service create [OPTIONS] IMAGE [COMMAND] [ARG...]\n"));
  EXPECT_THAT(help.out, HasSubstr("  -p, --publish PORT:TARGET"));
  EXPECT_THAT(help.out, HasSubstr("Examples:\n  muster service create --name web"));
}

TEST_F(Program, WrongUsageEndsWithTwo) {
  const struct {
    std::vector<std::string> words;
    const char* error;
  } cases[] = {
      {{"servce"}, "muster: 'servce' is not a muster command. See 'muster --help'.\n"},
      {{"service", "make"},
       "muster: 'service make' is not a muster command. See 'muster service --help'.\n"},
      {{"service", "ls", "x"},
       "muster: 'muster service ls' accepts no arguments. See 'muster service ls --help'.\n"},
      {{"service", "rm"},
       "muster: 'muster service rm' requires at least 1 argument: SERVICE.... See 'muster service "
       "rm --help'.\n"},
      {{"service", "ls", "--nope"},
       "muster: unknown flag: --nope. See 'muster service ls --help'.\n"},
      {{"service", "scale", "web"},
       "muster: invalid scale specifier 'web': expected SERVICE=REPLICAS. See 'muster service "
       "scale --help'.\n"},
      {{"service", "ls", "-f", "colour=red"},
       "muster: invalid filter 'colour': known are id, name, label, mode. See 'muster service ls "
       "--help'.\n"},
  };
  for (const auto& c : cases) {
    const Outcome outcome = run(c.words);
    EXPECT_EQ(outcome.code, 2) << c.error;
    EXPECT_EQ(outcome.err, c.error);
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(Program, NoDaemonSaysSoInOneLine) {
  const Outcome outcome = run({"--socket", "/nonexistent/muster.sock", "service", "ls"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "muster: Cannot connect to musterd at unix:///nonexistent/muster.sock. Is musterd "
            "running?\n");
}

TEST_F(Program, ServiceLs) {
  daemon_.add_service("web10", 2);
  daemon_.add_service("web2", 3);
  auto* port = daemon_.services[1].mutable_service()->mutable_endpoint()->add_ports();
  port->set_target_port(80);
  port->set_published_port(8080);
  EXPECT_EQ(run({"service", "ls"}).out,
            "ID         NAME      MODE         REPLICAS   IMAGE     PORTS\n"
            "id-web2    web2      replicated   3/3        nginx:1   *:8080->80/tcp\n"
            "id-web10   web10     replicated   2/2        nginx:1   \n");
  EXPECT_EQ(run({"service", "ls", "-q", "--filter", "name=web1"}).out, "id-web10\n");
  EXPECT_EQ(run({"service", "list", "--format", "{{.Name}} {{.Replicas}}"}).out,
            "web2 3/3\nweb10 2/2\n");
}

TEST_F(Program, ServicePsShowsHistoryAndErrors) {
  daemon_.add_service("web", 1);
  v1::Task failed = daemon_.tasks[0];
  failed.set_id("older");
  failed.mutable_meta()->set_created_at_ns(kNow - 600'000'000'000);
  failed.set_desired_state(v1::TASK_SHUTDOWN);
  failed.mutable_status()->set_state(v1::TASK_FAILED);
  failed.mutable_status()->set_error("task: non-zero exit (1)");
  daemon_.tasks.push_back(failed);
  const Outcome outcome = run({"service", "ps", "web", "nope"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "no such service: nope\n");
  EXPECT_EQ(outcome.out,
            "ID         NAME        IMAGE     NODE      DESIRED STATE   CURRENT STATE            "
            "ERROR                       PORTS\n"
            "taskweb1   web.1       nginx:1   host1     Running         Running 30 seconds ago   "
            "                            \n"
            "older       \\_ web.1   nginx:1   host1     Shutdown        Failed 30 seconds ago    "
            "\"task: non-zero exit (1)\"   \n");
}

TEST_F(Program, ServiceCreateSendsTheWholeSpec) {
  const Outcome outcome = run({"service",
                               "create",
                               "--detach",
                               "--name",
                               "web",
                               "--replicas",
                               "3",
                               "-p",
                               "8080:80",
                               "-e",
                               "A=1",
                               "-e",
                               "FROM_SHELL",
                               "-e",
                               "NOT_SET",
                               "--mount",
                               "source=data,target=/data",
                               "--constraint",
                               "node.role==worker",
                               "--limit-memory",
                               "64m",
                               "--reserve-cpu",
                               "0.25",
                               "--restart-condition",
                               "on-failure",
                               "--update-parallelism",
                               "2",
                               "--health-cmd",
                               "true",
                               "--network",
                               "name=back,alias=w",
                               "--label",
                               "b=2",
                               "--label",
                               "a=1",
                               "--entrypoint",
                               "sh -c",
                               "nginx:1",
                               "-g",
                               "daemon off;"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "id-web\n");
  ASSERT_EQ(daemon_.created_services.size(), 1U);
  const auto& request = daemon_.created_services[0];
  EXPECT_EQ(request.request_id().size(), 25U);
  const auto& spec = request.spec();
  EXPECT_EQ(spec.replicated().replicas(), 3U);
  EXPECT_THAT(spec.task().container().args(), ElementsAre("-g", "daemon off;"));
  EXPECT_THAT(spec.task().container().command(), ElementsAre("sh", "-c"));
  EXPECT_THAT(spec.task().container().env(), ElementsAre("A=1", "FROM_SHELL=yes", "NOT_SET"));
  EXPECT_EQ(spec.annotations().labels(0).key(), "a");
  EXPECT_EQ(spec.endpoint().ports(0).published_port(), 8080U);
  EXPECT_EQ(spec.task().resources().limits().memory_bytes(), 64 << 20);
  EXPECT_EQ(spec.task().resources().reservations().nano_cpus(), 250'000'000);
  EXPECT_EQ(spec.task().restart().condition(), v1::RestartPolicy::ON_FAILURE);
  // One option of a group brings the defaults of the others.
  EXPECT_EQ(spec.update().parallelism(), 2U);
  EXPECT_EQ(spec.update().monitor_ns(), 5'000'000'000);
  EXPECT_FALSE(spec.has_rollback());
  EXPECT_EQ(spec.task().networks(0).aliases(0), "w");
}

TEST_F(Program, ServiceCreateRefusesWrongCombinations) {
  const struct {
    std::vector<std::string> flags;
    const char* error;
  } cases[] = {
      {{"--mode", "global", "--replicas", "2"},
       "replicas can only be used with replicated or replicated-job mode"},
      {{"--mode", "global", "--replicas-max-per-node", "2"},
       "replicas-max-per-node can only be used with replicated or replicated-job mode"},
      {{"--max-concurrent", "2"}, "max-concurrent can only be used with replicated-job mode"},
      {{"--mode", "replicated-job", "--update-delay", "1s"},
       "update and rollback configuration is not supported for jobs"},
      {{"--mode", "odd"}, "Unknown mode: odd, only replicated and global are supported"},
      {{"--no-healthcheck", "--health-cmd", "x"},
       "--no-healthcheck conflicts with --health-* options"},
      {{"--endpoint-mode", "dnsrr", "-p", "80:80"},
       "port published with ingress mode can't be used with dnsrr mode"},
      {{"-p", "80:80", "-p", "80:81"}, "conflicting port mapping between 80:81/tcp and 80:80/tcp"},
      {{"--memory-swap", "1g"}, "--memory-swap needs --limit-memory"},
      {{"--secret", "a", "--secret", "source=b,target=a"},
       "duplicate secret target for b not allowed"},
      {{"--rollback-failure-action", "rollback"},
       "invalid failure action \"rollback\": pause or continue"},
      {{"--limit-cpu", "lots"},
       "invalid argument \"lots\" for \"--limit-cpu\" flag: \"lots\" is not a number of CPUs "
       "(decimal, at most 9 digits after the point)"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> words = {"service", "create", "-d"};
    words.insert(words.end(), c.flags.begin(), c.flags.end());
    words.push_back("nginx");
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, 2) << c.error;
    EXPECT_THAT(outcome.err, HasSubstr(c.error));
  }
  EXPECT_THAT(daemon_.created_services, IsEmpty());
}

TEST_F(Program, ServiceUpdateChangesOnlyWhatIsSaid) {
  auto& service = daemon_.add_service("web", 2);
  auto* container = service.mutable_spec()->mutable_task()->mutable_container();
  container->add_env("A=1");
  container->add_env("B=2");
  service.mutable_spec()->mutable_endpoint()->add_ports()->set_target_port(80);
  service.mutable_spec()->mutable_task()->add_networks()->set_target("net-id");
  v1::Network network;
  network.set_id("net-id");
  network.mutable_spec()->mutable_annotations()->set_name("back");
  daemon_.networks.push_back(network);
  const Outcome outcome =
      run({"service", "update", "-d", "--env-rm", "A", "--env-add", "B=3", "--publish-rm", "80",
           "--image", "nginx:2", "--network-rm", "back", "--force", "web"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "web\n");
  const auto& request = daemon_.updated_services.at(0);
  EXPECT_EQ(request.version(), 10U);
  const auto& spec = request.spec();
  EXPECT_THAT(spec.task().container().env(), ElementsAre("B=3"));
  EXPECT_EQ(spec.task().container().image(), "nginx:2");
  EXPECT_EQ(spec.task().force_update(), 1U);
  EXPECT_EQ(spec.endpoint().ports_size(), 0);
  EXPECT_EQ(spec.task().networks_size(), 0);
  EXPECT_EQ(spec.replicated().replicas(), 2U);
}

TEST_F(Program, RollbackStandsAlone) {
  daemon_.add_service("web", 1);
  EXPECT_EQ(run({"service", "rollback", "-d", "web"}).code, 0);
  EXPECT_TRUE(daemon_.updated_services.at(0).rollback());
  const Outcome mixed = run({"service", "update", "-d", "--rollback", "--image", "x", "web"});
  EXPECT_EQ(mixed.code, 2);
  EXPECT_THAT(mixed.err, HasSubstr("other flags may not be combined with --rollback"));
}

TEST_F(Program, ServerErrorsAreOneLine) {
  daemon_.add_service("web", 1);
  daemon_.next_error = Status(StatusCode::kFailedPrecondition, "update out of\nsequence");
  const Outcome outcome = run({"service", "scale", "-d", "web=3"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: update out of sequence\n");
}

TEST_F(Program, RemovingGoesOnAfterAFailure) {
  daemon_.add_service("web", 1);
  const Outcome outcome = run({"service", "rm", "nope", "web"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "web\n");
  EXPECT_EQ(outcome.err, "muster: service nope not found\n");
}

TEST_F(Program, InspectHasDockersShape) {
  daemon_.add_service("web", 2);
  const Outcome outcome = run({"service", "inspect", "web"});
  const auto json = boost::json::parse(outcome.out);
  const auto& service = json.at(0);
  EXPECT_EQ(service.at("ID").as_string(), "id-web");
  EXPECT_EQ(service.at("Version").at("Index").to_number<int>(), 10);
  EXPECT_EQ(service.at("Spec").at("TaskTemplate").at("ContainerSpec").at("Image").as_string(),
            "nginx:1");
  EXPECT_EQ(service.at("Spec").at("Mode").at("Replicated").at("Replicas").to_number<int>(), 2);
  EXPECT_TRUE(service.at("Spec").at("Labels").is_object());
  EXPECT_EQ(
      run({"service", "inspect", "-f", "{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}}", "web"})
          .out,
      "web 2\n");
  EXPECT_THAT(run({"service", "inspect", "--pretty", "web"}).out, HasSubstr(" Replicas:\t2\n"));
  const Outcome missing = run({"service", "inspect", "nope"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(missing.out, "[]\n");
}

TEST_F(Program, Nodes) {
  EXPECT_EQ(run({"node", "ls"}).out,
            "ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION\n"
            "n1 *      host1      Ready     Active         Leader           \n");
  EXPECT_EQ(
      run({"node", "update", "--availability", "drain", "--label-add", "zone=a", "host1"}).code, 0);
  EXPECT_EQ(daemon_.updated_nodes.at(0).spec().availability(), v1::NodeSpec::DRAIN);
  EXPECT_EQ(run({"node", "update", "--label-rm", "nope", "host1"}).err,
            "muster: key nope doesn't exist in node's labels\n");
  const auto json = boost::json::parse(run({"node", "inspect", "self"}).out);
  EXPECT_EQ(json.at(0).at("Status").at("State").as_string(), "ready");
  EXPECT_EQ(run({"node", "inspect", "--pretty", "-f", "x", "self"}).code, 2);
}

TEST_F(Program, ANodeForPeople) {
  v1::Node& node = daemon_.nodes.at(0);
  node.mutable_meta()->set_created_at_ns(kNow);
  auto& label = *node.mutable_spec()->mutable_annotations()->add_labels();
  label.set_key("zone");
  label.set_value("a");
  auto& about = *node.mutable_description();
  about.mutable_platform()->set_os("linux");
  about.mutable_platform()->set_architecture("amd64");
  about.mutable_resources()->set_nano_cpus(2'000'000'000);
  about.mutable_resources()->set_memory_bytes(1 << 30);
  auto& gpu = *about.mutable_resources()->add_generic();
  gpu.set_kind("GPU");
  gpu.add_names("u1");
  gpu.add_names("u2");
  auto& ssd = *about.mutable_resources()->add_generic();
  ssd.set_kind("SSD");
  ssd.set_count(4);
  about.mutable_engine()->set_version("1.0");
  *about.mutable_engine()->add_labels() = label;
  for (const char* driver : {"json-file", "none"}) {
    auto& plugin = *about.mutable_engine()->add_plugins();
    plugin.set_type("Log");
    plugin.set_name(driver);
  }
  const std::string text = run({"node", "inspect", "--pretty", "self"}).out;
  for (const char* part :
       {"Labels:\n - zone=a\n", "Joined at:             \t2026-01-31 08:05:00 +0000 utc\n",
        " Availability:\t\tActive\n", "Manager Status:\n", " CPUs:\t\t\t2\n Memory:\t\t1GiB\n",
        " GPU:\t\t\tu1, u2\n SSD:\t\t\t4\n", "Plugins:\n Log:\t\tjson-file, none\n",
        "Engine Version:\t\t1.0\nEngine Labels:\n - zone=a\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST_F(Program, RolesAreChangedOnlyWhereTheyDiffer) {
  daemon_.nodes.at(0).mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  EXPECT_EQ(run({"node", "promote", "host1"}).out, "Node host1 is already a manager.\n");
  EXPECT_EQ(daemon_.updated_nodes.size(), 0u);
  EXPECT_EQ(run({"node", "demote", "host1"}).out, "Manager host1 demoted in the swarm.\n");
  // What holds it up is said at once.
  daemon_.node_after_update.mutable_manager_status();
  daemon_.node_after_update.mutable_status()->set_message("it stays in the group for now");
  const Outcome held_up = run({"node", "demote", "host1"});
  EXPECT_EQ(held_up.out, "Manager host1 demoted in the swarm.\n");
  EXPECT_EQ(held_up.err, "it stays in the group for now\n");
  // And nothing that was known of it before.
  daemon_.nodes.at(0).mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  daemon_.nodes.at(0).mutable_status()->set_message("it went away");
  daemon_.node_after_update.mutable_status()->set_message("it went away; it stays for now");
  EXPECT_EQ(run({"node", "demote", "host1"}).err, "it stays for now\n");
  daemon_.node_after_update.Clear();
  EXPECT_EQ(daemon_.updated_nodes.at(0).spec().desired_role(), v1::NodeSpec::WORKER);
  EXPECT_EQ(daemon_.node_reads, 4) << "one for each change";
}

TEST_F(Program, Networks) {
  EXPECT_EQ(run({"network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.1", "-o",
                 "encrypted", "--label", "a=b", "back"})
                .out,
            "net-new\n");
  const auto& spec = daemon_.created_networks.at(0).spec();
  EXPECT_EQ(spec.driver(), "overlay");
  EXPECT_EQ(spec.pools(0).gateway(), "10.9.0.1");
  EXPECT_EQ(spec.driver_options(0).key(), "encrypted");
  EXPECT_EQ(run({"network", "create", "--gateway", "10.9.0.1", "x"}).code, 2);
  daemon_.network_warnings = {"driver option \"mtu\" has no effect"};
  const Outcome warned = run({"network", "create", "--opt", "mtu=99999", "x"});
  EXPECT_EQ(warned.code, 0);
  EXPECT_EQ(warned.out, "net-new\n");
  EXPECT_EQ(warned.err, "WARNING: driver option \"mtu\" has no effect\n");
}

TEST_F(Program, ANetworkThatCannotBeServedIsToldOfWhenItIsMade) {
  v1::Network network;
  network.set_id("net-new");
  network.mutable_spec()->mutable_annotations()->set_name("full");
  network.set_allocation_error("no free /24 subnet is left in the IPv4 address pools (9 in use)");
  daemon_.networks.push_back(network);
  const Outcome outcome = run({"network", "create", "full"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "net-new\n") << "it is there: who removes it needs its id";
  EXPECT_EQ(outcome.err,
            "muster: network full is made, but cannot be used yet: no free /24 subnet is left in "
            "the IPv4 address pools (9 in use); it waits until something is given back, or "
            "`network rm full` takes it back\n");
  // One that has no addresses is not waited for.
  EXPECT_EQ(run({"network", "create", "-d", "host", "own"}).code, 0);
}

// It is made, and a script that made it need not make it again.
TEST_F(Program, ANetworkOfWhichNothingIsKnownYetIsMadeAllTheSame) {
  daemon_.network_reads_fail = true;
  const Outcome outcome = run({"network", "create", "slow"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "net-new\n");
  EXPECT_THAT(outcome.err, HasSubstr("WARNING: network slow is made; the leader has not given it "
                                     "its subnet yet"));
}

TEST(WaitUntil, AsksEverLessOftenAndOnceMoreWhenTimeIsOver) {
  const auto answer = [](int right) {
    int asked = 0;
    const auto done = wait_until(30ms, [&]() -> Result<bool> { return ++asked == right; });
    return std::pair(done && *done, asked);
  };
  EXPECT_EQ(answer(1), std::pair(true, 1));
  EXPECT_EQ(answer(5), std::pair(true, 5)) << "after 2, 4, 8 and 16 ms";
  EXPECT_EQ(answer(6), std::pair(false, 5));
}

TEST_F(Program, SwarmInitShowsHowToJoin) {
  const Outcome outcome = run({"swarm", "init", "--advertise-addr", "eth0", "--task-history-limit",
                               "2", "--default-addr-pool", "10.20.0.0/16"});
  EXPECT_THAT(outcome.out,
              HasSubstr("    muster swarm join --token SWMTKN-1-abc-def 10.0.0.1:2377"));
  EXPECT_EQ(daemon_.init_request.advertise_addr(), "eth0");
  EXPECT_EQ(daemon_.init_request.spec().task_history_limit(), 2);
  EXPECT_EQ(run({"swarm", "init", "--data-path-port", "80"}).code, 2);
}

TEST_F(Program, SwarmSettingsHaveTheirUnits) {
  ASSERT_EQ(run({"swarm", "init", "--dispatcher-heartbeat", "2s", "--vanished-agent-grace", "1m",
                 "--cert-expiry", "48h", "--drain-ack-timeout", "500ms"})
                .code,
            0);
  const v1::ClusterSpec& spec = daemon_.init_request.spec();
  EXPECT_EQ(spec.heartbeat_period_ns(), 2'000'000'000);
  EXPECT_EQ(spec.vanished_agent_grace_ns(), 60'000'000'000);
  EXPECT_EQ(spec.node_cert_expiry_ns(), 172'800'000'000'000);
  EXPECT_EQ(spec.drain_ack_timeout_ns(), 500'000'000);
  EXPECT_THAT(run({"swarm", "init", "--drain-ack-timeout", "0"}).err,
              HasSubstr("--drain-ack-timeout must be more than 0"));
  ASSERT_EQ(run({"swarm", "init", "--network-key-rotation", "6h", "--encryption-udp",
                 "--encryption-udp-port", "4501"})
                .code,
            0);
  const v1::EncryptionConfig& encryption = daemon_.init_request.spec().encryption();
  EXPECT_EQ(encryption.key_rotation_ns(), 6 * 3'600'000'000'000);
  EXPECT_TRUE(encryption.udp_encapsulation());
  EXPECT_EQ(encryption.udp_port(), 4501u);
  EXPECT_EQ(run({"swarm", "init", "--network-key-rotation", "0"}).code, 2);
  EXPECT_EQ(run({"swarm", "init", "--encryption-udp-port", "0"}).code, 2);
  const Outcome wrong = run({"swarm", "init", "--vanished-agent-grace", "soon"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--vanished-agent-grace"));
}

v1::LogLine log_line(const std::string& text, bool is_stderr = false) {
  v1::LogLine line;
  line.set_task_id("taskweb1");
  line.set_node_id("n1");
  line.set_line(text);
  line.set_time_ns(kNow);
  line.set_stderr(is_stderr);
  return line;
}

TEST_F(Program, ServiceLogsNameTheirTask) {
  daemon_.add_service("web", 1);
  v1::ServiceLogsResponse message;
  v1::LogTask& task = *message.add_tasks();
  task.set_task_id("taskweb1");
  auto& attribute = *task.add_attributes();
  attribute.set_key("tier");
  attribute.set_value("front");
  *message.add_lines() = log_line("hello\n");
  *message.add_lines() = log_line("oops", true);
  daemon_.service_log_messages.push_back(message);
  Outcome outcome = run({"service", "logs", "--tail", "5", "--since", "10s", "web"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "web.1.taskweb1@host1    | hello\n");
  EXPECT_EQ(outcome.err, "web.1.taskweb1@host1    | oops\n");
  const v1::ServiceLogsRequest& request = daemon_.service_log_requests.at(0);
  EXPECT_EQ(request.tail(), 5);
  EXPECT_EQ(request.since_ns(), kNow - 10'000'000'000);
  EXPECT_FALSE(request.follow());
  EXPECT_THAT(request.services(), ElementsAre("id-web"));
  EXPECT_EQ(run({"service", "logs", "--raw", "-t", "web.1"}).out,
            "2026-01-31T08:05:00.000000000Z hello\n");
  EXPECT_THAT(daemon_.service_log_requests.at(1).tasks(), ElementsAre("taskweb1"));
  EXPECT_EQ(run({"service", "logs", "--details", "--no-task-ids", "web"}).out,
            "web.1@host1    | tier=front hello\n");
  EXPECT_EQ(run({"service", "logs", "--no-resolve", "web"}).out,
            "id-web.1.taskweb1@n1    | hello\n");
  EXPECT_EQ(run({"service", "logs", "nope"}).err, "muster: no such task or service: nope\n");
  EXPECT_EQ(run({"service", "logs", "--tail", "x", "web"}).code, 2);
}

TEST_F(Program, ServiceLogsOfATtyNeedRaw) {
  daemon_.add_service("web", 1).mutable_spec()->mutable_task()->mutable_container()->set_tty(true);
  const Outcome outcome = run({"service", "logs", "web"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: tty service logs only supported with --raw\n");
  EXPECT_EQ(run({"service", "logs", "--raw", "web"}).code, 0);
}

TEST_F(Program, ServiceLogsSayWhatIsMissing) {
  daemon_.add_service("web", 1);
  v1::ServiceLogsResponse message;
  for (int i = 0; i < 2; ++i) {  // told once
    v1::MissingLogs& missing = *message.add_missing();
    missing.set_node_id("n1");
    missing.set_hostname("host1");
    missing.add_task_ids("taskweb1");
    missing.set_reason("the node is down: unreachable");
  }
  daemon_.service_log_messages.push_back(message);
  Outcome outcome = run({"service", "logs", "web"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "warning: incomplete log stream: node host1: the node is down: unreachable "
            "(web.1.taskweb1@host1)\n");
  v1::ServiceLogsResponse lines;
  *lines.add_lines() = log_line("a\n");
  daemon_.service_log_messages = {lines};
  daemon_.service_logs_end = Status(StatusCode::kUnavailable, "the manager stops");
  outcome = run({"service", "logs", "-f", "web"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "muster: the log stream was cut off: the manager stops; go on with --since "
            "2026-01-31T08:05:00.000000000Z\n");
}

TEST_F(Program, StackLogsTakeAllServicesOrSome) {
  for (const char* name : {"shop_web", "shop_db"}) {
    v1::Service& service = daemon_.add_service(name, 1);
    auto& label = *service.mutable_spec()->mutable_annotations()->add_labels();
    label.set_key("com.docker.stack.namespace");
    label.set_value("shop");
  }
  EXPECT_EQ(run({"stack", "logs", "shop"}).code, 0);
  EXPECT_THAT(daemon_.service_log_requests.at(0).services(),
              ElementsAre("id-shop_db", "id-shop_web"));
  EXPECT_EQ(run({"stack", "logs", "shop", "web"}).code, 0);
  EXPECT_THAT(daemon_.service_log_requests.at(1).services(), ElementsAre("id-shop_web"));
  EXPECT_EQ(run({"stack", "logs", "shop", "x"}).err, "muster: no such service in stack shop: x\n");
  EXPECT_EQ(run({"stack", "logs", "none"}).err, "muster: nothing found in stack: none\n");
}

TEST_F(Program, LogsAreThisNodesOwn) {
  daemon_.add_service("web", 1);
  v1::LogsResponse line;
  line.set_task_id("taskweb1");
  line.set_line("hello\n");
  line.set_time_ns(kNow);
  daemon_.log_messages.push_back(line);
  EXPECT_EQ(run({"logs", "--raw", "-t", "web.1"}).out, "2026-01-31T08:05:00.000000000Z hello\n");
  v1::Container container;
  container.set_id(std::string(64, 'c'));
  container.set_task_id("taskweb1");
  daemon_.containers.push_back(container);
  EXPECT_EQ(run({"logs", "--raw", "cccccccccccc"}).code, 0);
  EXPECT_THAT(daemon_.log_requests.at(1).task_ids(), ElementsAre("taskweb1"));
  EXPECT_EQ(run({"logs", "nope"}).err, "muster: no such task or service: nope\n");
}

TEST_F(Program, ExecPassesInputOutputAndExitCode) {
  v1::ExecOutput output;
  output.set_stdout("out");
  daemon_.exec_messages.push_back(output);
  output.set_stderr("err");
  daemon_.exec_messages.push_back(output);
  output.set_exit_code(42);
  daemon_.exec_messages.push_back(output);
  const Outcome outcome =
      run({"exec", "-i", "-e", "A=1", "-u", "app", "web.1", "sh", "-c", "cat"}, "typed");
  EXPECT_EQ(outcome.code, 42);
  EXPECT_EQ(outcome.out, "out");
  EXPECT_EQ(outcome.err, "err");
  const auto& start = daemon_.exec_inputs.at(0).start();
  EXPECT_THAT(start.command(), ElementsAre("sh", "-c", "cat"));
  EXPECT_EQ(start.user(), "app");
  std::string typed;
  for (const auto& input : daemon_.exec_inputs) typed += input.stdin();
  EXPECT_EQ(typed, "typed");
  EXPECT_TRUE(daemon_.exec_inputs.back().stdin_closed());
}

TEST_F(Program, ExecThatCannotStart) {
  daemon_.next_error =
      Status(StatusCode::kNotFound, "nope: not found in the container", "exec-start-failed");
  EXPECT_EQ(run({"exec", "web.1", "nope"}).code, 127);
  daemon_.next_error = Status(StatusCode::kPermissionDenied, "not executable", "exec-start-failed");
  EXPECT_EQ(run({"exec", "web.1", "nope"}).code, 126);
  daemon_.next_error = Status(StatusCode::kNotFound, "no such container: web.9");
  EXPECT_EQ(run({"exec", "web.9", "sh"}).code, 1);
}

TEST_F(Program, ContainersAndStats) {
  v1::Container container;
  container.set_id("0123456789abcdef");
  container.set_name("web.1.x");
  container.set_image("nginx:1@sha256:00");
  container.set_command("nginx -g daemon off; and more");
  container.set_state("exited");
  container.set_exit_code(137);
  container.set_created_at_ns(kNow - 7200'000'000'000);
  container.set_finished_at_ns(kNow - 120'000'000'000);
  daemon_.containers.push_back(container);
  EXPECT_EQ(run({"ps", "-a", "--format", "{{.ID}}|{{.Image}}|{{.Command}}|{{.Status}}"}).out,
            "0123456789ab|nginx:1|\"nginx -g daemon off…\"|Exited (137) 2 minutes ago\n");
  container.set_state("running");
  container.set_started_at_ns(kNow - 120'000'000'000);
  for (const char* health : {"", "starting", "healthy", "unhealthy"}) {
    container.set_id(fmt::format("{:0>12}", health));
    container.set_health(health);
    daemon_.containers.push_back(container);
  }
  const auto ps = [&](const std::string& health) {
    return run({"ps", "--filter", "health=" + health, "--format", "{{.Status}}|{{.Health}}"}).out;
  };
  EXPECT_EQ(ps("none"), "Exited (137) 2 minutes ago|\nUp 2 minutes|\n");
  EXPECT_EQ(ps("starting"), "Up 2 minutes (health: starting)|starting\n");
  EXPECT_EQ(ps("healthy"), "Up 2 minutes (healthy)|healthy\n");
  EXPECT_EQ(ps("unhealthy"), "Up 2 minutes (unhealthy)|unhealthy\n");
  EXPECT_EQ(run({"ps", "--filter", "health=fine"}).err,
            "muster: invalid filter 'health=fine'. See 'muster ps --help'.\n");
  v1::StatsResponse stats;
  auto* one = stats.add_containers();
  one->set_id("0123456789abcdef");
  one->set_name("web.1.x");
  one->set_cpu_millipercent(12'345);
  one->set_memory_bytes(1 << 20);
  one->set_memory_limit_bytes(4 << 20);
  daemon_.stats_messages.push_back(stats);
  EXPECT_EQ(
      run({"stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.MemPerc}}"}).out,
      "12.35% 1MiB / 4MiB 25.00%\n");
}

TEST_F(Program, ImagesAndVolumes) {
  v1::Image image;
  image.set_id("sha256:0123456789abcdef");
  image.add_references("registry:5000/app:1.4");
  image.set_size_bytes(1'500'000);
  image.set_created_at_ns(kNow - 3 * 86400'000'000'000);
  daemon_.images.push_back(image);
  EXPECT_EQ(run({"image", "ls"}).out,
            "REPOSITORY          TAG       IMAGE ID       CREATED      SIZE\n"
            "registry:5000/app   1.4       0123456789ab   3 days ago   1.5MB\n");
  EXPECT_EQ(run({"image", "load"}, "archive-bytes").out, "Loaded image: registry:5000/app:1.4\n");
  EXPECT_EQ(daemon_.loaded, "archive-bytes");
  EXPECT_EQ(run({"image", "prune"}).code, 2);
  EXPECT_EQ(run({"image", "prune", "-f"}).out, "Total reclaimed space: 1.5MB\n");
  daemon_.next_error = Status(StatusCode::kUnavailable, "registry:5000: connection refused");
  const Outcome pull = run({"image", "pull", "registry:5000/app:2"});
  EXPECT_EQ(pull.code, 1);
  EXPECT_EQ(pull.err, "muster: registry:5000: connection refused\n");
  v1::LocalVolume volume;
  volume.set_name("data");
  volume.set_driver("local");
  daemon_.volumes.push_back(volume);
  EXPECT_EQ(run({"volume", "ls"}).out, "DRIVER    VOLUME NAME\nlocal     data\n");
  EXPECT_EQ(run({"volume", "inspect", "nope"}).err, "muster: no such volume: nope\n");
}

TEST_F(Program, Events) {
  v1::WatchResponse message;
  message.set_time_ns(kNow);
  auto* event = message.add_events();
  event->set_action(v1::ObjectEvent::UPDATE);
  event->mutable_service()->set_id("s1");
  event->mutable_service()->mutable_spec()->mutable_annotations()->set_name("web");
  event->mutable_service()->mutable_spec()->mutable_replicated()->set_replicas(5);
  event->mutable_old_service()->mutable_spec()->mutable_replicated()->set_replicas(3);
  event = message.add_events();
  event->set_action(v1::ObjectEvent::CREATE);
  event->mutable_network()->set_id("net1");
  daemon_.watch_messages.push_back(message);
  EXPECT_EQ(run({"events", "--filter", "type=service"}).out,
            "2026-01-31T08:05:00.000000000Z service update s1 (name=web, replicas.new=5, "
            "replicas.old=3)\n");
  EXPECT_EQ(run({"events", "-f", "event=create", "--format", "{{.Type}} {{.Actor.ID}}"}).out,
            "network net1\n");
}

TEST_F(Program, ATaskThatNodesDidNotLetGoInTimeHasAnEventOfItsOwn) {
  v1::WatchResponse message;
  message.set_time_ns(kNow);
  auto* event = message.add_events();
  event->set_action(v1::ObjectEvent::UPDATE);
  v1::Task old;
  old.set_id("t1");
  old.set_name("web.1");
  old.set_node_id("n1");
  old.set_service_id("s1");
  *event->mutable_old_task() = old;
  v1::Task task = old;
  task.mutable_drain()->add_missing_nodes("node2");
  task.mutable_drain()->add_missing_nodes("node3");
  *event->mutable_task() = task;
  // What follows does not say it again.
  event = message.add_events();
  event->set_action(v1::ObjectEvent::UPDATE);
  *event->mutable_old_task() = task;
  *event->mutable_task() = task;
  daemon_.watch_messages.push_back(message);
  const std::vector<std::string> wanted{"events", "--filter", "event=unacknowledged"};
  EXPECT_EQ(run(wanted).out,
            "2026-01-31T08:05:00.000000000Z task unacknowledged t1 (missing=node2,node3, "
            "name=web.1, node=n1, service=s1)\n");
  EXPECT_EQ(run({"events", "--format", "{{.Action}}"}).out, "update\nunacknowledged\nupdate\n");
}

TEST_F(Program, DebugEvalListsItsSuites) {
  const Outcome outcome = run({"debug", "eval", "nope"}, "{}");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("no suite \"nope\"; there are: "));
  EXPECT_THAT(run({"debug", "eval", "ipam"}, "{").err, HasSubstr("standard input is not JSON"));
}

TEST_F(Program, Completion) {
  daemon_.add_service("web", 1);
  daemon_.add_service("worker", 1);
  EXPECT_EQ(run({"__complete", "--", "serv"}).out, "service\n");
  EXPECT_EQ(run({"__complete", "--", "service", "ro"}).out, "rollback\n");
  EXPECT_EQ(run({"__complete", "--", "service", "ps", "w"}).out, "web\nworker\n");
  EXPECT_EQ(run({"__complete", "--", "service", "create", "--replicas"}).out,
            "--replicas-max-per-node=\n--replicas=\n");
  EXPECT_EQ(run({"__complete", "--", "stack", "deploy", "-c", ""}).out, ":files\n");
  EXPECT_THAT(run({"completion", "bash"}).out, HasSubstr("complete -F _muster muster"));
  EXPECT_EQ(run({"completion", "fish"}).code, 2);
}

TEST_F(Program, InfoAndVersion) {
  daemon_.info.set_local_state("active");
  daemon_.info.set_node_id("n1");
  daemon_.info.set_version("9.9");
  daemon_.info.mutable_description()->add_limitations("no IPVS in this kernel");
  EXPECT_THAT(run({"info"}).out, HasSubstr("WARNING: no IPVS in this kernel\n"));
  EXPECT_EQ(run({"info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.NodeID}}"}).out, "active n1\n");
  EXPECT_EQ(run({"version", "-f", "{{.Server.Version}}"}).out, "9.9\n");
}

}  // namespace
}  // namespace muster::deploy::cli
