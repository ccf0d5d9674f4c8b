// Datagrams that are relayed, with real sockets of loopback: the loop runs on this thread, peers
// are played between its turns.
#include "overlay/dns/netd/relay_datagrams.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "overlay/dns/netd/relay_sockets.h"
#include "overlay/dns/netd/relays.h"

namespace muster::overlay::dns {
namespace {

constexpr Duration kPatience = 20s;

struct Datagram {
  std::string text;
  SocketAddress from;
};

// One that shares its port with nobody, at a loopback address.
UniqueFd server_at(bool v6 = false) {
  UniqueFd fd(
      socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP));
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_addr = in6addr_loopback;
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto* place =
      v6 ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
  EXPECT_EQ(bind(fd.get(), place, v6 ? sizeof six : sizeof four), 0);
  return fd;
}
std::string place_of(const UniqueFd& fd) {
  return text_of(original_destination(fd.get()));
}

class RelayDatagramsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EXPECT_TRUE(loop_.open().ok());
    relays_ = std::make_unique<Relays>(loop_, null_log());
    at_ = place_of(server_at(true));  // nobody has it any more
  }

  // Lets the loop turn until it holds; false after kPatience.
  bool until(const std::function<bool()>& holds) {
    const TimePoint end = loop_.now() + kPatience;
    while (!holds()) {
      if (loop_.now() > end) return false;
      loop_.after(1ms, [this] { loop_.stop(); });
      if (!loop_.run().ok()) return false;
    }
    return true;
  }
  std::optional<Datagram> next_at(const UniqueFd& fd) {
    char buffer[256];
    Datagram out;
    const ssize_t size = receive_from(fd.get(), buffer, sizeof buffer, out.from);
    if (size < 0) return std::nullopt;
    out.text.assign(buffer, static_cast<size_t>(size));
    return out;
  }
  Datagram at(const UniqueFd& fd) {
    std::optional<Datagram> out;
    EXPECT_TRUE(until([&] {
      out = next_at(fd);
      return out.has_value();
    })) << "nothing came";
    return out.value_or(Datagram{});
  }
  UniqueFd client_of(const std::string& place) {
    auto fd = connect_datagrams(parse_listen_address(place)->at);
    EXPECT_TRUE(fd);
    return fd ? *std::move(fd) : UniqueFd();
  }
  void say(const UniqueFd& fd, std::string_view text) {
    EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  void answer(const UniqueFd& fd, const Datagram& to, std::string_view text) {
    EXPECT_EQ(send_to(fd.get(), text.data(), text.size(), to.from),
              static_cast<ssize_t>(text.size()));
  }
  v1::NetdRelay relay(const std::vector<const UniqueFd*>& backends) const {
    v1::NetdRelay out;
    out.set_id("udp/80/::1");
    out.add_listen(at_);
    for (const UniqueFd* backend : backends) out.add_backends(place_of(*backend));
    return out;
  }

  EventLoop loop_;
  std::unique_ptr<Relays> relays_;
  std::string at_;  // where the relay is
};

TEST_F(RelayDatagramsTest, EachClientHasAFlowOfItsOwnAndGetsItsOwnAnswers) {
  const UniqueFd server = server_at();
  ASSERT_TRUE(relays_->set(relay({&server})).ok());
  // Each takes answers from the address alone that it sends to.
  const UniqueFd one = client_of(at_);
  const UniqueFd two = client_of(at_);
  say(one, "one");
  const Datagram first = at(server);
  say(two, "two");
  const Datagram second = at(server);
  EXPECT_EQ(first.text, "one");
  EXPECT_EQ(second.text, "two");
  EXPECT_NE(first.from, second.from);
  answer(server, second, "to two");
  answer(server, first, "to one");
  EXPECT_EQ(at(one).text, "to one");
  EXPECT_EQ(at(two).text, "to two");
  say(one, "");  // an empty one is one, too
  const Datagram again = at(server);
  EXPECT_EQ(again.text, "");
  EXPECT_EQ(again.from, first.from) << "the server takes it for the same client";
  EXPECT_EQ(relays_->flows(), 2u);
}

TEST_F(RelayDatagramsTest, TheLargestDatagramPasses) {
  const UniqueFd server = server_at(true);
  ASSERT_TRUE(relays_->set(relay({&server})).ok());
  const UniqueFd client = client_of(at_);
  const std::string large(65527, 'x');  // of UDP over IPv6
  say(client, large);
  std::string got(70000, '\0');
  ssize_t size = -1;
  EXPECT_TRUE(until([&] {
    size = recv(server.get(), got.data(), got.size(), 0);
    return size >= 0;
  }));
  EXPECT_EQ(size, static_cast<ssize_t>(large.size()));
}

TEST_F(RelayDatagramsTest, BackendsAreTakenInTurnAndAClientStaysWithItsOwn) {
  const UniqueFd a = server_at();
  const UniqueFd b = server_at();
  ASSERT_TRUE(relays_->set(relay({&a, &b})).ok());
  const UniqueFd one = client_of(at_);
  const UniqueFd two = client_of(at_);
  say(one, "1");
  std::optional<Datagram> at_a;
  std::optional<Datagram> at_b;
  const auto look = [&] {
    if (!at_a) at_a = next_at(a);
    if (!at_b) at_b = next_at(b);
    return at_a.has_value() || at_b.has_value();
  };
  ASSERT_TRUE(until(look));
  const bool first_is_a = at_a.has_value();
  say(two, "2");
  EXPECT_EQ(at(first_is_a ? b : a).text, "2") << "the other's turn";
  say(one, "3");
  EXPECT_EQ(at(first_is_a ? a : b).text, "3");
}

TEST_F(RelayDatagramsTest, WhomNobodyAnswersIsLedToAnother) {
  UniqueFd gone = server_at();
  const UniqueFd server = server_at();
  const v1::NetdRelay both = relay({&gone, &server});
  gone.reset();
  ASSERT_TRUE(relays_->set(both).ok());
  const UniqueFd client = client_of(at_);
  // The first may be lost: that nobody is there is known only then.
  EXPECT_TRUE(until([&] {
    say(client, "hello");
    return next_at(server).has_value();
  }));
}

TEST_F(RelayDatagramsTest, AFlowEndsWithItsBackendAndOthersGoOn) {
  const UniqueFd a = server_at();
  const UniqueFd b = server_at();
  ASSERT_TRUE(relays_->set(relay({&a})).ok());
  const UniqueFd client = client_of(at_);
  say(client, "1");
  const Datagram at_a = at(a);
  ASSERT_TRUE(relays_->set(relay({&a, &b})).ok());
  say(client, "2");
  EXPECT_EQ(at(a).from, at_a.from) << "one more backend is nothing to it";
  ASSERT_TRUE(relays_->set(relay({&b})).ok());
  EXPECT_EQ(relays_->flows(), 0u);
  say(client, "3");
  EXPECT_EQ(at(b).text, "3");
  relays_->remove("udp/80/::1");
  EXPECT_EQ(relays_->flows(), 0u);
  EXPECT_TRUE(relays_->empty());
}

TEST_F(RelayDatagramsTest, WhatHasComeBeforeTheRelayEndsIsLed) {
  const UniqueFd server = server_at();
  ASSERT_TRUE(relays_->set(relay({&server})).ok());
  const UniqueFd client = client_of(at_);
  say(client, "last");
  relays_->remove("udp/80/::1");
  EXPECT_EQ(at(server).text, "last");
}

TEST_F(RelayDatagramsTest, APortThatIsTakenIsToldOfAndHadWhenItIsFree) {
  UniqueFd holder = server_at(true);
  at_ = place_of(holder);
  const UniqueFd server = server_at();
  const Status taken = relays_->set(relay({&server}));
  EXPECT_EQ(taken.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(taken.message(), ::testing::HasSubstr("/udp is in use on this node"));
  holder.reset();
  const UniqueFd client = client_of(at_);
  EXPECT_TRUE(until([&] {
    send(client.get(), "x", 1, MSG_NOSIGNAL);  // refused until then
    return next_at(server).has_value();
  }));
}

TEST_F(RelayDatagramsTest, ASuccessorGoesOnWithTheFlows) {
  const UniqueFd server = server_at();
  const v1::NetdRelay record = relay({&server});
  ASSERT_TRUE(relays_->set(record).ok());
  const UniqueFd client = client_of(at_);
  say(client, "before");
  const Datagram before = at(server);
  std::vector<HandedRelay> listeners;
  std::vector<HandedRelay> others;
  for (const HandedRelay& handed : relays_->hand_over()) {
    HandedRelay& copy = (is_listener(handed) ? listeners : others).emplace_back();
    copy.text = handed.text;
    for (const int fd : handed.descriptors) {
      copy.owned.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }
  }
  relays_->abandon();
  say(client, "meanwhile");
  relays_ = std::make_unique<Relays>(loop_, null_log());
  relays_->inherit(std::move(listeners));
  ASSERT_TRUE(relays_->set(record).ok());
  relays_->inherit(std::move(others));
  relays_->settle();
  EXPECT_EQ(relays_->flows(), 1u);
  const Datagram meanwhile = at(server);
  EXPECT_EQ(meanwhile.text, "meanwhile");
  EXPECT_EQ(meanwhile.from, before.from);
  answer(server, before, "hello");
  EXPECT_EQ(at(client).text, "hello");
}

TEST_F(RelayDatagramsTest, TheOneIdleLongestMakesRoom) {
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max = std::max<rlim_t>(files.rlim_max, 3 * DatagramFlows::kFlowsMax);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  const UniqueFd server = server_at();
  ASSERT_TRUE(relays_->set(relay({&server})).ok());
  std::vector<UniqueFd> clients;
  std::vector<SocketAddress> seen;
  const auto speak = [&](const UniqueFd& client) {
    say(client, "x");
    return at(server).from;
  };
  for (size_t i = 0; i < DatagramFlows::kFlowsMax; ++i) {
    clients.push_back(client_of(at_));
    seen.push_back(speak(clients.back()));
  }
  ASSERT_EQ(relays_->flows(), DatagramFlows::kFlowsMax);
  EXPECT_EQ(speak(clients[0]), seen[0]) << "it is the second that is idle longest now";
  clients.push_back(client_of(at_));
  speak(clients.back());
  EXPECT_EQ(relays_->flows(), DatagramFlows::kFlowsMax);
  EXPECT_EQ(speak(clients[0]), seen[0]);
  EXPECT_EQ(speak(clients[2]), seen[2]);
  EXPECT_NE(speak(clients[1]), seen[1]) << "its flow has ended: the server sees another";
}

TEST_F(RelayDatagramsTest, AFlowThatIsIdleEnds) {
  const UniqueFd server = server_at();
  const UniqueFd listener = server_at(true);
  DatagramFlows flows(loop_, null_log(), 20ms);
  const auto choose = [&](const SocketAddress&) {
    return std::vector<SocketAddress>{original_destination(server.get())};
  };
  ASSERT_TRUE(
      loop_.watch(listener.get(), EPOLLIN, [&](uint32_t) { flows.serve(listener.get(), choose); })
          .ok());
  for (const UniqueFd& client : {client_of(place_of(listener)), client_of(place_of(listener))}) {
    say(client, "x");
    at(server);
  }
  EXPECT_TRUE(until([&] { return flows.size() == 0; }));
  loop_.unwatch(listener.get());
}

}  // namespace
}  // namespace muster::overlay::dns
