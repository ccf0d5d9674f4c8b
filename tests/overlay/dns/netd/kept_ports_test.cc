// The sockets that hold published ports: netd's store of them, and musterd's end of it.
#include "overlay/dns/netd/kept_ports.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "overlay/dataplane/host/host_ports.h"
#include "overlay/dataplane/host/port_keeper.h"
#include "overlay/dns/netd/port_control.h"

namespace muster::overlay::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Duration kPatience = 20s;

UniqueFd any_descriptor() {
  return UniqueFd(eventfd(0, EFD_CLOEXEC));
}
PortMessage with_socket(std::string text) {
  PortMessage out;
  out.text = std::move(text);
  out.sockets.push_back(any_descriptor());
  return out;
}
std::string only(const std::vector<KeptPorts::Answer>& answers) {
  return answers.size() == 1 ? answers[0].text : std::to_string(answers.size()) + " answers";
}
bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

TEST(KeptPortsTest, WhatIsGivenIsListedUntilItIsDropped) {
  KeptPorts kept;
  EXPECT_EQ(only(kept.command(with_socket("keep tcp/80/v4"))), "done");
  EXPECT_EQ(only(kept.command(with_socket("keep udp/53/v6/eth0"))), "done");
  auto listed = kept.command({"list", {}});
  ASSERT_THAT(listed, SizeIs(2));
  EXPECT_THAT(names_in(listed[0].text), ElementsAre("tcp/80/v4", "udp/53/v6/eth0"));
  EXPECT_THAT(listed[0].sockets, SizeIs(2));
  EXPECT_EQ(listed[1].text, "done");
  const int fd = listed[0].sockets[0]->get();
  listed.clear();
  EXPECT_EQ(only(kept.command({"drop tcp/80/v4", {}})), "done");
  EXPECT_FALSE(is_open(fd)) << "it is free when that is said";
  EXPECT_EQ(only(kept.command({"drop tcp/80/v4", {}})), "done");
  EXPECT_EQ(kept.size(), 1u);
}

TEST(KeptPortsTest, OneOfTheSameNameTakesThePlace) {
  KeptPorts kept;
  PortMessage first = with_socket("keep tcp/80/v4");
  const int fd = first.sockets[0].get();
  kept.command(std::move(first));
  EXPECT_TRUE(is_open(fd));
  PortMessage second = with_socket("keep tcp/80/v4");
  const int other = second.sockets[0].get();
  kept.command(std::move(second));
  EXPECT_FALSE(is_open(fd));
  EXPECT_TRUE(is_open(other));
  EXPECT_EQ(kept.size(), 1u);
}

TEST(KeptPortsTest, WhatCannotBeIsRefusedAndLeavesNothing) {
  KeptPorts kept;
  EXPECT_EQ(only(kept.command({"keep tcp/80/v4", {}})), "refused a name without its socket");
  EXPECT_THAT(only(kept.command(with_socket("keep "))), HasSubstr("refused"));
  EXPECT_THAT(only(kept.command(with_socket("keep a\nb"))), HasSubstr("refused"));
  EXPECT_THAT(only(kept.command(with_socket("keep " + std::string(101, 'x')))),
              HasSubstr("refused"));
  EXPECT_EQ(only(kept.command({"juggle tcp/80/v4", {}})), "refused a command of another version");
  EXPECT_TRUE(kept.empty());
}

TEST(KeptPortsTest, ManyGoOutInSeveralMessages) {
  KeptPorts kept;
  for (int i = 1; i <= 150; ++i) kept.command(with_socket(fmt::format("keep tcp/{}/v4", i)));
  const auto listed = kept.command({"list", {}});
  ASSERT_THAT(listed, SizeIs(4));
  size_t count = 0;
  for (const auto& answer : listed) {
    EXPECT_LE(answer.text.size(), kPortMessageMax);
    if (answer.text == kPortDone) continue;
    EXPECT_EQ(names_in(answer.text).size(), answer.sockets.size());
    count += answer.sockets.size();
  }
  EXPECT_EQ(count, 150u);
}

TEST(KeptPortsTest, ASuccessorGetsThemAmongRelays) {
  KeptPorts before;
  before.command(with_socket("keep sctp/65535/v6/2001:db8:1111:2222:3333:4444:5555:6666"));
  std::vector<HandedRelay> handed(1);
  handed[0].text = "listener tcp/80 127.0.0.1:80";
  before.hand_over(handed);
  ASSERT_THAT(handed, SizeIs(2));
  ASSERT_THAT(handed[1].descriptors, SizeIs(1));
  EXPECT_FALSE(is_listener(handed[1]));
  handed[1].owned.emplace_back(dup(handed[1].descriptors[0]));
  KeptPorts after;
  after.inherit(handed);
  EXPECT_THAT(handed, SizeIs(1)) << "the rest is the relays'";
  const auto listed = after.command({"list", {}});
  EXPECT_THAT(names_in(listed[0].text),
              ElementsAre("sctp/65535/v6/2001:db8:1111:2222:3333:4444:5555:6666"));
}

TEST(PortNamesTest, SayWhatTheyHold) {
  for (const auto& [key, v6, name] : std::vector<std::tuple<FrontendKey, bool, std::string>>{
           {{v1::PortConfig::TCP, 8080, ""}, false, "tcp/8080/v4"},
           {{v1::PortConfig::UDP, 53, "eth0"}, true, "udp/53/v6/eth0"},
           {{v1::PortConfig::SCTP, 9, "2001:db8::1"}, true, "sctp/9/v6/2001:db8::1"}}) {
    EXPECT_EQ(kept_name(key, v6), name);
    const auto parsed = parse_kept_name(name);
    ASSERT_TRUE(parsed) << name;
    EXPECT_EQ(parsed->key, key);
    EXPECT_EQ(parsed->v6, v6);
  }
  for (const char* wrong : {"", "tcp", "tcp/80", "tcp/80/v5", "dccp/80/v4", "tcp/0/v4",
                            "tcp/65536/v4", "tcp/8o/v4", "tcp//v4"}) {
    EXPECT_FALSE(parse_kept_name(wrong)) << wrong;
  }
}

// A netd of which only the store is there, on a thread of its own.
class Store {
 public:
  explicit Store(const std::string& path) : control_(loop_, kept_, null_log()) {
    EXPECT_TRUE(loop_.open().ok());
    EXPECT_TRUE(control_.listen(path).ok());
  }
  ~Store() { stop(); }
  void start() {
    stop_.reset(eventfd(0, EFD_CLOEXEC));
    EXPECT_TRUE(loop_.watch(stop_.get(), EPOLLIN, [this](uint32_t) { loop_.stop(); }).ok());
    EXPECT_TRUE(control_.start().ok());
    thread_ = std::thread([this] { EXPECT_TRUE(loop_.run().ok()); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    ASSERT_EQ(write(stop_.get(), &one, sizeof one), 8);
    thread_.join();
  }
  KeptPorts& kept() { return kept_; }

 private:
  KeptPorts kept_;
  EventLoop loop_;
  PortControl control_;
  UniqueFd stop_;
  std::thread thread_;
};

// The errno of a program that wants the port at every address.
int taken(uint16_t port, int type = SOCK_STREAM) {
  const UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno;
  return type == SOCK_STREAM && listen(fd.get(), 1) != 0 ? errno : 0;
}

class PortKeeperTest : public ::testing::Test {
 protected:
  PortKeeperTest() {
    directory_ = std::filesystem::temp_directory_path() / "muster-ports-XXXXXX";
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    start_store();
  }
  ~PortKeeperTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  void start_store() {
    store_ = std::make_unique<Store>(path());
    store_->start();
  }
  std::string path() const { return port_socket(directory_); }
  // A musterd: its sockets, and its end of the store.
  struct Musterd {
    explicit Musterd(const std::string& path) : keeper(path, null_log()), ports(&keeper) {}
    PortKeeper keeper;
    HostPorts ports;
  };
  std::unique_ptr<Musterd> musterd() { return std::make_unique<Musterd>(path()); }
  static FrontendKey key(uint16_t port, v1::PortConfig::Protocol protocol = v1::PortConfig::TCP) {
    return {protocol, port};
  }
  // A port that nobody has.
  uint16_t free_port(v1::PortConfig::Protocol protocol = v1::PortConfig::TCP) {
    HostPorts ports;
    const auto port = ports.pick(protocol);
    EXPECT_TRUE(port) << port.error().message();
    return port ? static_cast<uint16_t>(*port) : 0;
  }
  // Waits on what another thread does.
  static bool until(std::function<bool()> holds) {
    const SystemClock clock;
    while (!holds()) {
      if (clock.now().since_start > kPatience) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::string directory_;
  std::unique_ptr<Store> store_;
};

TEST_F(PortKeeperTest, PortsStayHeldWithoutMusterdAndTheNextOneAdoptsThem) {
  const uint16_t tcp = free_port();
  const uint16_t udp = free_port(v1::PortConfig::UDP);
  auto first = musterd();
  first->ports.adopt();
  ASSERT_TRUE(first->ports.hold(key(tcp), {}).ok());
  ASSERT_TRUE(first->ports.hold(key(udp, v1::PortConfig::UDP), {}).ok());
  first.reset();
  EXPECT_EQ(taken(tcp), EADDRINUSE);
  EXPECT_EQ(taken(udp, SOCK_DGRAM), EADDRINUSE);
  auto second = musterd();
  second->ports.adopt();
  EXPECT_TRUE(second->ports.hold(key(tcp), {}).ok()) << "no clash with itself";
  // The other one is no longer wanted.
  second->ports.release_all_but({key(tcp)});
  EXPECT_EQ(taken(udp, SOCK_DGRAM), 0) << "free at once";
  EXPECT_EQ(taken(tcp), EADDRINUSE);
  second->ports.release_all_but({});
  EXPECT_EQ(taken(tcp), 0);
}

TEST_F(PortKeeperTest, APortOfAnotherProgramIsAClashWhetherKeptOnesAreThereOrNot) {
  HostPorts other;
  const auto port = other.pick(v1::PortConfig::TCP);
  ASSERT_TRUE(port);
  auto ours = musterd();
  ours->ports.adopt();
  const auto wanted = key(static_cast<uint16_t>(*port));
  EXPECT_EQ(ours->ports.hold(wanted, {}).code(), StatusCode::kAlreadyExists);
  store_->stop();
  EXPECT_TRUE(store_->kept().empty());
}

TEST_F(PortKeeperTest, APortThatMovesToAnotherPlaceIsFreeForIt) {
  const uint16_t port = free_port();
  auto ours = musterd();
  ours->ports.adopt();
  ASSERT_TRUE(ours->ports.hold(key(port), {}).ok());
  const FrontendKey at{v1::PortConfig::TCP, port, "127.0.0.1"};
  ours->ports.release_moved({at});
  EXPECT_TRUE(ours->ports.hold(at, {}).ok());
  ours.reset();
  store_->stop();
  const auto listed = store_->kept().command({"list", {}});
  EXPECT_THAT(names_in(listed[0].text), ElementsAre(fmt::format("tcp/{}/v4/127.0.0.1", port)));
}

TEST_F(PortKeeperTest, OnesThatAreOnlyPickedAreNotKept) {
  auto ours = musterd();
  ours->ports.adopt();
  const auto picked = ours->ports.pick(v1::PortConfig::TCP);
  const auto used = ours->ports.pick(v1::PortConfig::TCP);
  ASSERT_TRUE(picked && used);
  ASSERT_TRUE(ours->ports.hold(key(static_cast<uint16_t>(*used)), {}).ok());
  ours.reset();
  EXPECT_EQ(taken(static_cast<uint16_t>(*picked)), 0);
  EXPECT_EQ(taken(static_cast<uint16_t>(*used)), EADDRINUSE);
}

TEST_F(PortKeeperTest, ANewNetdGetsAllOfThemUnasked) {
  const uint16_t one = free_port();
  const uint16_t two = free_port();
  auto ours = musterd();
  ours->ports.adopt();
  ASSERT_TRUE(ours->ports.hold(key(one), {}).ok());
  ASSERT_TRUE(ours->ports.hold(key(two), {}).ok());
  store_.reset();
  // Meanwhile one of them goes.
  ours->ports.release_all_but({key(two)});
  EXPECT_EQ(taken(one), 0);
  start_store();
  // Seen from outside: by the time another one is told of them, netd has them.
  EXPECT_TRUE(until([&] {
    PortKeeper looker(path(), null_log());
    return looker.adopt().size() == 1;
  }));
  ours.reset();
  EXPECT_EQ(taken(two), EADDRINUSE);
  EXPECT_EQ(taken(one), 0);
}

TEST_F(PortKeeperTest, WithoutNetdPortsAreBoundAndHeldAllTheSame) {
  store_.reset();
  std::filesystem::remove(path());
  const uint16_t port = free_port();
  auto ours = musterd();
  ours->ports.adopt();
  EXPECT_TRUE(ours->ports.hold(key(port), {}).ok());
  EXPECT_EQ(taken(port), EADDRINUSE);
  ours.reset();
  EXPECT_EQ(taken(port), 0);
}

// As by an upgrade of both: the old netd is gone already, the new one has the sockets but is not
// heard yet.
TEST_F(PortKeeperTest, AClashWithANetdThatIsBeingReplacedIsNone) {
  const uint16_t port = free_port();
  auto first = musterd();
  first->ports.adopt();
  ASSERT_TRUE(first->ports.hold(key(port), {}).ok());
  first.reset();
  store_->stop();
  std::vector<HandedRelay> handed;
  store_->kept().hand_over(handed);
  ASSERT_THAT(handed, SizeIs(1));
  handed[0].owned.emplace_back(dup(handed[0].descriptors[0]));
  store_.reset();  // whose path stays
  ASSERT_EQ(taken(port), EADDRINUSE);
  auto second = musterd();
  second->ports.adopt();
  std::thread later([&] {
    store_ = std::make_unique<Store>(path());
    store_->kept().inherit(handed);
    store_->start();
  });
  EXPECT_TRUE(second->ports.hold(key(port), {}).ok());
  later.join();
  second->ports.release_all_but({});
  EXPECT_EQ(taken(port), 0);
}

TEST_F(PortKeeperTest, MoreThanFitIntoAMessageComeBackWhole) {
  {
    PortKeeper keeper(path(), null_log());
    EXPECT_THAT(keeper.adopt(), IsEmpty());
    for (int i = 1; i <= 1000; ++i) {
      keeper.keep(fmt::format("tcp/{}/v4", i), std::make_shared<const UniqueFd>(any_descriptor()));
    }
  }
  PortKeeper keeper(path(), null_log());
  const auto adopted = keeper.adopt();
  EXPECT_THAT(adopted, SizeIs(1000));
  for (const auto& [name, socket] : adopted) EXPECT_TRUE(is_open(socket->get())) << name;
  EXPECT_THAT(keeper.adopt(), IsEmpty()) << "each once";
}

}  // namespace
}  // namespace muster::overlay::dns
