// The part that needs no network but the loopback; tunnels between hosts are tried by
// tests/integration/doctor_test.sh.
#include "agent/doctor/linux_host_tests.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/unique_fd.h"

namespace muster::agent {
namespace {

// A socket on a port that the kernel chooses.
struct Listener {
  explicit Listener(bool listens) : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    if (listens) {
      EXPECT_EQ(::listen(fd.get(), 4), 0);
    }
    socklen_t size = sizeof address;
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
  UniqueFd fd;
  uint16_t port = 0;
};

TEST(LinuxHostTests, ConnectionsAreAcceptedRefusedOrHaveNoWay) {
  using Answer = HostTests::Answer;
  const Listener open(true), shut(false);
  const auto tests = make_linux_host_tests();
  const auto answers = tests->connect(
      {}, {{"127.0.0.1", open.port}, {"127.0.0.1", shut.port}, {"no address", 1}}, 5s);
  ASSERT_TRUE(answers) << answers.error().message();
  EXPECT_EQ(*answers, (std::vector{Answer::kAccepted, Answer::kRefused, Answer::kUnreachable}));
}

TEST(LinuxHostTests, DatagramsAreRefusedOrNot) {
  using Answer = HostTests::Answer;
  using Protocol = HostTests::Protocol;
  UniqueFd open(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(open.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t size = sizeof address;
  getsockname(open.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const uint16_t port = ntohs(address.sin_port);
  const auto tests = make_linux_host_tests();
  const std::vector<HostTests::Target> target = {{"127.0.0.1", port, Protocol::kUdp}};
  auto answers = tests->connect({}, target, 5s);
  ASSERT_TRUE(answers);
  EXPECT_EQ(*answers, std::vector{Answer::kSilent});
  open.reset();
  answers = tests->connect({}, target, 5s);
  ASSERT_TRUE(answers);
  EXPECT_EQ(*answers, std::vector{Answer::kRefused});
}

TEST(LinuxHostTests, EchoesAreAnsweredOrNot) {
  const auto tests = make_linux_host_tests();
  const auto answered = tests->echo({{"", {"127.0.0.1", "no address", "127.0.0.2"}},
                                     {"/nowhere/netns", {"127.0.0.1"}},
                                     {"", {"127.0.0.3"}}},
                                    300ms);
  ASSERT_EQ(answered.size(), 3u);
  ASSERT_TRUE(answered[0]) << answered[0].error().message();
  EXPECT_EQ(*answered[0], (std::vector<bool>{true, false, true}));
  EXPECT_FALSE(answered[1]) << "of a namespace that is gone";
  ASSERT_TRUE(answered[2]);
  EXPECT_EQ(*answered[2], std::vector<bool>{true}) << "whatever the others do";
  (void)tests->refusals();
}

TEST(LinuxHostTests, ConnectionsFromSeveralNamespacesAtOneTime) {
  using Answer = HostTests::Answer;
  const Listener open(true), shut(false);
  const auto answers = make_linux_host_tests()->connect({{"", {{"127.0.0.1", shut.port}}},
                                                         {"/nowhere/netns", {{"127.0.0.1", 1}}},
                                                         {"", {{"127.0.0.1", open.port}}}},
                                                        5s);
  ASSERT_EQ(answers.size(), 3u);
  ASSERT_TRUE(answers[0] && answers[2]);
  EXPECT_EQ(*answers[0], std::vector{Answer::kRefused});
  EXPECT_FALSE(answers[1]);
  EXPECT_EQ(*answers[2], std::vector{Answer::kAccepted});
}

TEST(LinuxHostTests, ANamespaceThatIsGoneIsAnError) {
  const auto tests = make_linux_host_tests();
  EXPECT_FALSE(tests->connect("/nowhere/netns", {{"127.0.0.1", 1}}, 1s));
  EXPECT_FALSE(tests->ask_names("/nowhere/netns", {{"web", false}}, 1s));
}

TEST(LinuxHostTests, WhoDoesNotAnswerIsNotWaitedForAfterTheLimit) {
  // Nobody answers at 127.0.0.11 of the host.
  const auto named = make_linux_host_tests()->ask_names({}, {{"web.blue", false}}, 60ms);
  ASSERT_TRUE(named);
  EXPECT_FALSE((*named)[0].answered);
}

TEST(LinuxHostTests, TheHostsOwn) {
  const auto tests = make_linux_host_tests();
  EXPECT_TRUE(tests->has_address("127.0.0.1"));
  EXPECT_FALSE(tests->has_address("203.0.113.77"));
  EXPECT_FALSE(tests->has_address("none"));
  EXPECT_TRUE(tests->setting("net.ipv4.ip_forward"));
  EXPECT_FALSE(tests->setting("net.ipv4.no_such_thing"));
}

TEST(LinuxHostTests, ATunnelNeedsAnAddress) {
  HostTests::TunnelTest test;
  test.local_addr = "nowhere";
  int told = 0;
  make_linux_host_tests()->test_tunnels(test, [&](const Result<HostTests::Heard>& heard) {
    ++told;
    EXPECT_FALSE(heard);
  });
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace muster::agent
