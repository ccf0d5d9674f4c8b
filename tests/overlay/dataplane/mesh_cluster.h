#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/overlay/dataplane/mesh_host.h"

namespace muster::overlay::testing {

// Whom tasks see when it is the client outside.
inline constexpr const char* kClient = "192.0.2.2";
inline constexpr const char* kClient6 = "[2001:0db8:0099:0000:0000:0000:0000:0002]";

// Nodes of one cluster, their tasks, and who calls them.
class MeshClusterTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(box_.ok()) << box_.error(); }

  // Nodes 1..n, told of all of them.
  void nodes(int n) {
    for (int i = 1; i <= n; ++i) net_.add_node(i);
    for (int i = 1; i <= n; ++i) {
      hosts_.push_back(std::make_unique<MeshHost>(net_, i));
      const Status opened = host(i).open();
      ASSERT_TRUE(opened.ok()) << opened.message();
    }
    tell_all();
  }
  void tell_all() {
    for (auto& host : hosts_) {
      const Status told = host->tell();
      ASSERT_TRUE(told.ok()) << told.message();
    }
  }
  MeshHost& host(int i) { return *hosts_[static_cast<size_t>(i) - 1]; }

  // Task k on node i: answers on TCP and UDP 8080 with the address the client has for it.
  std::string task(int k, int i) {
    net_.add_task(k, i);
    tell_all();
    const std::string ns =
        host(i).task(k, {mesh_port(v1::PortConfig::TCP), mesh_port(v1::PortConfig::UDP)});
    serve_clients_address(box_, ns);
    return ns;
  }
  // Port 80 of every node leads to these tasks, 81 to their echo, as `options` say.
  void publish(
      const std::vector<int>& tasks,
      const std::function<void(v1::PortConfig&)>& options = [](v1::PortConfig&) {}) {
    for (int i = 1; i <= static_cast<int>(hosts_.size()); ++i) {
      EXPECT_EQ(publish_at(i, tasks, options), "");
    }
  }
  std::string publish_at(int i, const std::vector<int>& tasks,
                         const std::function<void(v1::PortConfig&)>& options) {
    const std::vector<std::string> backends = mesh_backends(tasks);
    std::vector<PublishedPort> ports = {published(80, 8080, backends, v1::PortConfig::TCP),
                                        published(80, 8080, backends, v1::PortConfig::UDP),
                                        published(81, 8081, backends, v1::PortConfig::TCP)};
    for (PublishedPort& port : ports) options(port.port);
    return host(i).publish(ports).message();
  }

  std::string tcp(const std::string& from, const std::string& to) { return box_.ask(from, to, 80); }
  std::string udp(const std::string& from, const std::string& to, const std::string& more = "") {
    const std::string host = to.find(':') == std::string::npos ? to : "[" + to + "]";
    return box_.run(from, ask_by_udp(host + ":80" + more));
  }
  // A connection that stays open; say() sends a word and tells whether it came back.
  struct Held {
    std::string fifo;
    std::string out;
  };
  Held hold(const std::string& from, const std::string& to, const std::string& more = "") {
    const Held held{fmt::format("{}/fifo{}", box_.dir(), held_),
                    fmt::format("{}/out{}", box_.dir(), held_)};
    ++held_;
    box_.run("", fmt::format("mkfifo {} && : > {}", held.fifo, held.out));
    box_.start(from, fmt::format("exec socat - TCP:{}:81,connect-timeout=20{} <>{} >{}", to, more,
                                 held.fifo, held.out));
    return held;
  }
  std::string say(const Held& held, const std::string& word) {
    return box_.run(
        "",
        fmt::format("timeout 5 sh -c 'echo {0} > {1}'; for i in $(seq 300); do grep -q {0} {2} && "
                    "echo heard && exit; busybox usleep 10000; done",
                    word, held.fifo, held.out));
  }

  Sandbox box_;
  MeshNet net_{box_};
  std::vector<std::unique_ptr<MeshHost>> hosts_;
  int held_ = 0;
};

}  // namespace muster::overlay::testing
