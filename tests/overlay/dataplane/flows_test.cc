#include "overlay/dataplane/container/flows.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "overlay/dataplane/container/tracked_flows.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dns/netd/namespace_sockets.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay {
namespace {

std::string bytes(const char* address) {
  const bool v6 = std::string_view(address).find(':') != std::string_view::npos;
  std::string out(v6 ? 16 : 4, '\0');
  inet_pton(v6 ? AF_INET6 : AF_INET, address, out.data());
  return out;
}

TEST(AnyIncoming, CountsWhatOthersOpenedAndIsNotOver) {
  struct Case {
    const char* what;
    uint8_t state;
    const char* local;
    uint16_t port;
    const char* remote;
    bool counts;
  };
  const Case cases[] = {
      {"a client's", TCP_ESTABLISHED, "10.0.0.5", 80, "10.0.0.9", true},
      {"not accepted yet", TCP_SYN_RECV, "10.0.0.5", 80, "10.0.0.9", true},
      {"the client has said all", TCP_CLOSE_WAIT, "10.0.0.5", 80, "10.0.0.9", true},
      {"data on its way", TCP_FIN_WAIT1, "10.0.0.5", 80, "10.0.0.9", true},
      {"over", TCP_TIME_WAIT, "10.0.0.5", 80, "10.0.0.9", false},
      {"over, but for the client", TCP_FIN_WAIT2, "10.0.0.5", 80, "10.0.0.9", false},
      {"its own, to a database", TCP_ESTABLISHED, "10.0.0.5", 40123, "10.0.0.9", false},
      {"to itself", TCP_ESTABLISHED, "10.0.0.5", 80, "10.0.0.5", false},
      {"of its health check", TCP_ESTABLISHED, "127.0.0.1", 80, "127.0.0.1", false},
      {"the same by IPv6", TCP_ESTABLISHED, "::1", 80, "::1", false},
      {"the same, mapped", TCP_ESTABLISHED, "::ffff:127.0.0.1", 80, "::ffff:127.0.0.2", false},
      {"a client's by IPv6", TCP_ESTABLISHED, "fd00::5", 80, "fd00::9", true},
      {"a client's, mapped", TCP_ESTABLISHED, "::ffff:10.0.0.5", 80, "::ffff:10.0.0.9", true},
  };
  for (const Case& c : cases) {
    const TcpSocket listens{TCP_LISTEN, bytes("::"), 80, bytes("::")};
    const TcpSocket socket{c.state, bytes(c.local), c.port, bytes(c.remote)};
    EXPECT_EQ(any_incoming({socket, listens}), c.counts) << c.what;
    EXPECT_FALSE(any_incoming({socket})) << c.what << ": nobody listens there";
  }
  EXPECT_FALSE(any_incoming({}));
}

TEST(AnyIncomingDatagrams, CountsWhatOthersSendAndIsAnsweredUntilItIsSilent) {
  struct Case {
    const char* what;
    const char* client;
    const char* server;
    uint16_t port;
    bool answered;
    bool streams;
    uint32_t expires_in_s;
    bool counts;
  };
  const char* const own = "10.0.0.5";
  const Case cases[] = {
      {"a client's", "10.0.0.9", own, 53, true, false, 30, true},
      {"two seconds ago", "10.0.0.9", own, 53, true, false, 28, true},
      {"longer ago", "10.0.0.9", own, 53, true, false, 27, false},
      {"a stream", "10.0.0.9", own, 53, true, true, 119, true},
      {"a stream that has stopped", "10.0.0.9", own, 53, true, true, 117, false},
      {"of an old kernel, where all streams", "10.0.0.9", own, 53, true, false, 118, true},
      {"of an old kernel, silent", "10.0.0.9", own, 53, true, false, 90, false},
      {"not answered yet", "10.0.0.9", own, 53, false, false, 30, true},
      {"a second ago", "10.0.0.9", own, 53, false, false, 29, true},
      {"nobody answers", "10.0.0.9", own, 53, false, false, 28, false},
      {"not answered yet, where nothing listens", "10.0.0.9", own, 54, false, false, 30, false},
      {"where nothing listens", "10.0.0.9", own, 54, true, false, 30, false},
      {"its own question", own, "10.0.0.9", 53, true, false, 30, false},
      {"its question to the resolver", "127.0.0.1", "127.0.0.11", 53, true, false, 30, false},
      {"of a health check", "127.0.0.1", "127.0.0.1", 53, true, false, 30, false},
      {"to itself by its name", own, own, 53, true, false, 30, false},
      {"through it to another", "10.0.0.9", "10.0.0.7", 53, true, false, 30, false},
      {"a client's by IPv6", "fd00::9", "fd00::5", 53, true, false, 30, true},
      {"its own question by IPv6", "fd00::5", "fd00::9", 53, true, false, 30, false},
  };
  const std::set<std::string> addresses = {bytes("127.0.0.1"), bytes(own), bytes("fd00::5"),
                                           bytes("::1")};
  for (const Case& c : cases) {
    const DatagramFlow flow{bytes(c.client), bytes(c.server), c.port,
                            c.answered,      c.streams,       c.expires_in_s};
    EXPECT_EQ(any_incoming_datagrams({flow}, {53}, addresses, {30, 120}), c.counts) << c.what;
  }
  EXPECT_FALSE(any_incoming_datagrams({}, {53}, addresses, {30, 120}));
}

TEST(AnyIncomingAssociations, CountsWhatOthersOpenedAndIsNotOver) {
  struct Case {
    const char* what;
    const char* client;
    const char* server;
    uint16_t port;
    bool runs;
    bool counts;
  };
  const char* const own = "10.0.0.5";
  const Case cases[] = {
      {"a client's", "10.0.0.9", own, 3868, true, true},
      {"a client's that is over", "10.0.0.9", own, 3868, false, false},
      {"where nothing listens", "10.0.0.9", own, 3869, true, false},
      {"its own", own, "10.0.0.9", 3868, true, false},
      {"to itself", own, own, 3868, true, false},
      {"of a health check", "127.0.0.1", "127.0.0.1", 3868, true, false},
      {"through it to another", "10.0.0.9", "10.0.0.7", 3868, true, false},
      {"a client's by IPv6", "fd00::9", "fd00::5", 3868, true, true},
  };
  const std::set<std::string> addresses = {bytes("127.0.0.1"), bytes(own), bytes("fd00::5")};
  for (const Case& c : cases) {
    const AssociationFlow flow{bytes(c.client), bytes(c.server), c.port, c.runs};
    EXPECT_EQ(any_incoming_associations({flow}, {3868}, addresses), c.counts) << c.what;
  }
  EXPECT_FALSE(any_incoming_associations({}, {3868}, addresses));
}

TEST(AnyIncomingAssociations, PortsAreThoseOfTheKernelsList) {
  using Ports = std::set<uint16_t>;
  const std::string heads = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n";
  EXPECT_EQ(
      read_association_ports(heads + "00000000a 00000000b 2   10  29   3868      0 18612 0.0.0.0\n"
                                     "00000000c 00000000d 2   10  46   8080      0 18613 fd00::5 *"
                                     "10.0.0.5\n"),
      (Ports{3868, 8080}));
  EXPECT_EQ(read_association_ports(heads), Ports{});
  EXPECT_EQ(read_association_ports(""), Ports{});
  EXPECT_EQ(read_association_ports("a b c\n1 2 3\n"), Ports{}) << "some other list";
  EXPECT_EQ(read_association_ports(heads + "1 2 3 4 5 99999 7\n1 2 3 4 5 x\n1 2\n"), Ports{});
}

// Runs `work` in the namespace; sockets it opens stay there.
int in_namespace(const std::string& path, const std::function<int()>& work) {
  int out = -1;
  const Status status = on_own_thread([&]() -> Status {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool entered = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
    if (fd >= 0) close(fd);
    if (!entered) return errno_status(errno, "enter " + path);
    out = work();
    return out >= 0 ? ok_status() : errno_status(errno, "socket");
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

// Of either family, as a socket of both takes it.
sockaddr_in6 mapped_address(const std::string& address, uint16_t port) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(port);
  const bool v6 = address.find(':') != std::string::npos;
  inet_pton(AF_INET6, (v6 ? address : "::ffff:" + address).c_str(), &out.sin6_addr);
  return out;
}

sockaddr_in address_of(const char* address, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  inet_pton(AF_INET, address, &out.sin_addr);
  return out;
}

TEST(ContainerFlows, AreSeenInTheContainersNamespaceUntilTheyEnd) {
  testing::Sandbox sandbox;
  ASSERT_TRUE(sandbox.ok()) << sandbox.error();
  const auto network = sandbox.make_network();
  ASSERT_NE(network, nullptr);
  const v1::Network bridge = testing::bridge_network("net1", "10.50.0.0/24", "10.50.0.1");
  const auto server = network->attach(testing::request("c1", bridge, "10.50.0.2/24"));
  const auto client = network->attach(testing::request("c2", bridge, "10.50.0.3/24"));
  ASSERT_TRUE(server && client);
  const auto flows = make_container_flows(container_namespaces(sandbox.dir(), "n1"));
  const auto any = [&](const std::string& id) {
    const auto found = flows->any(id);
    EXPECT_TRUE(found) << found.error().message();
    return found && *found;
  };
  EXPECT_FALSE(any("c1"));
  const int listener = in_namespace(*server, [] {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in at = address_of("0.0.0.0", 8080);
    const bool ok = bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0;
    return ok && listen(fd, 5) == 0 ? fd : -1;
  });
  const auto connect_from = [](const std::string& netns, const char* to) {
    return in_namespace(netns, [to] {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in at = address_of(to, 8080);
      return connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0 ? fd : -1;
    });
  };
  ASSERT_GE(listener, 0);
  EXPECT_FALSE(any("c1"));
  const int own = connect_from(*server, "127.0.0.1");
  EXPECT_FALSE(any("c1")) << "a health check";
  const int other = connect_from(*client, "10.50.0.2");
  ASSERT_GE(other, 0);
  EXPECT_TRUE(any("c1")) << "connected, if not yet accepted";
  EXPECT_FALSE(any("c2")) << "the client's side is nobody's request";
  close(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));  // the health check's
  close(other);
  EXPECT_TRUE(any("c1")) << "it waits for its answer";
  close(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_FALSE(any("c1"));
  close(own);
  close(listener);
  EXPECT_FALSE(any("never there"));
  EXPECT_TRUE(network->teardown().ok());
}

// A socket for datagrams of both families at the port (0 = one that the kernel chooses).
int datagram_socket(const std::string& netns, uint16_t port) {
  return in_namespace(netns, [port] {
    const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const timeval limit{5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    const sockaddr_in6 at = mapped_address("::", port);
    return bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0 ? fd : -1;
  });
}

// Sends a byte from one socket to the other's address and, if wanted, one back.
void exchange(int from, int to, const std::string& address, uint16_t port, bool answer) {
  char byte = 'x';
  sockaddr_in6 at = mapped_address(address, port);
  ASSERT_EQ(sendto(from, &byte, 1, 0, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 1);
  socklen_t size = sizeof(at);
  ASSERT_EQ(recvfrom(to, &byte, 1, 0, reinterpret_cast<sockaddr*>(&at), &size), 1);
  if (!answer) return;
  ASSERT_EQ(sendto(to, &byte, 1, 0, reinterpret_cast<const sockaddr*>(&at), size), 1);
  ASSERT_EQ(recv(from, &byte, 1, 0), 1);
}

struct Family {
  const char* name;
  const char* server;
  const char* client;
};

class ContainerDatagramsTest : public ::testing::TestWithParam<Family> {};

INSTANTIATE_TEST_SUITE_P(Families, ContainerDatagramsTest,
                         ::testing::Values(Family{"IPv4", "10.50.0.2", "10.50.0.3"},
                                           Family{"IPv6", "fd50::2", "fd50::3"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(ContainerDatagramsTest, AreSeenUntilNothingIsSentByThem) {
  testing::Sandbox sandbox;
  ASSERT_TRUE(sandbox.ok()) << sandbox.error();
  const auto network = sandbox.make_network();
  ASSERT_NE(network, nullptr);
  const v1::Network bridge = testing::bridge_network("net1", "10.50.0.0/24", "10.50.0.1");
  const auto server = network->attach(testing::request("c1", bridge, "10.50.0.2/24"));
  const auto client = network->attach(testing::request("c2", bridge, "10.50.0.3/24"));
  ASSERT_TRUE(server && client);
  const auto flows = make_container_flows(container_namespaces(sandbox.dir(), "n1"));
  const auto any = [&](const std::string& id) {
    const auto found = flows->any(id);
    EXPECT_TRUE(found) << found.error().message();
    return found && *found;
  };
  for (const auto& [netns, address] :
       {std::pair(*server, GetParam().server), std::pair(*client, GetParam().client)}) {
    if (std::string_view(address).find(':') == std::string_view::npos) continue;
    sandbox.run(netns, fmt::format("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; "
                                   "ip address add {}/64 dev eth0 nodad",
                                   address));
  }
  const int untracked = datagram_socket(*server, 9000);
  const int stranger = datagram_socket(*client, 0);
  ASSERT_TRUE(untracked >= 0 && stranger >= 0);
  exchange(stranger, untracked, GetParam().server, 9000, true);
  EXPECT_FALSE(any("c1")) << "nothing tracks connections there";
  close(untracked);
  // The rules for its resolver change that.
  dns::NamespaceHopper hopper;
  ASSERT_TRUE(hopper.open().ok());
  const auto resolver = hopper.open_resolver(*server);
  const auto other_resolver = hopper.open_resolver(*client);
  ASSERT_TRUE(resolver && other_resolver);
  const int serving = datagram_socket(*server, 9000);
  const int asking = datagram_socket(*client, 9001);
  ASSERT_TRUE(serving >= 0 && asking >= 0);
  EXPECT_FALSE(any("c1"));
  exchange(serving, asking, GetParam().client, 9001, true);
  EXPECT_FALSE(any("c1")) << "it asked itself";
  EXPECT_TRUE(any("c2"));
  const int other = datagram_socket(*client, 0);
  exchange(other, serving, GetParam().server, 9000, false);
  EXPECT_TRUE(any("c1")) << "it may be answered yet";
  const auto asked = std::chrono::steady_clock::now();
  while (any("c1") && std::chrono::steady_clock::now() - asked < std::chrono::seconds(20)) {
  }
  EXPECT_FALSE(any("c1")) << "nobody answers";
  const int third = datagram_socket(*client, 0);
  exchange(third, serving, GetParam().server, 9000, true);
  EXPECT_TRUE(any("c1"));
  // It ends by itself, in a moment; with the next datagram it is there again.
  const auto began = std::chrono::steady_clock::now();
  while (any("c1") && std::chrono::steady_clock::now() - began < std::chrono::seconds(20)) {
  }
  EXPECT_FALSE(any("c1")) << "silent";
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::seconds(1));
  exchange(third, serving, GetParam().server, 9000, true);
  EXPECT_TRUE(any("c1")) << "it streams by now";
  for (const int fd : {stranger, serving, asking, other, third}) close(fd);
  EXPECT_FALSE(any("c1")) << "nothing listens any more";
  EXPECT_TRUE(network->teardown().ok());
}

}  // namespace
}  // namespace muster::overlay
