#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/overlay/dataplane/sandbox.h"

extern char** environ;

namespace muster::overlay::testing {
namespace {

pid_t spawn(const std::string& netns, const std::string& command, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (output >= 0) posix_spawn_file_actions_adddup2(&actions, output, 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> words;
  if (!netns.empty()) words = {"nsenter", "--net=" + netns, "--"};
  for (const char* w : {"sh", "-c"}) words.push_back(w);
  words.push_back(command);
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return pid;
}

}  // namespace

Sandbox::Sandbox() {
  if (geteuid() != 0) {
    error_ = "this test needs root";
    return;
  }
  original_ns_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  char pattern[] = "/tmp/muster-net-XXXXXX";
  dir_ = mkdtemp(pattern);
  outside_ = dir_ + "/outside";
  std::fclose(std::fopen(outside_.c_str(), "w"));
  if (unshare(CLONE_NEWNET) != 0 ||
      mount("/proc/thread-self/ns/net", outside_.c_str(), "none", MS_BIND, nullptr) != 0 ||
      unshare(CLONE_NEWNET) != 0) {
    error_ = "cannot make network namespaces";
    return;
  }
  for (const std::string& ns : {std::string(), outside_}) {
    run(ns, "sysctl -qw net.ipv6.conf.default.accept_dad=0");
  }
  run("", "ip link set lo up && ip link add up0 type veth peer name eth0 netns " + outside_);
  run("", "ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
  run(outside_, "ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
}

Sandbox::~Sandbox() {
  for (const pid_t pid : children_) {
    kill(-pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  if (original_ns_ >= 0) {
    setns(original_ns_, CLONE_NEWNET);
    close(original_ns_);
  }
  if (dir_.empty()) return;
  // Pins that a failed test left.
  run("", fmt::format("for f in {0}/*/netns/* {0}/*/netns {0}/outside; do umount -l $f; done "
                      "2>/dev/null",
                      dir_));
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

std::unique_ptr<NodeNetwork> Sandbox::make_network(const std::string& instance,
                                                   const BalancerChoice& balancer) {
  auto made = make_node_network({instance, dir_, balancer}, null_log());
  if (!made) {
    error_ = made.error().message();
    return nullptr;
  }
  return *std::move(made);
}

std::string Sandbox::run(const std::string& netns, const std::string& command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  const pid_t pid = spawn(netns, command, ends[1]);
  close(ends[1]);
  std::string out;
  std::array<char, 4096> buffer;
  for (ssize_t n; (n = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    out.append(buffer.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(pid, nullptr, 0);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

void Sandbox::start(const std::string& netns, const std::string& command) {
  children_.push_back(spawn(netns, command, -1));
}

void Sandbox::serve(const std::string& netns, int port, const std::string& text) {
  // Without -t socat waits half a second for what the one side still says when the other is
  // through.
  start(netns,
        fmt::format("exec socat -t20 -6 TCP6-LISTEN:{},fork,reuseaddr,ipv6only=0,backlog=128 "
                    "SYSTEM:'echo {}' 2>/dev/null || exec socat -t20 "
                    "TCP4-LISTEN:{},fork,reuseaddr,backlog=128 SYSTEM:'echo {}'",
                    port, text, port, text));
  run(netns, fmt::format("for i in $(seq 200); do ss -Hltn sport = :{} | grep -q . && exit; "
                         "busybox usleep 10000; done",
                         port));
}

std::string Sandbox::ask(const std::string& netns, const std::string& address, int port) {
  const std::string host = address.find(':') == std::string::npos ? address : "[" + address + "]";
  return run(netns,
             fmt::format("timeout 30 socat -t20 -T20 - TCP:{}:{},connect-timeout=2 2>/dev/null "
                         "</dev/null",
                         host, port));
}

std::string ask_by_udp(const std::string& host_and_port) {
  return fmt::format(
      "for t in 0.5 4; do a=$(echo hi | timeout 10 socat -t$t -T$t - UDP:{} 2>/dev/null | "
      "head -n1); [ -z \"$a\" ] || break; done; echo \"$a\"",
      host_and_port);
}

v1::Network bridge_network(const std::string& id, const std::string& subnet,
                           const std::string& gateway, bool internal) {
  v1::Network n;
  n.set_id(id);
  n.mutable_spec()->mutable_annotations()->set_name(id);
  n.mutable_spec()->set_driver("bridge");
  n.mutable_spec()->set_internal(internal);
  auto* pool = n.mutable_state()->add_pools();
  pool->set_subnet(subnet);
  pool->set_gateway(gateway);
  return n;
}

v1::Network overlay_network(const std::string& id, const std::string& subnet,
                            const std::string& gateway, bool internal) {
  v1::Network n = bridge_network(id, subnet, gateway, internal);
  n.mutable_spec()->set_driver("overlay");
  n.mutable_state()->set_vni(4097 + static_cast<uint32_t>(id.back()));
  return n;
}

ContainerNetworkRequest request(const std::string& id, const v1::Network& network,
                                const std::string& cidr) {
  return {id, {{network, {cidr}, ""}}, {}, {}};
}

PublishedPort published(uint32_t port, uint32_t target, std::vector<std::string> backends,
                        v1::PortConfig::Protocol protocol) {
  PublishedPort p;
  p.port.set_published_port(port);
  p.port.set_target_port(target);
  p.port.set_protocol(protocol);
  p.owner = "svc";
  p.backends = std::move(backends);
  return p;
}

}  // namespace muster::overlay::testing
