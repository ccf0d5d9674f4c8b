// Published ports that netd relays, those that are taken, and who hides whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Writes down the relays it is told, among what the kernel is told.
class RelayNames final : public NameServer {
 public:
  explicit RelayNames(std::vector<std::string>& events) : events_(events) {}
  void begin(const std::string&) override {}
  void serve() override {}
  Status attach(const v1::NetdContainer&) override { return {}; }
  void adopt(const v1::NetdContainer&) override {}
  void detach(const std::string&) override {}
  void set_task(const v1::LocalTask&) override {}
  void forget_task(const std::string&) override {}
  void apply(const overlay::NetworkStep&) override {}
  void set_relays(const std::vector<v1::NetdRelay>& now, bool again) override {
    relays.clear();
    std::string text = "relays";
    for (const v1::NetdRelay& relay : now) {
      relays.push_back(relay.id());
      for (const auto& backend : relay.backends()) relays.back() += " " + backend;
      text += " " + relay.id();
    }
    events_.push_back(text);
    told_again = told_again || again;
  }
  std::map<std::string, std::string> failed_relays() override { return failed; }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    strand.after(1ms, std::move(next));
  }
  std::vector<std::string> relays;
  std::map<std::string, std::string> failed;
  bool told_again = false;

 private:
  std::vector<std::string>& events_;
};

class WorkerPortsTest : public WorkerTest {
 protected:
  WorkerPortsTest() {
    driver_ = "overlay";
    mesh_ = true;
  }
  NameServer* names() override { return &names_; }

  // The managers tell of a service with this port and a task elsewhere.
  void tell(uint64_t version, const std::function<void(v1::PortConfig&)>& options) {
    v1::NetworkFeed feed;
    feed.mutable_network()->set_id("mesh");
    feed.mutable_network()->mutable_spec()->set_driver("overlay");
    feed.mutable_network()->mutable_spec()->set_ingress(true);
    v1::NetworkEndpoint& task = *feed.add_endpoints();
    task.set_task_id("t2");
    task.set_service_id("s1");
    task.set_node_id("node2");
    task.add_addresses("10.0.0.9");
    task.set_state(v1::ENDPOINT_READY);
    v1::NetworkService& service = *feed.add_services();
    service.set_service_id("s1");
    v1::PortConfig& port = *service.add_ports();
    port.set_published_port(8080);
    port.set_target_port(80);
    options(port);
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
    step.mutable_feed()->set_network_id("mesh");
    step.set_version(version);
    step.set_complete(true);
    step.set_network(feed.SerializeAsString());
    worker_->apply(step);
    world_.advance(100ms);
  }
  void run_with_host_port() {
    ports_.clear();
    publish(v1::PortConfig::HOST, 8080);
    worker_->apply(feed({task("t1")}));
    world_.advance(1s);
    ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  }
  std::vector<std::string> since(size_t before) {
    std::vector<std::string> out;
    for (size_t i = before; i < events_.size(); ++i) {
      const std::string& event = events_[i];
      if (event.starts_with("relays") || event.starts_with("ports")) out.push_back(event);
    }
    return out;
  }

  std::vector<std::string>& events_ = runtime_.events;
  RelayNames names_{events_};
};

TEST_F(WorkerPortsTest, APortWithAHeaderPassesFromTheKernelToNetdAndBack) {
  tell(1, [](v1::PortConfig&) {});
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_THAT(names_.relays, ElementsAre("tcp/8080/::1 127.0.0.1:8080"));
  size_t before = events_.size();
  tell(2, [](v1::PortConfig& port) { port.set_proxy_protocol(1); });
  EXPECT_THAT(network_.published, IsEmpty());
  EXPECT_THAT(names_.relays, ElementsAre("tcp/8080 10.0.0.9:80"));
  // Nobody asks for a port before the other has let go of it.
  EXPECT_THAT(since(before), ElementsAre("relays", "ports 0", "relays tcp/8080"));
  before = events_.size();
  tell(3, [](v1::PortConfig&) {});
  EXPECT_THAT(since(before), ElementsAre("relays", "ports 1", "relays tcp/8080/::1"));
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("mesh", 3)));
}

TEST_F(WorkerPortsTest, ALocalPortLeadsNowhereWithoutATaskOfThisNode) {
  tell(1, [](v1::PortConfig& port) { port.set_local(true); });
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_THAT(network_.published[0].backends, IsEmpty());
  EXPECT_THAT(names_.relays, IsEmpty());
}

TEST_F(WorkerPortsTest, AClusterThatIsTooLargeHidesClientsWherePortsDoNotSayOtherwise) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::CLUSTER);
  step.set_complete(true);
  step.mutable_cluster()->set_masquerade(true);
  tell(1, [](v1::PortConfig&) {});
  EXPECT_EQ(network_.published[0].port.client_address(), v1::PortConfig::AUTOMATIC);
  worker_->apply(step);
  world_.advance(100ms);
  EXPECT_EQ(network_.published[0].port.client_address(), v1::PortConfig::MASQUERADE);
  tell(2, [](v1::PortConfig& port) { port.set_client_address(v1::PortConfig::KEEP); });
  EXPECT_EQ(network_.published[0].port.client_address(), v1::PortConfig::KEEP);
}

TEST_F(WorkerPortsTest, ATakenPortIsToldWithoutATaskToTellIt) {
  network_.taken.insert(8080);
  tell(1, [](v1::PortConfig&) {});
  EXPECT_THAT(limitations_, ElementsAre("port 8080/tcp is taken by another program of this host"));
  network_.taken.clear();
  world_.advance(11s);
  EXPECT_THAT(limitations_, IsEmpty());
}

TEST_F(WorkerPortsTest, APortThatNetdCannotHaveIsToldLikeOneTheKernelCannot) {
  names_.failed = {{"tcp/8080", "port 8080/tcp is in use on this node"},
                   {"tcp/9090/::1", "port 9090/tcp is in use on this node"}};
  tell(1, [](v1::PortConfig& port) { port.set_proxy_protocol(2); });
  EXPECT_THAT(limitations_, ElementsAre("port 8080/tcp is taken by another program of this host"));
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("mesh", 1)));
  names_.failed.clear();
  world_.advance(11s);
  EXPECT_THAT(limitations_, IsEmpty());
}

TEST_F(WorkerPortsTest, WhatElseKeepsNetdFromAPortIsToldInItsWords) {
  names_.failed = {{"tcp/8080", "port 8080/tcp: Too many open files"}};
  tell(1, [](v1::PortConfig& port) { port.set_proxy_protocol(2); });
  EXPECT_THAT(limitations_, ElementsAre("published ports are not as they should be here: "
                                        "port 8080/tcp: Too many open files"));
  EXPECT_THAT(worker_->refused_ports(), IsEmpty());
  names_.failed.clear();
  world_.advance(11s);
  EXPECT_THAT(limitations_, IsEmpty());
}

// Where the host has no ::1, netd tells of no failure.
TEST_F(WorkerPortsTest, AProgramAtTheLoopbackOfIPv6IsToldOfAndEndsNoTask) {
  names_.failed = {{"tcp/8080/::1", "port 8080/tcp is in use on this node"}};
  run_with_host_port();
  EXPECT_EQ(last_["t1"].status().message(),
            "started; port 8080/tcp is taken by another program of this host at ::1, and answers "
            "everywhere else (`ss -lntup sport = :8080` tells which)");
  EXPECT_THAT(limitations_, ElementsAre("port 8080/tcp is taken by another program of this host at "
                                        "::1, and answers everywhere else"));
  EXPECT_THAT(worker_->refused_ports(), IsEmpty());
  EXPECT_EQ(worker_->loopback_ports().size(), 1u);
  ASSERT_EQ(network_.published.size(), 1u) << "it answers everywhere else";
  names_.failed.clear();
  world_.advance(11s);
  EXPECT_EQ(last_["t1"].status().message(), "started");
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_THAT(limitations_, IsEmpty());
  EXPECT_THAT(worker_->loopback_ports(), IsEmpty());
}

TEST_F(WorkerPortsTest, WhatTheKernelDoesNotTakeIsNotAcknowledgedAndTriedAgainSoon) {
  const std::pair<std::string, uint64_t> first("mesh", 1), third("mesh", 3), fourth("mesh", 4);
  tell(1, [](v1::PortConfig&) {});
  ASSERT_EQ(applied_.back(), first);
  const size_t before = events_.size();
  network_.ports_error = internal_error("no buffer space");
  tell(2, [](v1::PortConfig& port) { port.set_proxy_protocol(1); });
  EXPECT_EQ(applied_.back(), first);
  EXPECT_THAT(limitations_,
              ElementsAre("published ports are not as they should be here: no buffer space"));
  // The same ports as before: those, too, are not in force.
  tell(3, [](v1::PortConfig& port) { port.set_proxy_protocol(1); });
  EXPECT_EQ(applied_.back(), first);
  world_.advance(60s);
  EXPECT_EQ(applied_.back(), first);
  const auto since_then = since(before);
  EXPECT_LT(since_then.size(), 20u) << "it is not tried without a pause";
  EXPECT_EQ(std::count(since_then.begin(), since_then.end(), "relays tcp/8080"), 0)
      << "netd is to have what the kernel has given up";
  network_.ports_error = {};
  world_.advance(11s);
  EXPECT_EQ(applied_.back(), third);
  EXPECT_THAT(names_.relays, ElementsAre("tcp/8080 10.0.0.9:80"));
  EXPECT_THAT(limitations_, IsEmpty());
  // A failure that passes.
  network_.ports_error = internal_error("no buffer space");
  tell(4, [](v1::PortConfig&) {});
  EXPECT_EQ(applied_.back(), third);
  network_.ports_error = {};
  world_.advance(300ms);
  EXPECT_EQ(applied_.back(), fourth);
}

TEST_F(WorkerPortsTest, WhatNetdGaveUpInVainItGetsBack) {
  const auto proxied = [](v1::PortConfig& port) { port.set_proxy_protocol(1); };
  tell(1, proxied);
  ASSERT_THAT(names_.relays, ElementsAre("tcp/8080 10.0.0.9:80"));
  network_.ports_error = internal_error("no buffer space");
  tell(2, [](v1::PortConfig&) {});  // the kernel's from now on
  EXPECT_THAT(names_.relays, IsEmpty());
  tell(3, proxied);
  network_.ports_error = {};
  world_.advance(11s);
  EXPECT_THAT(names_.relays, ElementsAre("tcp/8080 10.0.0.9:80"));
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("mesh", 3)));
}

TEST_F(WorkerPortsTest, ATaskThatStopsWaitsForPortsThatTheKernelDoesNotTakeButNotForever) {
  const auto signalled = [&] {
    return std::any_of(events_.begin(), events_.end(),
                       [](const std::string& event) { return event.starts_with("signal"); });
  };
  for (const bool passes : {true, false}) {
    events_.clear();
    run_with_host_port();
    network_.ports_error = internal_error("no buffer space");
    worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}));
    world_.advance(1500ms);
    EXPECT_FALSE(signalled()) << "connections are still led to it";
    if (passes) network_.ports_error = {};
    world_.advance(1s);
    EXPECT_TRUE(signalled()) << passes;
    network_.ports_error = {};
    worker_->apply(feed({}));
    world_.advance(11s);
    EXPECT_THAT(network_.published, IsEmpty());
  }
}

TEST_F(WorkerPortsTest, WhoLeavesDoesNotWaitForeverForPortsThatTheKernelDoesNotTake) {
  run_with_host_port();
  network_.ports_error = internal_error("no buffer space");
  bool left = false;
  worker_->leave([&] { left = true; });
  world_.advance(30s);
  EXPECT_TRUE(left);
  const size_t before = events_.size();
  world_.advance(30s);
  EXPECT_THAT(since(before), IsEmpty()) << "nothing is told to the kernel after that";
}

}  // namespace
}  // namespace muster::agent
