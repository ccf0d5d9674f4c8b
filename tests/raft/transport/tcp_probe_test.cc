#include "raft/transport/tcp_probe.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>

#include <future>
#include <memory>

namespace muster::raft {
namespace {

// A listening socket on a port of the kernel's choice. What is not accepted stays in its backlog.
class Listener {
 public:
  explicit Listener(int backlog = 16) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_.get(), backlog), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  // Until a connection waits to be accepted.
  void wait_for_caller() const {
    pollfd waiting{fd_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&waiting, 1, 10'000), 1);
  }
  UniqueFd accept() const { return UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }
  UniqueFd connect() const {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    (void)::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    return fd;
  }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

class Asked {
 public:
  explicit Asked(TcpProbe& probe, const std::string& address) : future_(promise_.get_future()) {
    probe.start(address, [this](ProbeResult result) { promise_.set_value(result); });
  }
  ProbeResult result() {
    if (future_.wait_for(10s) != std::future_status::ready) {
      ADD_FAILURE() << "no answer";
      std::abort();
    }
    return future_.get();
  }

 private:
  std::promise<ProbeResult> promise_;
  std::future<ProbeResult> future_;
};

TEST(TcpProbe, NobodyListensIsRefusedAtOnce) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  Listener listener;
  listener.close();
  EXPECT_EQ(Asked(probe, listener.address()).result(), ProbeResult::kRefused);
}

TEST(TcpProbe, AListenerIsAcceptedEvenIfItsProcessDoesNothing) {
  TcpProbe probe({.connect_max = 10s, .watched = 50ms});
  const Listener listener;
  EXPECT_EQ(Asked(probe, listener.address()).result(), ProbeResult::kAccepted);
}

TEST(TcpProbe, AListenerThatIsClosedWithTheConnectionUnacceptedIsAReset) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  Listener listener;
  Asked asked(probe, listener.address());
  listener.wait_for_caller();
  listener.close();
  EXPECT_EQ(asked.result(), ProbeResult::kRefused);
}

TEST(TcpProbe, AConnectionThatEndsAtOnceIsTriedAgain) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  Listener listener;
  Asked asked(probe, listener.address());
  UniqueFd taken = listener.accept();
  listener.close();
  taken.reset();  // an end, not a reset: it may have been a server that is busy
  EXPECT_EQ(asked.result(), ProbeResult::kRefused);
}

TEST(TcpProbe, AConnectionThatIsResetWhileOthersAreAcceptedIsNoRefusal) {
  TcpProbe probe({.connect_max = 10s, .watched = 50ms});
  const Listener listener;
  Asked asked(probe, listener.address());
  UniqueFd taken = listener.accept();
  const linger hard{1, 0};
  setsockopt(taken.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  taken.reset();
  EXPECT_EQ(asked.result(), ProbeResult::kAccepted);
}

TEST(TcpProbe, ResetTimeAfterTimeIsARefusal) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  const Listener listener;
  Asked asked(probe, listener.address());
  for (int i = 0; i < 3; ++i) {
    UniqueFd taken = listener.accept();
    const linger hard{1, 0};
    setsockopt(taken.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    taken.reset();
  }
  EXPECT_EQ(asked.result(), ProbeResult::kRefused);
}

TEST(TcpProbe, NoAnswerInTimeIsNone) {
  TcpProbe probe({.connect_max = 300ms, .watched = 1h});
  // A full backlog: the kernel drops what comes, as a broken link would.
  const Listener listener(0);
  const UniqueFd first = listener.connect();
  const UniqueFd second = listener.connect();
  Asked asked(probe, listener.address());
  Asked other(probe, listener.address());
  EXPECT_EQ(asked.result(), ProbeResult::kUnknown);
  EXPECT_EQ(other.result(), ProbeResult::kUnknown);
}

TEST(TcpProbe, NamesAreNotResolved) {
  TcpProbe probe({});
  EXPECT_EQ(Asked(probe, "localhost:1").result(), ProbeResult::kUnknown);
  EXPECT_EQ(Asked(probe, "127.0.0.1").result(), ProbeResult::kUnknown);
  EXPECT_EQ(Asked(probe, "").result(), ProbeResult::kUnknown);
}

// Whoever asked may be kept by his question.
TEST(TcpProbe, WhatWaitsToBeAskedIsDroppedWithStop) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  Listener nobody;
  nobody.close();
  // The probe's thread stands in an answer while more is asked and it is stopped.
  std::promise<void> standing;
  std::promise<void> go_on;
  probe.start(nobody.address(), [&](ProbeResult) {
    standing.set_value();
    go_on.get_future().wait();
  });
  standing.get_future().wait();
  const auto question = [&] {
    auto kept = std::make_shared<int>(0);
    const std::weak_ptr<int> weak = kept;
    probe.start(nobody.address(), [kept = std::move(kept)](ProbeResult) {});
    return weak;
  };
  const std::weak_ptr<int> asked = question();
  EXPECT_FALSE(asked.expired());
  auto stopped = std::async(std::launch::async, [&] { probe.stop(); });
  while (!question().expired()) std::this_thread::yield();  // refused: it is stopping
  go_on.set_value();
  stopped.get();
  EXPECT_TRUE(asked.expired());
}

TEST(TcpProbe, AFailingPollAnswersAndGoesOn) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  const Listener listener;
  Asked first(probe, listener.address());
  listener.wait_for_caller();
  // The kernel looks at no more descriptors than may be open.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  Asked second(probe, listener.address());
  const ProbeResult got[] = {first.result(), second.result()};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(got[0], ProbeResult::kUnknown);
  EXPECT_EQ(got[1], ProbeResult::kUnknown);
  Listener nobody;
  nobody.close();
  EXPECT_EQ(Asked(probe, nobody.address()).result(), ProbeResult::kRefused);
}

TEST(TcpProbe, NothingIsToldAfterStop) {
  TcpProbe probe({.connect_max = 1h, .watched = 1h});
  const Listener listener;
  bool told = false;
  probe.start(listener.address(), [&](ProbeResult) { told = true; });
  probe.stop();
  probe.start(listener.address(), [&](ProbeResult) { told = true; });
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace muster::raft
