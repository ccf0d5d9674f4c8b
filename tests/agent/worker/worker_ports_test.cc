// Published ports that netd relays, those that are taken, and who hides whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
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
  std::set<std::string> failed_relays() override { return failed; }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    strand.after(1ms, std::move(next));
  }
  std::vector<std::string> relays;
  std::set<std::string> failed;
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
  names_.failed = {"tcp/8080", "tcp/9090/::1"};
  tell(1, [](v1::PortConfig& port) { port.set_proxy_protocol(2); });
  EXPECT_THAT(limitations_, ElementsAre("port 8080/tcp is taken by another program of this host"));
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("mesh", 1)));
  names_.failed.clear();
  world_.advance(11s);
  EXPECT_THAT(limitations_, IsEmpty());
}

TEST_F(WorkerPortsTest, ThatNobodyCanListenAtTheLoopbackOfIPv6IsNoTrouble) {
  names_.failed = {"tcp/8080/::1"};
  tell(1, [](v1::PortConfig&) {});
  EXPECT_THAT(limitations_, IsEmpty());
}

}  // namespace
}  // namespace muster::agent
