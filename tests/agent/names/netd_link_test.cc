// The link over real sockets, to a netd that only writes down what it is told.
#include "agent/names/netd_link.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <vector>

#include "base/process.h"
#include "base/thread_executor.h"
#include "overlay/dns/netd/records.h"

namespace muster::agent {
namespace {

using overlay::dns::encode_frame;
using testing::ElementsAre;

constexpr auto kPatience = std::chrono::seconds(20);

// Serves one connection after another until it is destroyed, as if killed.
class FakeNetd {
 public:
  FakeNetd(const std::string& run_dir, std::string build) : build_(std::move(build)) {
    lock_.reset(open(overlay::dns::netd_lock(run_dir).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    flock(lock_.get(), LOCK_EX | LOCK_NB);
    const std::string path = overlay::dns::netd_socket(run_dir);
    unlink(path.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener_.get(), 4);
    thread_ = std::thread([this] { run(); });
  }
  ~FakeNetd() {
    stopping_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    {
      std::lock_guard lock(mutex_);
      if (connection_ >= 0) shutdown(connection_, SHUT_RDWR);
    }
    thread_.join();
  }

  std::atomic<bool> silent = false;  // acknowledges nothing
  std::atomic<bool> mute = false;    // says nothing at all
  std::atomic<bool> taken = false;   // the port of encrypted networks is another program's

  // Waits until `n` updates have come.
  std::vector<v1::NetdUpdate> updates(size_t n) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return updates_.size() >= n; }));
    return updates_;
  }

  // Unasked, as netd tells of what it has mended.
  void tell(const std::vector<std::string>& keys) {
    v1::NetdReply news;
    for (const std::string& key : keys) news.mutable_state()->add_records()->set_key(key);
    std::lock_guard lock(mutex_);
    say(connection_, news);
  }

 private:
  void run() {
    while (!stopping_) {
      const UniqueFd fd(accept(listener_.get(), nullptr, nullptr));
      if (!fd) return;
      {
        std::lock_guard lock(mutex_);
        connection_ = fd.get();
      }
      serve(fd.get());
      std::lock_guard lock(mutex_);
      connection_ = -1;
    }
  }
  static void say(int fd, const v1::NetdReply& reply) {
    const std::string frame = encode_frame(reply);
    [[maybe_unused]] const ssize_t sent = send(fd, frame.data(), frame.size(), MSG_NOSIGNAL);
  }
  void serve(int fd) {
    v1::NetdReply hello;
    hello.mutable_hello()->set_build(build_);
    if (!mute) say(fd, hello);
    overlay::dns::FrameReader reader;
    char buffer[4096];
    while (true) {
      const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0) return;
      reader.add({buffer, static_cast<size_t>(got)});
      while (const auto frame = reader.next()) {
        if (!*frame) break;
        v1::NetdCommand command;
        command.ParseFromString(**frame);
        if (command.has_shutdown()) {
          stopping_ = true;
          lock_.reset();
          return;
        }
        heard(fd, command.update());
      }
    }
  }
  void heard(int fd, const v1::NetdUpdate& update) {
    v1::NetdReply reply;
    reply.mutable_ack()->set_version(update.version());
    for (const auto& record : update.records()) {
      if (record.key() == "relay/esp/4500" && taken) {
        auto& failure = *reply.mutable_ack()->add_failures();
        failure.set_container_id(record.key());
        failure.set_message("UDP port 4500 is in use");
      }
      if (record.container().id() != "broken") continue;
      auto& failure = *reply.mutable_ack()->add_failures();
      failure.set_container_id("broken");
      failure.set_message("no nftables");
    }
    {
      std::lock_guard lock(mutex_);
      updates_.push_back(update);
    }
    changed_.notify_all();
    if (!silent && !mute) say(fd, reply);
  }

  std::string build_;
  UniqueFd lock_;
  UniqueFd listener_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::NetdUpdate> updates_;
  int connection_ = -1;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

class NetdLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / "muster-link-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
  }
  void TearDown() override {
    link_.reset();
    netd_.reset();
    std::filesystem::remove_all(directory_);
  }
  void make_link() {
    NetdLinkOptions options;
    options.run_dir = directory_;
    options.build = "this";
    options.hung_after = hung_after_;
    options.replace_again = 1ms;
    options.launch = [this](bool take_over) {
      launches_.push_back(take_over);
      if (launching_) launching_();
      if (refuse_ && refuse_()) return already_exists("netd runs already");
      netd_.reset();
      netd_ = std::make_unique<FakeNetd>(directory_, "this");
      return ok_status();
    };
    link_ = std::make_unique<NetdLink>(std::move(options), null_log());
  }
  static v1::NetdContainer container(const std::string& id) {
    v1::NetdContainer out;
    out.set_id(id);
    return out;
  }
  // Waits until what was said is in force.
  void settle() {
    std::promise<void> applied;
    link_->after_applied(strand_, [&] { applied.set_value(); });
    ASSERT_EQ(applied.get_future().wait_for(kPatience), std::future_status::ready);
  }

  std::string directory_;
  Duration hung_after_ = 20s;
  ThreadExecutor strand_{"strand"};
  std::function<void()> launching_;
  std::function<bool()> refuse_;  // whether another netd keeps a new one from its place
  std::vector<bool> launches_;    // by the link's thread; read when it rests
  std::unique_ptr<FakeNetd> netd_;
  std::unique_ptr<NetdLink> link_;
};

TEST_F(NetdLinkTest, StartsANetdAndTellsItEverythingThenWhatChanges) {
  make_link();
  link_->begin("node");
  link_->adopt(container("old"));
  link_->serve();
  settle();
  ASSERT_TRUE(link_->attach(container("new")).ok());
  link_->detach("old");
  settle();
  EXPECT_THAT(launches_, ElementsAre(false));
  const auto updates = netd_->updates(3);
  EXPECT_TRUE(updates[0].complete());
  EXPECT_EQ(updates[0].records_size(), 2) << "the settings, and one container";
  EXPECT_FALSE(updates[1].complete());
  EXPECT_EQ(updates[1].records(0).container().id(), "new");
  EXPECT_THAT(updates[2].removed_keys(), ElementsAre("container/old"));
}

TEST_F(NetdLinkTest, FindsTheNetdThatRuns) {
  netd_ = std::make_unique<FakeNetd>(directory_, "this");
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  EXPECT_TRUE(launches_.empty());
}

TEST_F(NetdLinkTest, OneThatIsKilledIsStartedAnewAndToldEverything) {
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  // The link starts the next one at once, by the same means.
  auto killed = std::move(netd_);
  killed.reset();
  ASSERT_TRUE(link_->attach(container("d")).ok());
  settle();
  EXPECT_THAT(launches_, ElementsAre(false, false));
  const auto updates = netd_->updates(1);
  EXPECT_TRUE(updates[0].complete());
}

TEST_F(NetdLinkTest, OneOfAnotherProgramIsReplacedOnce) {
  netd_ = std::make_unique<FakeNetd>(directory_, "older");
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  EXPECT_THAT(launches_, ElementsAre(true));
}

TEST_F(NetdLinkTest, AReplacementThatFailsIsTriedAgain) {
  netd_ = std::make_unique<FakeNetd>(directory_, "older");
  std::promise<void> replaced;
  int left = 2;
  refuse_ = [&] {
    if (left-- > 0) return true;
    replaced.set_value();
    return false;
  };
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok()) << "the older one serves meanwhile";
  ASSERT_EQ(replaced.get_future().wait_for(kPatience), std::future_status::ready);
  ASSERT_TRUE(link_->attach(container("d")).ok());
  EXPECT_THAT(launches_, ElementsAre(true, true, true));
}

// It was only late in saying so: whoever serves by then is this program's, and is left in peace.
TEST_F(NetdLinkTest, AReplacementThatCameAfterAllIsNotTriedAgain) {
  netd_ = std::make_unique<FakeNetd>(directory_, "older");
  refuse_ = [&] {
    netd_.reset();
    netd_ = std::make_unique<FakeNetd>(directory_, "this");
    return true;
  };
  make_link();
  link_->begin("node");
  link_->serve();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(link_->attach(container(fmt::format("c{}", i))).ok());
  EXPECT_THAT(launches_, ElementsAre(true));
  size_t complete = 0;
  for (const auto& update : netd_->updates(1)) complete += update.complete() ? 1 : 0;
  EXPECT_LE(complete, 2u) << "one connection, and one more to ask again";
}

TEST_F(NetdLinkTest, WhatNetdMendsIsToldOf) {
  make_link();
  std::promise<std::vector<std::string>> told;
  link_->on_mended([&](const std::vector<std::string>& found) { told.set_value(found); });
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  netd_->tell({"container/c"});
  netd_->tell({"mended/c", "mended/d", "network/n"});
  auto found = told.get_future();
  ASSERT_EQ(found.wait_for(kPatience), std::future_status::ready);
  EXPECT_THAT(found.get(), ElementsAre("container c was not led to its resolver as it should",
                                       "container d was not led to its resolver as it should"));
  // It is no acknowledgement: the next update goes out and is waited for as ever.
  link_->on_mended({});
  netd_->tell({"mended/c"});
  ASSERT_TRUE(link_->attach(container("e")).ok());
  settle();
}

TEST_F(NetdLinkTest, AContainerThatCannotHaveAResolverIsSaid) {
  make_link();
  link_->begin("node");
  link_->serve();
  const Status refused = link_->attach(container("broken"));
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused.message(), "name resolution: no nftables");
  EXPECT_TRUE(link_->attach(container("whole")).ok());
}

TEST_F(NetdLinkTest, AStopDoesNotWaitForeverForASilentNetd) {
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  netd_->silent = true;
  link_->detach("c");
  settle();  // after kForceTimeout
}

// A process that looks like a netd of the folder until its input ends.
Process like_netd(const std::string& program_dir, const std::string& run_dir) {
  std::ofstream(program_dir + "/netd") << "read -r line\n";
  ProcessOptions options;
  options.argv = {"/bin/sh", "netd", "--run-dir", run_dir, "--background"};
  options.working_dir = program_dir;
  options.in = ProcessOptions::Stream::kPipe;
  auto started = Process::spawn(options);
  EXPECT_TRUE(started) << started.error().message();
  return *std::move(started);
}

TEST_F(NetdLinkTest, OneThatDoesNotSayHelloIsKilledAndAnotherStarted) {
  Process hung = like_netd(directory_, directory_);
  Process others = like_netd(directory_, directory_ + "/other");
  netd_ = std::make_unique<FakeNetd>(directory_, "this");
  netd_->mute = true;
  hung_after_ = 200ms;
  make_link();
  link_->begin("node");
  link_->serve();
  const auto ended = hung.wait(Duration(kPatience));
  ASSERT_TRUE(ended && *ended);
  EXPECT_EQ((*ended)->signal, SIGKILL);
  // What it held goes with it.
  auto killed = std::move(netd_);
  killed.reset();
  EXPECT_TRUE(link_->attach(container("c")).ok());
  const auto alive = others.wait(Duration(0));
  EXPECT_TRUE(alive && !*alive) << "it is another instance's";
}

TEST_F(NetdLinkTest, OneThatCannotBeConnectedToIsKilledAndAnotherStarted) {
  Process hung = like_netd(directory_, directory_);
  std::atomic<bool> held = true;
  hung_after_ = 200ms;
  refuse_ = [&] { return held.load(); };
  make_link();
  link_->begin("node");
  link_->serve();
  const auto ended = hung.wait(Duration(kPatience));
  ASSERT_TRUE(ended && *ended);
  EXPECT_EQ((*ended)->signal, SIGKILL);
  held = false;
  EXPECT_TRUE(link_->attach(container("c")).ok());
}

TEST_F(NetdLinkTest, HasNetdHoldThePortOfEncryptedNetworks) {
  make_link();
  EXPECT_TRUE(link_->hold_encapsulation(4500).ok()) << "nobody is there to be told";
  link_->begin("node");
  EXPECT_TRUE(link_->hold_encapsulation(4500).ok());
  link_->serve();
  settle();
  const auto first = netd_->updates(1)[0];
  EXPECT_THAT(first.fed_network_ids(), ElementsAre(overlay::dns::kEncapsulationTold));
  const auto& records = first.records();
  EXPECT_EQ(std::count_if(records.begin(), records.end(),
                          [](const auto& each) { return each.key() == "relay/esp/4500"; }),
            1);
  // The same once more is no news, and what is said of relays is of others.
  EXPECT_TRUE(link_->hold_encapsulation(4500).ok());
  link_->set_relays({}, false);
  settle();
  const auto second = netd_->updates(2)[1];
  EXPECT_TRUE(second.complete());
  EXPECT_THAT(second.fed_network_ids(),
              ElementsAre(overlay::dns::kRelaysTold, overlay::dns::kEncapsulationTold));
  EXPECT_EQ(second.records_size(), first.records_size());
  EXPECT_TRUE(link_->hold_encapsulation(0).ok());
  settle();
  EXPECT_THAT(netd_->updates(3)[2].removed_keys(), ElementsAre("relay/esp/4500"));
}

TEST_F(NetdLinkTest, APortOfEncryptedNetworksThatIsTakenIsSaidUntilItIsFree) {
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  netd_->taken = true;
  EXPECT_EQ(link_->hold_encapsulation(4500).message(), "UDP port 4500 is in use");
  EXPECT_EQ(link_->hold_encapsulation(4500).message(), "UDP port 4500 is in use");
  EXPECT_TRUE(link_->failed_relays().empty()) << "of published ports";
  netd_->taken = false;
  EXPECT_TRUE(link_->hold_encapsulation(4500).ok()) << "asked anew each time";
}

TEST_F(NetdLinkTest, EndEndsNetdAndLeavesNothing) {
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_TRUE(link_->attach(container("c")).ok());
  ASSERT_TRUE(link_->end().ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
  EXPECT_TRUE(link_->end().ok()) << "again";
  settle();  // nothing is waited for
  EXPECT_THAT(launches_, ElementsAre(false));
}

TEST_F(NetdLinkTest, OneThatIsBeingStartedIsEndedToo) {
  std::promise<void> entered;
  std::promise<void> go_on;
  launching_ = [&] {
    entered.set_value();
    go_on.get_future().wait();
  };
  make_link();
  link_->begin("node");
  link_->serve();
  ASSERT_EQ(entered.get_future().wait_for(kPatience), std::future_status::ready);
  auto ended = std::async(std::launch::async, [&] { return link_->end(); });
  // It must wait; however long it takes to see that, the order of events is the same.
  EXPECT_EQ(ended.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  go_on.set_value();
  ASSERT_EQ(ended.wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(ended.get().ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

}  // namespace
}  // namespace muster::agent
