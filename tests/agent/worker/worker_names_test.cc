// What the worker tells the resolver, and when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "agent/worker/container_plan.h"
#include "agent/worker/worker.h"
#include "base/file.h"
#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

// Takes `delay` to have in force what it is told.
class FakeNames final : public NameServer {
 public:
  explicit FakeNames(std::vector<std::string>& events) : events_(events) {}

  void begin(const std::string& node_id) override { events_.push_back("begin " + node_id); }
  void serve() override { events_.push_back("serve"); }
  Status attach(const v1::NetdContainer& container) override {
    containers[container.id()] = container;
    return attach_error;
  }
  void adopt(const v1::NetdContainer& container) override {
    containers[container.id()] = container;
    events_.push_back("adopt");
  }
  void detach(const std::string& id) override {
    containers.erase(id);
    events_.push_back("detach");
  }
  void set_task(const v1::LocalTask& task) override {
    hostnames[task.assignment().task().id()] = task.status().container().hostname();
    events_.push_back("names " + v1::EndpointState_Name(task.endpoint_state()));
  }
  void forget_task(const std::string& id) override {
    hostnames.erase(id);
    events_.push_back("forget");
  }
  void apply(const overlay::NetworkStep& step) override {
    events_.push_back("feed " + step.network_id);
  }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    strand.after(delay, [this, next = std::move(next)]() mutable {
      events_.push_back("in force");
      next();
    });
  }

  Duration delay = 5ms;
  Status attach_error;
  std::map<std::string, v1::NetdContainer> containers;
  std::map<std::string, std::string> hostnames;  // by task

 private:
  std::vector<std::string>& events_;
};

class WorkerNamesTest : public WorkerTest {
 protected:
  WorkerNamesTest() {
    v1::ContainerSpec& container = *revision_.mutable_spec()->mutable_container();
    container.set_hostname("box-{{.Task.Slot}}");
    container.mutable_dns()->add_nameservers("192.0.2.1");
  }
  NameServer* names() override { return &names_; }
  void assign(v1::TaskState desired) { worker_->apply(feed({task("t1", desired)})); }
  // The place of the first event with this text from `from` on.
  size_t at(const std::string& text, size_t from = 0) {
    for (size_t i = from; i < events_.size(); ++i) {
      if (events_[i] == text) return i;
    }
    ADD_FAILURE() << text << " is not in " << testing::PrintToString(events_);
    return events_.size();
  }

  std::vector<std::string>& events_ = runtime_.events;
  FakeNames names_{events_};
};

TEST_F(WorkerNamesTest, AContainerGetsItsResolverBeforeItStarts) {
  assign(v1::TASK_RUNNING);
  world_.advance(100ms);
  EXPECT_EQ(last_["t1"].status().state(), v1::TASK_RUNNING);
  ASSERT_EQ(names_.containers.size(), 1u);
  const v1::NetdContainer& container = names_.containers.begin()->second;
  EXPECT_EQ(container.namespace_path(), "/netns/" + container.id());
  EXPECT_THAT(container.network_ids(), ElementsAre("n1"));
  EXPECT_THAT(container.nameservers(), ElementsAre("192.0.2.1"));
  EXPECT_FALSE(container.internal());
  EXPECT_EQ(names_.hostnames["t1"], "box-1");
  at("names ENDPOINT_READY");
  const auto text =
      read_file(runtime_.containers[container.id()].request.resolv_conf_file, 1 << 16);
  ASSERT_TRUE(text);
  EXPECT_THAT(*text, HasSubstr("nameserver 127.0.0.11\noptions ndots:0\n"));
}

TEST_F(WorkerNamesTest, NamesLeadNowhereBeforeTheStopSignal) {
  assign(v1::TASK_RUNNING);
  world_.advance(100ms);
  const size_t running = events_.size();
  assign(v1::TASK_SHUTDOWN);
  world_.advance(100ms);
  const size_t draining = at("names ENDPOINT_RELEASED", running);
  const size_t in_force = at("in force", draining);
  EXPECT_LT(in_force, at("signal 2", running));
  at("forget", in_force);
  at("detach", in_force);
  EXPECT_TRUE(names_.containers.empty());
  EXPECT_TRUE(names_.hostnames.empty());
}

TEST_F(WorkerNamesTest, WithoutAResolverTheTaskIsRefused) {
  names_.attach_error = failed_precondition("name resolution: no nftables");
  assign(v1::TASK_RUNNING);
  world_.advance(100ms);
  EXPECT_EQ(last_["t1"].status().state(), v1::TASK_REJECTED);
  EXPECT_THAT(last_["t1"].status().error(), HasSubstr("no nftables"));
  EXPECT_TRUE(names_.containers.empty());
}

TEST_F(WorkerNamesTest, ASuccessorTellsOfWhatRuns) {
  assign(v1::TASK_RUNNING);
  world_.advance(100ms);
  const auto before = names_.containers;
  names_.containers.clear();
  names_.hostnames.clear();
  events_.clear();
  restart();
  EXPECT_EQ(events_.at(0), "begin node1");
  const size_t serve = at("serve");
  EXPECT_LT(at("adopt"), serve);
  EXPECT_LT(at("names ENDPOINT_READY"), serve);
  ASSERT_EQ(names_.containers.size(), 1u);
  EXPECT_EQ(names_.containers.begin()->second.SerializeAsString(),
            before.begin()->second.SerializeAsString());
  EXPECT_EQ(names_.hostnames["t1"], "box-1");
}

TEST_F(WorkerNamesTest, AContainerOfAnOlderMusterKeepsWhatItHas) {
  assign(v1::TASK_RUNNING);
  world_.advance(100ms);
  const std::string id = names_.containers.begin()->first;
  fs::remove(worker_->paths().container(id) + "/resolver");
  names_.containers.clear();
  restart();
  EXPECT_TRUE(names_.containers.empty());
}

TEST_F(WorkerNamesTest, FeedsAreHandedOn) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
  step.mutable_feed()->set_network_id("n1");
  worker_->apply(step);
  EXPECT_THAT(events_, Contains("feed n1"));
}

TEST(ResolverConfTest, SearchAndOptions) {
  v1::DnsConfig dns;
  const std::string host = "nameserver 10.0.0.53\nsearch corp.example\noptions rotate\n";
  EXPECT_EQ(resolver_conf_text(dns, host),
            "search corp.example\nnameserver 127.0.0.11\noptions ndots:0\n");
  EXPECT_EQ(resolver_conf_text(dns, ""), "nameserver 127.0.0.11\noptions ndots:0\n");
  dns.add_search("a.example");
  dns.add_search("b.example");
  dns.add_options("timeout:1");
  dns.add_nameservers("192.0.2.1");
  EXPECT_EQ(resolver_conf_text(dns, host),
            "search a.example b.example\nnameserver 127.0.0.11\noptions ndots:0 timeout:1\n");
  dns.add_options("ndots:2");
  EXPECT_EQ(resolver_conf_text(dns, host),
            "search a.example b.example\nnameserver 127.0.0.11\noptions timeout:1 ndots:2\n");
  dns.clear_search();
  dns.add_search(".");
  EXPECT_EQ(resolver_conf_text(dns, host), "nameserver 127.0.0.11\noptions timeout:1 ndots:2\n");
}

TEST(PlanResolverTest, NetworksInTheirOrderWithoutTheMesh) {
  NetworkPlan plan;
  for (const char* id : {"back", "mesh", "front"}) {
    overlay::ContainerLink link;
    link.network.set_id(id);
    link.network.mutable_spec()->set_internal(true);
    link.network.mutable_spec()->set_ingress(std::string(id) == "mesh");
    plan.links.push_back(link);
  }
  EXPECT_THAT(plan_resolver(plan, {}).network_ids(), ElementsAre("back", "front"));
  EXPECT_TRUE(plan_resolver(plan, {}).internal());
  // What the mesh brings in lets nothing out.
  plan.links[1].network.mutable_spec()->set_internal(false);
  EXPECT_TRUE(plan_resolver(plan, {}).internal());
  plan.links[2].network.mutable_spec()->set_internal(false);
  EXPECT_FALSE(plan_resolver(plan, {}).internal());
  // Unless there is nothing else.
  plan.links = {plan.links[1]};
  EXPECT_FALSE(plan_resolver(plan, {}).internal());
}

}  // namespace
}  // namespace muster::agent
