#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "manager/dispatcher/dispatcher.h"

namespace muster::manager::dispatcher {

// The agent's side of a session: everything that was sent to it.
class FakeConnection final : public AgentConnection {
 public:
  void send(std::shared_ptr<const std::string> message) override {
    v1::ManagerMessage parsed;
    ASSERT_TRUE(parsed.ParseFromString(*message));
    messages.push_back(std::move(parsed));
  }
  void send_first(std::shared_ptr<const std::string> message) override {
    ++sent_first;
    send(std::move(message));
  }
  size_t queued_bytes() const override { return queued; }
  void close() override { closed = true; }

  std::vector<v1::FeedUpdate> feeds(v1::FeedId::Kind kind) const {
    std::vector<v1::FeedUpdate> out;
    for (const auto& message : messages) {
      if (message.has_feed() && message.feed().feed().kind() == kind) out.push_back(message.feed());
    }
    return out;
  }
  const v1::SessionEnd* end() const {
    return !messages.empty() && messages.back().has_end() ? &messages.back().end() : nullptr;
  }
  // The last one.
  const v1::ClusterFeed* cluster() const {
    const v1::ClusterFeed* last = nullptr;
    for (const auto& m : messages) {
      if (m.has_feed() && m.feed().has_cluster()) last = &m.feed().cluster();
    }
    return last;
  }

  std::vector<v1::ManagerMessage> messages;
  size_t queued = 0;
  int sent_first = 0;
  bool closed = false;
};

class FakeProbe final : public HostProbe {
 public:
  void probe(const std::string&, std::function<void(ProbeResult)> done) override { done(answer); }
  ProbeResult answer = ProbeResult::kUnreachable;
};

}  // namespace muster::manager::dispatcher
