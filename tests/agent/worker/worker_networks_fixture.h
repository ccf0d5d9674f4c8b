#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {

// A netd that has all in force at once, and writes down what it hears.
class QuickNames final : public NameServer {
 public:
  explicit QuickNames(std::vector<std::string>& events) : events_(events) {}
  void begin(const std::string&) override {}
  void serve() override {}
  Status attach(const v1::NetdContainer&) override { return {}; }
  void adopt(const v1::NetdContainer&) override {}
  void detach(const std::string&) override {}
  void set_task(const v1::LocalTask& task) override {
    events_.push_back("names " + v1::EndpointState_Name(task.endpoint_state()));
  }
  void forget_task(const std::string&) override {}
  void apply(const overlay::NetworkStep& step) override {
    events_.push_back("names of " + step.network_id);
  }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    strand.after(delay, std::move(next));
  }
  Duration delay = 1ms;

 private:
  std::vector<std::string>& events_;
};

// s1, port 8080 of the mesh to 80.
inline v1::NetworkService published_service() {
  v1::NetworkService service;
  service.set_service_id("s1");
  v1::PortConfig& port = *service.add_ports();
  port.set_mode(v1::PortConfig::INGRESS);
  port.set_published_port(8080);
  port.set_target_port(80);
  return service;
}

class WorkerNetworksTest : public WorkerTest {
 protected:
  WorkerNetworksTest() { driver_ = "overlay"; }
  NameServer* names() override { return &names_; }

  v1::NetworkEndpoint far(const std::string& task, v1::EndpointState state = v1::ENDPOINT_READY) {
    v1::NetworkEndpoint out;
    out.set_task_id(task);
    out.set_service_id("s1");
    out.set_node_id("node2");
    out.add_addresses("10.0.0.9");
    out.set_state(state);
    return out;
  }
  // One of this node.
  v1::NetworkEndpoint own(const std::string& task, v1::EndpointState state) {
    v1::NetworkEndpoint out = far(task, state);
    out.set_node_id("node1");
    out.set_addresses(0, "10.0.0.2");
    return out;
  }
  // The managers tell of a network.
  void tell(const std::string& id, uint64_t version, bool complete,
            const std::vector<v1::NetworkEndpoint>& endpoints,
            const std::vector<v1::NetworkService>& services = {}) {
    v1::NetworkFeed feed;
    if (complete) {
      feed.mutable_network()->set_id(id);
      feed.mutable_network()->mutable_spec()->set_driver(driver_);
      feed.mutable_network()->mutable_spec()->set_ingress(id == "mesh");
    }
    for (const auto& endpoint : endpoints) *feed.add_endpoints() = endpoint;
    for (const auto& service : services) *feed.add_services() = service;
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
    step.mutable_feed()->set_network_id(id);
    step.set_version(version);
    step.set_complete(complete);
    step.set_network(feed.SerializeAsString());
    worker_->apply(step);
  }
  void run_task() {
    worker_->apply(feed({task("t1")}));
    tell("n1", 5, true, {far("t2")});
    world_.advance(50ms);
    ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  }
  size_t at(const std::string& text, size_t from = 0) {
    for (size_t i = from; i < events_.size(); ++i) {
      if (events_[i] == text) return i;
    }
    ADD_FAILURE() << text << " is not in " << testing::PrintToString(events_);
    return events_.size();
  }
  // The state that the kernel was told last of a task.
  v1::EndpointState told(const std::string& task) {
    v1::EndpointState out = v1::ENDPOINT_ABSENT;
    for (const overlay::NetworkStep& step : network_.steps) {
      for (const auto& endpoint : step.feed.endpoints()) {
        if (endpoint.task_id() == task) out = endpoint.state();
      }
    }
    return out;
  }

  std::vector<std::string>& events_ = runtime_.events;
  QuickNames names_{events_};
};

}  // namespace muster::agent
