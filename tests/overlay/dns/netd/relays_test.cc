// Relays with real sockets of loopback: the loop runs on this thread, peers are played between its
// turns.
#include "overlay/dns/netd/relays.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay::dns {
namespace {

constexpr Duration kPatience = 20s;

// The program is a host of its own: on a shared one, clients of other programs come to ports that
// were theirs once.
class OwnHost final : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(ioctl(any.get(), SIOCSIFFLAGS, &loopback), 0);
  }
};
const ::testing::Environment* const kOwnHost = ::testing::AddGlobalTestEnvironment(new OwnHost);

UniqueFd listen_on(uint16_t port = 0) {
  auto fd = open_listener({{*Ip::parse("127.0.0.1"), port}, ""});
  EXPECT_TRUE(fd) << (fd ? "" : fd.error().message());
  return fd ? *std::move(fd) : UniqueFd();
}
std::string where(int fd) {
  return fmt::format("127.0.0.1:{}", original_destination(fd).port);
}

class RelaysTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EXPECT_TRUE(loop_.open().ok());
    relays_ = std::make_unique<Relays>(loop_, null_log());
  }

  // Lets the loop turn until it holds; false after kPatience.
  bool until(std::function<bool()> holds) {
    const TimePoint end = loop_.now() + kPatience;
    while (!holds()) {
      if (loop_.now() > end) return false;
      loop_.after(1ms, [this] { loop_.stop(); });
      if (!loop_.run().ok()) return false;
    }
    return true;
  }
  UniqueFd accept_at(const UniqueFd& listener) {
    UniqueFd out;
    EXPECT_TRUE(until([&] {
      out.reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      return static_cast<bool>(out);
    }));
    return out;
  }
  UniqueFd connect_to(const std::string& to) {
    auto fd = start_connecting(parse_listen_address(to)->at);
    EXPECT_TRUE(fd);
    return fd ? *std::move(fd) : UniqueFd();
  }
  // So many bytes, or fewer at the end of the stream.
  std::string read(const UniqueFd& fd, size_t size) {
    std::string out;
    EXPECT_TRUE(until([&] {
      char buffer[65536];
      while (out.size() < size) {
        const ssize_t got = recv(fd.get(), buffer, std::min(sizeof buffer, size - out.size()), 0);
        if (got < 0) return errno != EAGAIN;
        if (got == 0) return true;
        out.append(buffer, static_cast<size_t>(got));
      }
      return true;
    }));
    return out;
  }
  void write(const UniqueFd& fd, std::string_view bytes) {
    EXPECT_TRUE(until([&] {
      const ssize_t sent = send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
      return bytes.empty() || (sent < 0 && errno != EAGAIN);
    }));
    EXPECT_TRUE(bytes.empty());
  }
  // What a read of a stream that was reset says.
  int error_of(const UniqueFd& fd) {
    int error = 0;
    EXPECT_TRUE(until([&] {
      char byte = 0;
      const ssize_t got = recv(fd.get(), &byte, 1, 0);
      error = got < 0 ? errno : 0;
      return got >= 0 || error != EAGAIN;
    }));
    return error;
  }
  v1::NetdRelay relay(const std::string& listen, const std::vector<std::string>& backends,
                      uint32_t version = 0) {
    v1::NetdRelay out;
    out.set_id("tcp/80");
    out.add_listen(listen);
    for (const std::string& backend : backends) out.add_backends(backend);
    out.set_proxy_protocol(version);
    return out;
  }
  // A port that nobody has at the moment.
  std::string free_place() { return where(listen_on().get()); }

  std::vector<int> shares(const std::vector<UniqueFd>& servers, int count);

  EventLoop loop_;
  std::unique_ptr<Relays> relays_;
  std::vector<UniqueFd> accepted_;
};

TEST_F(RelaysTest, BytesGoBothWaysAndEachEndIsPassedOnByItself) {
  const UniqueFd server = listen_on();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(server.get())})).ok());
  const UniqueFd client = connect_to(at);
  const UniqueFd task = accept_at(server);
  write(client, "question");
  EXPECT_EQ(read(task, 8), "question");
  ASSERT_EQ(shutdown(client.get(), SHUT_WR), 0);
  EXPECT_EQ(read(task, 1), "") << "the client's end";
  // The answer comes long after that, and is more than any buffer.
  const std::string large(20 << 20, 'x');
  std::string got;
  std::string_view rest = large;
  ASSERT_TRUE(until([&] {
    const ssize_t sent = send(task.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent > 0) rest.remove_prefix(static_cast<size_t>(sent));
    char buffer[65536];
    const ssize_t received = recv(client.get(), buffer, sizeof buffer, 0);
    if (received > 0) got.append(buffer, static_cast<size_t>(received));
    return got.size() == large.size();
  }));
  EXPECT_EQ(got, large);
  ASSERT_EQ(shutdown(task.get(), SHUT_WR), 0);
  EXPECT_EQ(read(client, 1), "");
  EXPECT_TRUE(until([&] { return relays_->connections() == 0; }));
}

TEST_F(RelaysTest, TheHeaderComesFirstAndNamesTheClient) {
  const UniqueFd server = listen_on();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(server.get())}, 1)).ok());
  const UniqueFd client = connect_to(at);
  write(client, "GET");
  const UniqueFd task = accept_at(server);
  const std::string want =
      fmt::format("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET",
                  original_destination(client.get()).port, parse_listen_address(at)->at.port);
  EXPECT_EQ(read(task, want.size()), want);
}

TEST_F(RelaysTest, BackendsAreTakenInTurnAndOneThatRefusesIsPassedOver) {
  const UniqueFd one = listen_on();
  const UniqueFd two = listen_on();
  const std::string nobody = free_place();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(one.get()), nobody, where(two.get())})).ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(connect_to(at));
  std::vector<UniqueFd> ones, twos;
  ASSERT_TRUE(until([&] {
    for (const auto& [from, to] : {std::pair(&one, &ones), std::pair(&two, &twos)}) {
      UniqueFd fd(accept4(from->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (fd) to->push_back(std::move(fd));
    }
    return ones.size() + twos.size() == 6;
  }));
  EXPECT_EQ(ones.size(), 2u);
  EXPECT_EQ(twos.size(), 4u) << "two of its own, and two that the one in the middle refused";
}

// Accepts so many connections, of any of the servers; how many each got.
std::vector<int> RelaysTest::shares(const std::vector<UniqueFd>& servers, int count) {
  std::vector<int> out(servers.size());
  int sum = 0;
  EXPECT_TRUE(until([&] {
    for (size_t i = 0; i < servers.size(); ++i) {
      UniqueFd fd(accept4(servers[i].get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd) continue;
      ++out[i];
      ++sum;
      accepted_.push_back(std::move(fd));
    }
    return sum == count;
  }));
  return out;
}

TEST_F(RelaysTest, BackendsAreTakenAsOftenAsTheirWeightsSay) {
  std::vector<UniqueFd> servers;
  for (int i = 0; i < 3; ++i) servers.push_back(listen_on());
  const std::string at = free_place();
  v1::NetdRelay record =
      relay(at, {where(servers[0].get()), where(servers[1].get()), where(servers[2].get())});
  for (const uint32_t weight : {1u, 2u, 5u}) record.add_weights(weight);
  ASSERT_TRUE(relays_->set(record).ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(connect_to(at));
  EXPECT_EQ(shares(servers, 64), (std::vector<int>{8, 16, 40})) << "once through the slots";
}

TEST_F(RelaysTest, AClientStaysWithItsBackendWhenOthersComeAndGo) {
  std::vector<UniqueFd> servers;
  for (int i = 0; i < 3; ++i) servers.push_back(listen_on());
  const std::string at = free_place();
  v1::NetdRelay record =
      relay(at, {where(servers[0].get()), where(servers[1].get()), where(servers[2].get())});
  record.set_by_client(true);
  ASSERT_TRUE(relays_->set(record).ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(connect_to(at));
  const std::vector<int> first = shares(servers, 8);
  const auto own = std::find(first.begin(), first.end(), 8);
  ASSERT_NE(own, first.end()) << "one client, one backend";
  // One that it is not led to goes, and one comes.
  const auto mine = static_cast<int>(own - first.begin());
  record.mutable_backends()->DeleteSubrange(mine == 0 ? 1 : 0, 1);
  ASSERT_TRUE(relays_->set(record).ok());
  clients.push_back(connect_to(at));
  EXPECT_EQ(shares(servers, 1)[static_cast<size_t>(mine)], 1);
  // Its own does not answer: another one does.
  servers[static_cast<size_t>(mine)] = listen_on();
  clients.push_back(connect_to(at));
  EXPECT_EQ(shares(servers, 1)[static_cast<size_t>(mine)], 0);
}

TEST_F(RelaysTest, WhoFindsNoBackendIsReset) {
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {free_place()})).ok());
  const UniqueFd client = connect_to(at);
  EXPECT_EQ(error_of(client), ECONNRESET);
  EXPECT_EQ(relays_->connections(), 0u);
}

TEST_F(RelaysTest, AResetIsPassedOnAsOne) {
  const UniqueFd server = listen_on();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(server.get())})).ok());
  const UniqueFd client = connect_to(at);
  close_hard(accept_at(server));
  EXPECT_EQ(error_of(client), ECONNRESET);
  EXPECT_TRUE(until([&] { return relays_->connections() == 0; }));
}

TEST_F(RelaysTest, ConnectionsOutliveTheirBackendAndTheirRelay) {
  const UniqueFd first = listen_on();
  const UniqueFd second = listen_on();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(first.get())})).ok());
  const UniqueFd client = connect_to(at);
  const UniqueFd task = accept_at(first);
  ASSERT_TRUE(relays_->set(relay(at, {where(second.get())})).ok());
  const UniqueFd other = connect_to(at);
  const UniqueFd new_task = accept_at(second);
  relays_->remove("tcp/80");
  write(client, "a");
  EXPECT_EQ(read(task, 1), "a");
  write(other, "b");
  EXPECT_EQ(read(new_task, 1), "b");
  EXPECT_FALSE(relays_->empty());
  EXPECT_EQ(error_of(connect_to(at)), ECONNREFUSED);
}

TEST_F(RelaysTest, WhoHasComeBeforeTheRelayEndsIsServed) {
  const UniqueFd server = listen_on();
  const std::string at = free_place();
  ASSERT_TRUE(relays_->set(relay(at, {where(server.get())})).ok());
  const UniqueFd client = connect_to(at);  // the loop has not seen it
  relays_->remove("tcp/80");
  const UniqueFd task = accept_at(server);
  write(client, "a");
  EXPECT_EQ(read(task, 1), "a");
}

TEST_F(RelaysTest, APortThatIsTakenIsToldOfAndHadWhenItIsFree) {
  UniqueFd holder = listen_on();
  const UniqueFd server = listen_on();
  const std::string at = where(holder.get());
  const Status taken = relays_->set(relay(at, {where(server.get())}));
  EXPECT_EQ(taken.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(taken.message(), ::testing::HasSubstr("is in use on this node"));
  holder.reset();
  UniqueFd client;
  ASSERT_TRUE(until([&] {
    client = connect_to(at);
    struct pollfd ready {
      client.get(), POLLOUT, 0
    };
    poll(&ready, 1, 0);
    return (ready.revents & (POLLERR | POLLHUP)) == 0 && (ready.revents & POLLOUT) != 0;
  }));
  accept_at(server);
}

TEST_F(RelaysTest, WhatThisHostDoesNotHaveIsNoFailure) {
  EXPECT_TRUE(relays_->set(relay("198.51.100.77:8080", {"127.0.0.1:1"})).ok());
  EXPECT_TRUE(relays_->set(relay("0.0.0.0%no-such-if:8080", {"127.0.0.1:1"})).ok());
  EXPECT_EQ(relays_->set(relay("nonsense", {"127.0.0.1:1"})).code(), StatusCode::kInvalidArgument);
}

// Descriptors as another process would get them.
std::vector<HandedRelay> received(const std::vector<HandedRelay>& sent) {
  std::vector<HandedRelay> out;
  for (const HandedRelay& handed : sent) {
    HandedRelay& copy = out.emplace_back();
    copy.text = handed.text;
    for (const int fd : handed.descriptors) {
      copy.owned.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }
  }
  return out;
}

TEST_F(RelaysTest, ASuccessorGoesOnWithListenersConnectionsAndWhatIsInTheirPipes) {
  const UniqueFd server = listen_on();
  const std::string at = free_place();
  const v1::NetdRelay record = relay(at, {where(server.get())});
  ASSERT_TRUE(relays_->set(record).ok());
  const UniqueFd client = connect_to(at);
  const UniqueFd task = accept_at(server);
  // The client reads nothing until all buffers are full.
  size_t written = 0;
  size_t still = 0;
  ASSERT_TRUE(until([&] {
    const std::string piece(65536, static_cast<char>('a' + written % 23));
    const ssize_t sent = send(task.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
    if (sent > 0) written += static_cast<size_t>(sent);
    still = sent > 0 ? 0 : still + 1;
    return still > 20;
  }));
  auto handed = received(relays_->hand_over());
  ASSERT_EQ(handed.size(), 2u);
  EXPECT_EQ(handed[1].owned.size(), 4u) << "two sockets and the pipe with something in it";
  relays_->abandon();
  relays_ = std::make_unique<Relays>(loop_, null_log());
  std::vector<HandedRelay> connections;
  connections.push_back(std::move(handed[1]));
  handed.pop_back();
  relays_->inherit(std::move(handed));
  ASSERT_TRUE(relays_->set(record).ok());
  relays_->inherit(std::move(connections));
  relays_->settle();
  ASSERT_EQ(shutdown(task.get(), SHUT_WR), 0);
  EXPECT_EQ(read(client, written + 1).size(), written);
  write(client, "back");
  EXPECT_EQ(read(task, 4), "back");
  const UniqueFd later = connect_to(at);
  accept_at(server);
}

// ---------------------------------------------------------------- encrypted networks

// Whether nobody has the UDP port; -1 as `port`: any one that nobody has.
bool udp_port_is_free(uint16_t port) {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(port);
  return bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
}
UniqueFd udp_socket(uint16_t* port) {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  *port = original_destination(fd.get()).port;
  return fd;
}
v1::NetdRelay encapsulation(uint16_t port) {
  v1::NetdRelay out;
  out.set_id(fmt::format("esp/{}", port));
  out.add_listen(fmt::format("0.0.0.0:{}", port));
  out.add_listen(fmt::format("[::]:{}", port));
  return out;
}

// This process plays both; a kernel without ESP has the sockets, too, and takes nothing out.
TEST_F(RelaysTest, SocketsOfEncryptedNetworksAreHeldHandedOnAndGivenUp) {
  uint16_t port = 0;
  udp_socket(&port).reset();
  const v1::NetdRelay record = encapsulation(port);
  const Status set = relays_->set(record);
  ASSERT_TRUE(set.ok()) << set.message();
  EXPECT_FALSE(udp_port_is_free(port));
  EXPECT_FALSE(relays_->empty()) << "netd stays for them";
  // Nobody looks at what comes.
  uint16_t other = 0;
  const UniqueFd sender = udp_socket(&other);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string not_esp(100, '\0');
  EXPECT_EQ(sendto(sender.get(), not_esp.data(), not_esp.size(), 0,
                   reinterpret_cast<const sockaddr*>(&to), sizeof to),
            static_cast<ssize_t>(not_esp.size()));
  auto handed = received(relays_->hand_over());
  ASSERT_GE(handed.size(), 1u);
  for (const HandedRelay& each : handed) {
    EXPECT_TRUE(is_listener(each));
    char byte = 0;
    EXPECT_EQ(recv(each.owned[0].get(), &byte, 1, MSG_DONTWAIT), -1) << "nothing is kept of it";
  }
  relays_->abandon();
  EXPECT_FALSE(udp_port_is_free(port)) << "they are the successor's";
  relays_ = std::make_unique<Relays>(loop_, null_log());
  relays_->inherit(std::move(handed));
  ASSERT_TRUE(relays_->set(record).ok());
  relays_->settle();
  EXPECT_FALSE(udp_port_is_free(port));
  relays_->remove(record.id());
  EXPECT_TRUE(udp_port_is_free(port));
}

TEST_F(RelaysTest, APortOfEncryptedNetworksThatIsTakenIsToldOfAndHadWhenItIsFree) {
  uint16_t port = 0;
  UniqueFd holder = udp_socket(&port);
  const Status taken = relays_->set(encapsulation(port));
  EXPECT_THAT(taken.message(), ::testing::HasSubstr("is in use by another program on this node"));
  holder.reset();
  ASSERT_TRUE(until([&] { return relays_->hand_over().size() > (kernel_has_ipv6() ? 1u : 0u); }));
  EXPECT_FALSE(udp_port_is_free(port));
  EXPECT_TRUE(relays_->set(encapsulation(port)).ok());
}

TEST(RelaySockets, PlacesToListenAt) {
  const struct {
    const char *text, *ip, *interface;
    int port;  // -1: refused
  } cases[] = {
      {"127.0.0.1:80", "127.0.0.1", "", 80},
      {"[::1]:8080", "::1", "", 8080},
      {"0.0.0.0%eth1:80", "0.0.0.0", "eth1", 80},
      {"[::%eth1]:80", "::", "eth1", 80},
      {"::1:80", "", "", -1},
      {"127.0.0.1", "", "", -1},
      {"127.0.0.1:x", "", "", -1},
      {"127.0.0.1:70000", "", "", -1},
      {"[127.0.0.1]:80", "", "", -1},
  };
  for (const auto& c : cases) {
    const auto got = parse_listen_address(c.text);
    ASSERT_EQ(got.has_value(), c.port >= 0) << c.text;
    if (!got) continue;
    EXPECT_EQ(got->at.ip.str(), c.ip) << c.text;
    EXPECT_EQ(got->interface, c.interface) << c.text;
    EXPECT_EQ(got->at.port, c.port) << c.text;
  }
}

}  // namespace
}  // namespace muster::overlay::dns
