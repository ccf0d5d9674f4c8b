#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/session/session.h"
#include "base/sim_executor.h"

namespace muster::agent {

inline v1::FeedUpdate tasks_step(uint64_t base, uint64_t version, bool complete, bool last = true) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::TASKS);
  step.set_base_version(base);
  step.set_version(version);
  step.set_complete(complete);
  step.set_last(last);
  return step;
}

inline v1::TaskStatusUpdate running(const std::string& task) {
  v1::TaskStatusUpdate update;
  update.set_task_id(task);
  update.mutable_status()->set_state(v1::TASK_RUNNING);
  return update;
}
// A manager that the test plays by hand.
class FakeLinks final : public LinkFactory {
 public:
  struct Link final : ManagerLink {
    explicit Link(FakeLinks& owner) : owner(owner) {}
    ~Link() override { owner.live = nullptr; }
    void send(const v1::AgentMessage& message) override { owner.sent.push_back(message); }
    void close_after_writes() override { owner.closing = true; }
    FakeLinks& owner;
  };
  std::unique_ptr<ManagerLink> open(const std::string& address, LinkEvents e) override {
    events = std::move(e);
    ++opened;
    asked.push_back(address);
    auto link = std::make_unique<Link>(*this);
    live = link.get();
    return link;
  }
  void end(v1::SessionEnd::Reason reason, const std::vector<std::string>& managers = {}) {
    v1::ManagerMessage message;
    message.mutable_end()->set_reason(reason);
    message.mutable_end()->set_message("ended");
    for (const auto& address : managers) message.mutable_end()->add_manager_addrs(address);
    events.received(message);
  }
  void welcome(const std::vector<std::string>& managers = {}) {
    v1::ManagerMessage message;
    message.mutable_welcome()->set_session_id("s1");
    for (const auto& address : managers) message.mutable_welcome()->add_manager_addrs(address);
    message.mutable_welcome()->set_heartbeat_period_ns(Duration(1s).count());
    events.received(message);
  }
  int count(v1::AgentMessage::MessageCase kind) const {
    int n = 0;
    for (const auto& message : sent) n += message.message_case() == kind ? 1 : 0;
    return n;
  }

  LinkEvents events;
  Link* live = nullptr;
  int opened = 0;
  std::vector<std::string> asked;
  bool closing = false;
  std::vector<v1::AgentMessage> sent;
};

class RecordingSink final : public FeedSink {
 public:
  void apply(const v1::FeedUpdate& step) override { steps.push_back(step); }
  void node_removed(const std::string& why) override { removed = why; }
  void certificate_outdated(const std::string& why) override { outdated.push_back(why); }
  void identity_shared(const std::string& why) override { shared = why; }
  void no_session(const std::string& why) override { alone.push_back(why); }
  void managers_known(const std::vector<std::string>& addresses) override { managers = addresses; }
  std::vector<v1::FeedUpdate> steps;
  std::string removed;
  std::string shared;
  std::vector<std::string> outdated;
  std::vector<std::string> alone;
  std::vector<std::string> managers;
};

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(std::vector<std::string> managers = {"a:1"})
      : session_({strand_, links_, sink_, rng_, null_log()}, {}, managers) {}

  SimWorld world_;
  SimExecutor strand_{world_};
  FakeLinks links_;
  RecordingSink sink_;
  SeededRng rng_{1};
  Session session_;
};

class ManyManagers : public SessionTest {
 protected:
  ManyManagers() : SessionTest({"a:1", "b:1", "c:1"}) {}
  void SetUp() override { session_.start(); }
  // Of all that there are but one.
  bool other_than(const std::string& address) const {
    return !links_.asked.empty() && links_.asked.back() != address;
  }
};

}  // namespace muster::agent
