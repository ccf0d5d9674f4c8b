// SCTP with the kernel's own sockets, one-to-one style: through virtual addresses by either
// balancer, and through published ports. Debian's kernel has such sockets, this host's may not: the
// emulated machine (tests/qemu) runs these.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "overlay/dataplane/container/flows.h"
#include "tests/overlay/dataplane/client_lab.h"
#include "tests/overlay/dataplane/mesh_host.h"

namespace muster::overlay::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using v1::PortConfig;

constexpr int kPort = 8080;
constexpr int kPatienceMs = 5000;
const char* const kVip = "10.60.255.1";
const char* const kVip6 = "fd60::ff01";

struct At {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
};

At at(const std::string& text, int port) {
  At out;
  if (text.find(':') == std::string::npos) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, text.c_str(), &v4->sin_addr);
    out.size = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr);
    out.size = sizeof(*v6);
  }
  return out;
}

std::string text_of(const At& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = address.storage.ss_family == AF_INET;
  const void* ip =
      v4 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr)
         : &reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
  inet_ntop(address.storage.ss_family, ip, text.data(), text.size());
  return text.data();
}

UniqueFd sctp_socket(const At& address) {
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC,
                     static_cast<int>(IPPROTO_SCTP)));
  EXPECT_TRUE(fd) << "this kernel has no SCTP sockets: " << strerror(errno);
  return fd;
}

// Says for every message at which address it was reached and by whom. A listener for each address,
// as if each were a container's only one.
class SctpServer {
 public:
  SctpServer(const std::string& netns, const std::vector<std::string>& addresses)
      : stop_(eventfd(0, EFD_CLOEXEC)) {
    inside(netns, [&] {
      for (const std::string& text : addresses) {
        At address = at(text, kPort);
        UniqueFd fd = sctp_socket(address);
        EXPECT_EQ(bind(fd.get(), address.raw(), address.size), 0) << strerror(errno);
        EXPECT_EQ(listen(fd.get(), 128), 0);
        listeners_.push_back({std::move(fd), text});
      }
    });
    thread_ = std::thread([this] { run(); });
  }
  ~SctpServer() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
    thread_.join();
  }

 private:
  struct Socket {
    UniqueFd fd;
    std::string says;
  };

  void run() {
    std::vector<Socket> connections;
    while (true) {
      std::vector<pollfd> fds = {{stop_.get(), POLLIN, 0}};
      for (const Socket& s : listeners_) fds.push_back({s.fd.get(), POLLIN, 0});
      for (const Socket& s : connections) fds.push_back({s.fd.get(), POLLIN, 0});
      if (poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[0].revents != 0) return;
      for (size_t i = 0; i < connections.size(); ++i) {
        if (fds[1 + listeners_.size() + i].revents == 0) continue;
        Socket& s = connections[i];
        char byte = 0;
        if (recv(s.fd.get(), &byte, 1, 0) <= 0) {
          s.fd.reset();
        } else {
          (void)send(s.fd.get(), s.says.data(), s.says.size(), MSG_NOSIGNAL);
        }
      }
      std::erase_if(connections, [](const Socket& s) { return !s.fd; });
      for (size_t i = 0; i < listeners_.size(); ++i) {
        if (fds[1 + i].revents == 0) continue;
        At from;
        UniqueFd fd(accept4(listeners_[i].fd.get(), from.raw(), &from.size, SOCK_CLOEXEC));
        if (fd) connections.push_back({std::move(fd), listeners_[i].says + " " + text_of(from)});
      }
    }
  }

  std::vector<Socket> listeners_;
  UniqueFd stop_;
  std::thread thread_;
};

// An association, or an empty descriptor and why. To be called inside().
UniqueFd associate(const std::string& address, int* error = nullptr, int port = kPort) {
  At to = at(address, port);
  UniqueFd fd = sctp_socket(to);
  const timeval patience{kPatienceMs / 1000, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const int failed = connect(fd.get(), to.raw(), to.size) == 0 ? 0 : errno;
  if (error != nullptr) *error = failed;
  return failed == 0 ? std::move(fd) : UniqueFd();
}

// "BACKEND CLIENT", as the server says, or "".
std::string say(const UniqueFd& fd) {
  std::array<char, 256> buffer{};
  if (!fd || send(fd.get(), "?", 1, MSG_NOSIGNAL) != 1) return "";
  pollfd p{fd.get(), POLLIN, 0};
  if (poll(&p, 1, kPatienceMs) <= 0) return "";
  const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), 0);
  return got <= 0 ? "" : std::string(buffer.data(), static_cast<size_t>(got));
}

// ---------------------------------------------------------------- virtual addresses

class SctpVipTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(lab_.ok()) << lab_.box.error();
    const auto choice = choose_balancer(GetParam());
    ASSERT_TRUE(choice) << choice.error().message();
    lab_.choice = *choice;
    lab_.restart();
    std::vector<std::string> addresses;
    for (int i = 0; i < kTasks; ++i) {
      lab_.task(fmt::format("t{}", i), "web", {v4(i), v6(i)});
      addresses.push_back(v4(i));
      addresses.push_back(v6(i));
    }
    server_ = std::make_unique<SctpServer>(lab_.add("servers", addresses), addresses);
    lab_.service("web", {kVip, kVip6});
    lab_.apply({});
    client_ = lab_.add("c1", {"10.60.0.2", "fd60::2"});
    const Status attached = lab_.clients->attach("c1", client_);
    ASSERT_TRUE(attached.ok()) << attached.message();
  }

  static constexpr int kTasks = 2;
  static std::string v4(int i) { return fmt::format("10.60.1.{}", i + 1); }
  static std::string v6(int i) { return fmt::format("fd60::1:{:x}", i + 1); }

  ClientLab lab_;
  std::string client_;
  std::unique_ptr<SctpServer> server_;
};

TEST_P(SctpVipTest, AssociationsAreSpreadAndShowTheClientsAddress) {
  inside(client_, [&] {
    std::map<std::string, int> met;
    for (int i = 0; i < 4; ++i) ++met[say(associate(kVip))];
    EXPECT_EQ(met[v4(0) + " 10.60.0.2"], 2);
    EXPECT_EQ(met[v4(1) + " 10.60.0.2"], 2);
    EXPECT_THAT(met, SizeIs(2));
    met.clear();
    for (int i = 0; i < 4; ++i) ++met[say(associate(kVip6))];
    EXPECT_EQ(met[v6(0) + " fd60::2"], 2);
    EXPECT_EQ(met[v6(1) + " fd60::2"], 2);
    EXPECT_THAT(met, SizeIs(2));
  });
}

TEST_P(SctpVipTest, OneThatRunsStaysWhereItIsWhileItsTaskIsThere) {
  inside(client_, [&] {
    const UniqueFd held = associate(kVip);
    const std::string said = say(held);
    const int met = said.starts_with(v4(0)) ? 0 : 1;
    ASSERT_TRUE(said.starts_with(v4(met))) << said;
    for (const auto state : {v1::ENDPOINT_DRAINING, v1::ENDPOINT_RELEASED}) {
      lab_.apply(lab_.task(fmt::format("t{}", met), "web", {v4(met), v6(met)}, state));
      lab_.settle();
      EXPECT_EQ(say(held), said) << state;
      for (int i = 0; i < 2; ++i) {
        EXPECT_TRUE(say(associate(kVip)).starts_with(v4(1 - met))) << state;
      }
    }
  });
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Balancers, SctpVipTest, ::testing::Values("nftables", "ipvs"),
                         [](const auto& info) { return std::string(info.param); });

// ---------------------------------------------------------------- published ports

class SctpMeshTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    for (int i = 1; i <= 2; ++i) net_.add_node(i);
    for (int i = 1; i <= 2; ++i) {
      hosts_.push_back(std::make_unique<MeshHost>(net_, i));
      const Status opened = hosts_.back()->open();
      ASSERT_TRUE(opened.ok()) << opened.message();
    }
    net_.add_task(1, 2);
    for (auto& host : hosts_) {
      const Status told = host->tell();
      ASSERT_TRUE(told.ok()) << told.message();
    }
    task_ = hosts_[1]->task(1, {mesh_port(PortConfig::SCTP)});
    serve(task_);
  }
  // It listens on every address, as servers do: of the two that the task has, answers go from the
  // one that clients came to.
  virtual void serve(const std::string& ns) {
    for (const char* server :
         {"SCTP4-LISTEN:8080,fork,reuseaddr", "SCTP6-LISTEN:8080,fork,reuseaddr,ipv6only=1"}) {
      box_.start(ns, fmt::format("exec socat -t20 {} SYSTEM:'echo $SOCAT_PEERADDR'", server));
    }
    const std::string listen = box_.run(ns,
                                        "for i in $(seq 500); do n=$(tail -n +2 /proc/net/sctp/eps "
                                        "2>/dev/null | wc -l); [ $n = 2 ] && "
                                        "break; busybox usleep 10000; done; echo $n");
    ASSERT_EQ(listen, "2");
  }
  void publish(PortConfig::ClientAddress shown, const std::vector<int>& tasks = {1}) {
    PublishedPort port = published(80, 8080, mesh_backends(tasks), PortConfig::SCTP);
    port.port.set_client_address(shown);
    for (auto& host : hosts_) {
      const Status set = host->publish({port});
      ASSERT_TRUE(set.ok()) << set.message();
    }
  }
  // Whom the task sees, or why there was no association.
  std::string ask(const std::string& from, const std::string& to, const char* options = "") {
    const bool v6 = to.find(':') != std::string::npos;
    return box_.run(from, fmt::format("timeout 10 socat -u SCTP{}:{}:80,connect-timeout=5{} - 2>&1 "
                                      "</dev/null | tail -n1",
                                      v6 ? 6 : 4, v6 ? "[" + to + "]" : to, options));
  }

  Sandbox box_;
  MeshNet net_{box_};
  std::vector<std::unique_ptr<MeshHost>> hosts_;
  std::string task_;  // its namespace
};

TEST_F(SctpMeshTest, TheTaskSeesTheClientThroughEveryNode) {
  publish(PortConfig::KEEP);
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(ask(box_.outside(), MeshNet::underlay(i)), "192.0.2.2") << i;
    EXPECT_EQ(ask(box_.outside(), MeshNet::underlay6(i)),
              "[2001:0db8:0099:0000:0000:0000:0000:0002]")
        << i;
    // The node's own clients.
    EXPECT_EQ(ask(hosts_[static_cast<size_t>(i) - 1]->ns(), MeshNet::underlay(i)),
              MeshNet::inside(i))
        << i;
    // Of several addresses only one is translated.
    EXPECT_EQ(ask(hosts_[static_cast<size_t>(i) - 1]->ns(), "::1", ",bind=[::1]"),
              fmt::format("[fd54:0000:0000:0000:0000:0000:0000:{:04}]", 10 + i))
        << i;
  }
}

TEST_F(SctpMeshTest, AMasqueradingPortShowsTheNode) {
  publish(PortConfig::MASQUERADE);
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(ask(box_.outside(), MeshNet::underlay(i)), MeshNet::inside(i)) << i;
  }
}

class SctpDrainTest : public SctpMeshTest {
 protected:
  void serve(const std::string& ns) override {
    server_ = std::make_unique<SctpServer>(ns, std::vector{MeshNet::task_address(1)});
    // As the rules for its resolver have it.
    box_.run(ns,
             "nft 'add table inet t; add chain inet t c { type filter hook output priority 0; };"
             " add rule inet t c ct state established accept'");
  }
  // Whether associations lead to the task, as who waits for their end asks.
  bool leads() {
    const auto found =
        make_container_flows(std::filesystem::path(task_).parent_path())->any("task1");
    EXPECT_TRUE(found) << found.error().message();
    return found && *found;
  }

  std::unique_ptr<SctpServer> server_;
};

TEST_F(SctpDrainTest, OneThatRunsGoesOnWhileItsTaskDrains) {
  publish(PortConfig::KEEP);
  EXPECT_FALSE(leads());
  UniqueFd held;
  inside(box_.outside(), [&] { held = associate(MeshNet::underlay(1), nullptr, 80); });
  const std::string said = say(held);
  ASSERT_EQ(said, MeshNet::task_address(1) + " 192.0.2.2");
  EXPECT_TRUE(leads());
  // What is new goes elsewhere from here on.
  publish(PortConfig::KEEP, {});
  for (auto& host : hosts_) host->settle();
  EXPECT_EQ(say(held), said);
  EXPECT_TRUE(leads());
  // Its end is there soon, and before the kernel forgets what is idle.
  held.reset();
  const auto began = std::chrono::steady_clock::now();
  while (leads() && std::chrono::steady_clock::now() - began < std::chrono::seconds(60)) {
  }
  EXPECT_FALSE(leads());
}

}  // namespace
}  // namespace muster::overlay::testing
