#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <map>
#include <sstream>

#include "overlay/dataplane/vip/first_use.h"
#include "overlay/dataplane/vip/ipvs_place.h"
#include "tests/overlay/dataplane/client_fixture.h"

// An address has few of its tasks in a container until the container uses it.
namespace muster::overlay::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr size_t kTasks = 5;

class FirstUseTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    ASSERT_TRUE(lab_.choice.ipvs) << "MUSTER_TEST_BALANCER is not ipvs";
    const Status probed = probe_first_use();
    ASSERT_TRUE(probed.ok()) << probed.message();
    lab_.choice.on_use = true;
    lab_.restart();
    serve(kTasks, true);
    lab_.service("web", {kVip, kVip6});
    lab_.apply({});
    client_ = client("c1", {"10.60.0.2", "fd60::2"});
  }
  // How many backends each service has, by its mark in hexadecimal digits. Those of 10.60.255.1
  // have marks 49000000 and, of datagrams, 49000001.
  std::map<std::string, size_t> backends() {
    std::map<std::string, size_t> out;
    std::istringstream lines(lab_.box.run(client_, "cat /proc/net/ip_vs"));
    std::string mark;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string first;
      words >> first;
      if (first == "FWM") out[words >> mark ? mark : ""] = 0;
      if (first == "->" && !mark.empty()) ++out[mark];
    }
    return out;
  }
  // Waits until a container has told of something, and does what is to be done by that.
  void serve_uses() {
    pollfd told{lab_.clients->uses(), POLLIN, 0};
    ASSERT_EQ(::poll(&told, 1, 10'000), 1);
    lab_.clients->serve_uses();
  }
  bool told() {
    pollfd told{lab_.clients->uses(), POLLIN, 0};
    return ::poll(&told, 1, 0) == 1;
  }
  // Looks at the kernel, and finds nothing to mend, until `mark` has all its tasks: IPVS counts
  // what a service has led every 2 s.
  void look_until_all(const std::string& mark) {
    const auto begun = std::chrono::steady_clock::now();
    while (backends()[mark] != kTasks && std::chrono::steady_clock::now() - begun < 60s) {
      EXPECT_THAT(lab_.repair(), IsEmpty());
    }
    EXPECT_EQ(backends()[mark], kTasks);
  }
  // As a process that begins anew, which finds the container.
  void succeed() {
    lab_.restart();
    const Status adopted = lab_.clients->adopt("c1", client_);
    ASSERT_TRUE(adopted.ok()) << adopted.message();
  }

  std::string client_;
};

TEST_F(FirstUseTest, AFirstConnectionIsServedByFewAndBringsAllOfThem) {
  EXPECT_THAT(backends(), AllOf(SizeIs(4), Each(Pair(::testing::_, kIpvsFew))));
  EXPECT_THAT(lab_.nft(client_), HasSubstr("ct state new jump fresh"));
  EXPECT_THAT(lab_.nft(client_), HasSubstr("ip daddr @unused4 limit rate 50/second burst 500 "
                                           "packets log group 19827 snaplen 40 queue-threshold 1"));
  EXPECT_THAT(lab_.repair(), IsEmpty());
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    ASSERT_TRUE(held);
    const std::string backend = ask_on(held.get()).text;
    EXPECT_NE(backend, "");
    serve_uses();
    EXPECT_THAT(backends(), Contains(Pair("49000000", kTasks)));
    EXPECT_THAT(backends(), Contains(Pair("49000001", kTasks)));
    EXPECT_EQ(ask_on(held.get()).text, backend);
  });
  EXPECT_THAT(spread(client_, kVip, kTasks * 2), SizeIs(kTasks));
  // Once is enough.
  EXPECT_FALSE(told());
  EXPECT_THAT(lab_.repair(), IsEmpty());
  // The other address has not been used.
  EXPECT_THAT(backends(), Contains(Pair("49000002", kIpvsFew)));
  EXPECT_THAT(spread(client_, kVip6, 1), SizeIs(1));
  serve_uses();
  EXPECT_THAT(spread(client_, kVip6, kTasks * 2), SizeIs(kTasks));
  EXPECT_THAT(backends(), Each(Pair(::testing::_, kTasks)));
}

TEST_F(FirstUseTest, SoDoesADatagram) {
  inside(client_, [&] {
    const UniqueFd udp = open_udp(kVip, kPort);
    EXPECT_NE(ask_udp(udp.get()).text, "");
  });
  serve_uses();
  EXPECT_THAT(backends(), Contains(Pair("49000001", kTasks)));
}

TEST_F(FirstUseTest, APingOrAnotherAddressTellsOfNothing) {
  EXPECT_EQ(lab_.box.run(client_,
                         "for to in 10.60.255.1 10.60.1.1; do busybox ping -c1 -W2 $to; done "
                         ">/dev/null && echo yes"),
            "yes");
  EXPECT_FALSE(told());
  EXPECT_THAT(backends(), AllOf(SizeIs(4), Each(Pair(::testing::_, kIpvsFew))));
}

// Between the flow and what is told of it a task can begin to drain.
TEST_F(FirstUseTest, AConnectionThatHasNotBeenToldOfYetIsNotBroken) {
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    const std::string backend = ask_on(held.get()).text;
    size_t task = 0;
    while (task < kTasks && v4(task) != backend) ++task;
    ASSERT_LT(task, kTasks);
    for (const auto state : {v1::ENDPOINT_DRAINING, v1::ENDPOINT_RELEASED}) {
      lab_.apply(lab_.task(fmt::format("t{}", task), "web", {v4(task), v6(task)}, state));
      EXPECT_EQ(ask_on(held.get()).text, backend) << state;
    }
    serve_uses();
    EXPECT_EQ(ask_on(held.get()).text, backend);
  });
  EXPECT_THAT(spread(client_, kVip, kTasks * 2), SizeIs(kTasks - 1));
}

// A process that begins finds it right away where the count has been made meanwhile, or else with a
// later look.
TEST_F(FirstUseTest, WhatHappensWhileNobodyListensIsServedAndFoundLater) {
  lab_.restart();
  EXPECT_THAT(spread(client_, kVip, 6), SizeIs(kIpvsFew));
  succeed();
  lab_.apply({});
  look_until_all("49000000");
  EXPECT_THAT(backends(), Contains(Pair("49000002", kIpvsFew)));
  EXPECT_THAT(spread(client_, kVip, kTasks * 2), SizeIs(kTasks));
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

TEST_F(FirstUseTest, WhatWasNotToldIsSeenWithTheNextLook) {
  EXPECT_THAT(spread(client_, kVip, 1), SizeIs(1));
  look_until_all("49000000");
  // Late, and no news.
  lab_.clients->serve_uses();
  EXPECT_FALSE(told());
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

TEST_F(FirstUseTest, WhoeverStopsTheTellingIsMended) {
  for (const char* harm : {"nft delete element inet muster_vip unused4 '{ 10.60.255.1 }'",
                           "nft flush chain inet muster_vip fresh", "nft flush ruleset"}) {
    lab_.box.run(client_, harm);
    EXPECT_THAT(lab_.repair(),
                Contains("container c1 did not lead virtual address 10.60.255.1 of service web as "
                         "it should"))
        << harm;
    EXPECT_THAT(lab_.repair(), IsEmpty()) << harm;
  }
  EXPECT_THAT(spread(client_, kVip, 1), SizeIs(1));
  serve_uses();
  EXPECT_THAT(backends(), Contains(Pair(::testing::_, kTasks)));
}

TEST_F(FirstUseTest, WhereSomebodyElseListensAllAreThereFromTheStart) {
  const std::string other = lab_.add("c2", {"10.60.0.3", "fd60::3"});
  inside(other, [&] {
    auto socket = WireSocket::open(NETLINK_NETFILTER);
    ASSERT_TRUE(socket);
    ASSERT_TRUE(listen_for_first_use(*socket).ok());
    EXPECT_TRUE(lab_.clients->attach("c2", other).ok());
  });
  client_ = other;
  EXPECT_THAT(backends(), AllOf(SizeIs(4), Each(Pair(::testing::_, kTasks))));
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

TEST_F(FirstUseTest, AContainerOfAVersionThatDidNotTellGoesOn) {
  lab_.choice.on_use = false;
  succeed();
  lab_.apply({});
  const std::string second_vip = "10.70.255.1";
  NetworkTruth second;
  second.network.set_id("second");
  second.network.mutable_spec()->set_driver("overlay");
  second.network.mutable_state()->add_pools()->set_subnet("10.70.0.0/16");
  v1::NetworkService& service = second.services["other"];
  service.set_service_id("other");
  service.add_virtual_ips(second_vip);
  v1::NetworkEndpoint& endpoint = second.endpoints["o1"];
  endpoint.set_service_id("other");
  endpoint.add_addresses("10.70.1.1");
  endpoint.set_state(v1::ENDPOINT_READY);
  lab_.box.run(servers_, "ip addr add 10.70.1.1/16 dev eth0");
  lab_.box.run(client_, "ip addr add 10.70.0.2/16 dev eth0");
  ASSERT_TRUE(lab_.clients->attach("c1", client_).ok());
  ASSERT_TRUE(lab_.clients->apply(second, {}).ok());
  EXPECT_THAT(backends(), SizeIs(6));
  EXPECT_THAT(backends(), Contains(Pair("49000000", kTasks)));
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    const UniqueFd of_second = connect_tcp(second_vip, kPort);
    const std::string backend = ask_on(held.get()).text;
    EXPECT_EQ(ask_on(of_second.get()).text, "10.70.1.1");
    lab_.choice.on_use = true;
    succeed();
    lab_.apply({});
    EXPECT_EQ(ask_on(held.get()).text, backend);
    // The rules are others, and the second network has not been told of yet.
    EXPECT_THAT(lab_.nft(client_), HasSubstr("unused4"));
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(ask_on(of_second.get()).text, "10.70.1.1");
      EXPECT_EQ(ask_on(connect_tcp(second_vip, kPort).get()).text, "10.70.1.1");
      EXPECT_THAT(lab_.repair(), IsEmpty());
    }
    EXPECT_THAT(backends(), AllOf(SizeIs(6), Contains(Pair("49000000", kTasks))));
    ASSERT_TRUE(lab_.clients->apply(second, {}).ok());
    EXPECT_THAT(lab_.repair(), IsEmpty());
  });
}

// As when it enters or leaves a network: the former place's sockets are closed later.
TEST_F(FirstUseTest, AContainerThatIsAttachedAgainIsListenedToAgain) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(lab_.clients->attach("c1", client_).ok());
  EXPECT_THAT(backends(), AllOf(SizeIs(4), Each(Pair(::testing::_, kIpvsFew))));
  EXPECT_THAT(spread(client_, kVip, 1), SizeIs(1));
  serve_uses();
  EXPECT_THAT(backends(), Contains(Pair("49000000", kTasks)));
}

// Through the whole of a node's network, where somebody waits for it.
TEST_F(FirstUseTest, ANodeSeesToItAtOnce) {
  Sandbox box;
  const auto choice = choose_balancer("ipvs");
  ASSERT_TRUE(choice && choice->on_use);
  const auto net = box.make_network("n1", *choice);
  ASSERT_NE(net, nullptr) << box.error();
  const v1::Network network = overlay_network("net-a", "10.50.0.0/24", "10.50.0.1");
  NetworkStep step{network.id(), true, {}};
  *step.feed.mutable_network() = network;
  auto& service = *step.feed.add_services();
  service.set_service_id("web");
  service.add_virtual_ips("10.50.0.200");
  for (size_t i = 0; i < kTasks; ++i) {
    const std::string address = fmt::format("10.50.0.{}", i + 2);
    const auto path = net->attach(request(fmt::format("c{}", i), network, address + "/24"));
    ASSERT_TRUE(path) << path.error().message();
    box.serve(*path, kPort, address);
    client_ = *path;
    auto& endpoint = *step.feed.add_endpoints();
    endpoint.set_task_id(address);
    endpoint.set_service_id("web");
    endpoint.add_addresses(address);
    endpoint.set_state(v1::ENDPOINT_READY);
  }
  ASSERT_TRUE(net->apply(step).ok());
  EXPECT_THAT(backends(), AllOf(SizeIs(2), Each(Pair(::testing::_, kIpvsFew))));
  EXPECT_NE(box.ask(client_, "10.50.0.200", kPort), "");
  const auto begun = std::chrono::steady_clock::now();
  while (backends()["49000000"] != kTasks && std::chrono::steady_clock::now() - begun < 60s) {
  }
  EXPECT_THAT(backends(), AllOf(SizeIs(2), Each(Pair(::testing::_, kTasks))));
  for (size_t i = 0; i < kTasks; ++i) EXPECT_TRUE(net->detach(fmt::format("c{}", i)).ok());
  EXPECT_TRUE(net->teardown().ok());
}

TEST_F(FirstUseTest, AContainerThatEndsIsNotWaitedForAnyMore) {
  EXPECT_THAT(spread(client_, kVip, 1), SizeIs(1));
  lab_.clients->detach("c1");
  EXPECT_FALSE(told());
  lab_.clients->serve_uses();
}

}  // namespace
}  // namespace muster::overlay::testing
