#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "overlay/balancer/slots.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/vip/client_place.h"
#include "tests/overlay/dataplane/client_fixture.h"

namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

TEST_F(ClientTest, SpreadsExactlyOverAnyNumberOfTasks) {
  serve(300);
  lab_.truth.endpoints.clear();
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  size_t have = 0;
  for (const auto& [tasks, slots] :
       {std::pair<size_t, size_t>{1, 64}, {63, 256}, {64, 256}, {65, 512}, {300, 2048}}) {
    NetworkDifference difference;
    for (; have < tasks; ++have) {
      difference.task_ids.merge(lab_.task(fmt::format("t{}", have), "web", {v4(have)}).task_ids);
    }
    lab_.apply(difference);
    const auto met = spread(ns, kVip, slots);
    EXPECT_EQ(met.size(), tasks);
    for (const auto& [backend, times] : met) {
      EXPECT_GE(times, slots / tasks) << tasks << " " << backend;
      EXPECT_LE(times, (slots + tasks - 1) / tasks) << tasks << " " << backend;
    }
  }
}

TEST_F(ClientTest, BothFamiliesBothProtocolsAnyPortAndTheClientsAddress) {
  serve(4, true);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  for (const auto& [vip, own] :
       {std::pair<std::string, std::string>{kVip, "10.60.0.2"}, {kVip6, "fd60::2"}}) {
    for (const auto& [backend, times] : spread(ns, vip, 8)) EXPECT_EQ(times, 2u) << backend;
    inside(ns, [&, vip = vip, own = own] {
      std::map<std::string, int> met;
      for (int i = 0; i < 8; ++i) {
        const UniqueFd fd = open_udp(vip, kPort);
        const Answer answer = ask_udp(fd.get());
        EXPECT_EQ(answer.peer, own);
        ++met[answer.text];
      }
      EXPECT_THAT(met, SizeIs(4));
      const UniqueFd tcp = connect_tcp(vip, kPort);
      ASSERT_TRUE(tcp);
      EXPECT_EQ(ask_on(tcp.get()).peer, own);
    });
    // Segments are cut to the overlay's MTU, not to the loopback's.
    EXPECT_THAT(lab_.box.run(ns, "ip route get " + vip), HasSubstr("mtu 1450"));
    EXPECT_EQ(refusal(ns, vip, 9999), ECONNREFUSED);
    EXPECT_EQ(lab_.box.run(ns, "busybox ping -c1 -W2 " + vip + " >/dev/null && echo yes"), "yes");
  }
  // Nobody else is told that the virtual address is here.
  const std::string other = lab_.add("other", {"10.60.0.3"});
  EXPECT_EQ(lab_.box.run(other, std::string("busybox arping -c1 -w1 -I eth0 ") + kVip +
                                    " >/dev/null || echo silent"),
            "silent");
}

TEST_F(NftClientTest, BySourceAllFlowsOfAClientGoToOneTask) {
  serve(4, true);
  const std::string ns = lab_.add("c1", {"10.60.0.2", "fd60::2"});
  auto opened = ClientPlace::open(ns, 5);
  ASSERT_TRUE(opened) << opened.error().message();
  ClientPlace& place = **opened;
  std::vector<VipBackend> backends, backends6;
  for (size_t i = 0; i < 4; ++i) {
    backends.push_back({*Ip::parse(v4(i))});
    backends6.push_back({*Ip::parse(v6(i))});
  }
  const std::vector<VipWish> wishes = {{*Ip::parse(kVip), spread_vip(nullptr, backends, true),
                                        nullptr, "web", *Ip::parse("10.60.0.2"), 1450},
                                       {*Ip::parse(kVip6), spread_vip(nullptr, backends6, true),
                                        nullptr, "web", *Ip::parse("fd60::2"), 1450}};
  const Status applied = place.apply(wishes);
  ASSERT_TRUE(applied.ok()) << applied.message();
  EXPECT_THAT(spread(ns, kVip, 8), SizeIs(1));
  EXPECT_THAT(spread(ns, kVip6, 8), SizeIs(1));
  // It is read back as what it is.
  ASSERT_TRUE(place.load().ok());
  for (const VipWish& wish : wishes) EXPECT_TRUE(place.as_wished(wish));
}

TEST_F(ClientTest, FirstFlowsOfManyClientsDoNotAllMeetInOneTask) {
  serve(4);
  lab_.service("web", {kVip});
  lab_.apply({});
  std::map<std::string, size_t> met;
  for (int i = 0; i < 12; ++i) {
    const std::string ns = client(fmt::format("c{}", i), {fmt::format("10.60.0.{}", i + 2)});
    for (const auto& [backend, times] : spread(ns, kVip, 1)) met[backend] += times;
  }
  EXPECT_GE(met.size(), 3u);
}

TEST_F(ClientTest, ByWeightAndWithAnotherOne) {
  serve(3, true);
  lab_.weigh("t0", 2);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  for (const bool six : {false, true}) {
    auto met = spread(ns, six ? kVip6 : kVip, 64);
    EXPECT_EQ(met[six ? v6(0) : v4(0)], 32u);
    EXPECT_EQ(met[six ? v6(1) : v4(1)], 16u);
    EXPECT_EQ(met[six ? v6(2) : v4(2)], 16u);
  }
  lab_.apply(lab_.weigh("t0", 0));
  for (const auto& [backend, times] : spread(ns, kVip, 63)) EXPECT_NEAR(times, 21, 1) << backend;
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

TEST_F(ClientTest, WeightsAtEverySize) {
  serve(300);
  lab_.truth.endpoints.clear();
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  size_t have = 0;
  for (const size_t tasks : {1, 63, 64, 65, 300}) {
    NetworkDifference difference;
    std::vector<uint32_t> weights;
    size_t sum = 0;
    for (size_t i = 0; i < tasks; ++i) sum += weights.emplace_back(1 + i % 3);
    for (; have < tasks; ++have) {
      const std::string id = fmt::format("t{}", have);
      lab_.task(id, "web", {v4(have)});
      difference.task_ids.merge(lab_.weigh(id, weights[have]).task_ids);
    }
    lab_.apply(difference);
    // IPVS goes round by weights, nftables by slots in their proportion.
    const size_t round = lab_.choice.ipvs ? sum : slot_count(weights);
    auto met = spread(ns, kVip, round);
    for (size_t i = 0; i < tasks; ++i) {
      EXPECT_GE(met[v4(i)], round * weights[i] / sum) << tasks << " " << i;
      EXPECT_LE(met[v4(i)], round * weights[i] / sum + 1) << tasks << " " << i;
    }
  }
}

TEST_F(ClientTest, OfMoreTasksThanSlotsEachHasItsTurnAndItIsTold) {
  if (lab_.choice.ipvs) return;  // has no slots
  lab_.most = 4;
  lab_.restart();
  serve(9);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  ASSERT_THAT(lab_.clients->limitations(), SizeIs(1));
  EXPECT_THAT(lab_.clients->limitations()[0], HasSubstr("service web has 9 tasks"));
  EXPECT_THAT(lab_.clients->limitations()[0], HasSubstr("10.60.255.1 leads to 4 of them"));
  std::set<std::string> met;
  for (int turn = 0; turn < 9; ++turn) {
    const auto now = spread(ns, kVip, 4);
    EXPECT_THAT(now, SizeIs(4)) << turn;
    for (const auto& [backend, times] : now) met.insert(backend);
    EXPECT_THAT(lab_.repair(), IsEmpty()) << turn;
  }
  EXPECT_THAT(met, SizeIs(9));
  EXPECT_FALSE(met.contains("refused"));
  NetworkDifference fewer;
  for (int i = 4; i < 9; ++i) fewer.task_ids.merge(lab_.no_task(fmt::format("t{}", i)).task_ids);
  lab_.apply(fewer);
  EXPECT_THAT(lab_.clients->limitations(), IsEmpty());
}

TEST_F(ClientTest, BySourceOrWithAffinityAClientKeepsItsTask) {
  serve(4, true);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  for (const auto& [by, affinity] :
       {std::pair(v1::EndpointSpec::SOURCE_HASH, Duration(0)),
        std::pair(v1::EndpointSpec::ROUND_ROBIN, Duration(600s)),
        std::pair(v1::EndpointSpec::SOURCE_HASH, Duration(600s)),
        std::pair(v1::EndpointSpec::LEAST_CONNECTION, Duration(600s))}) {
    lab_.apply(lab_.balance("web", by, affinity));
    for (const char* vip : {kVip, kVip6}) {
      const auto met = spread(ns, vip, 8);
      EXPECT_THAT(met, SizeIs(1)) << by << " " << vip;
      // When its task leaves it gets another one and keeps that.
      size_t gone = 0;
      while (gone < 3 && met.count(v4(gone)) == 0 && met.count(v6(gone)) == 0) ++gone;
      const std::string id = fmt::format("t{}", gone);
      lab_.apply(lab_.task(id, "web", {v4(gone), v6(gone)}, v1::ENDPOINT_DRAINING));
      const auto next = spread(ns, vip, 8);
      EXPECT_THAT(next, SizeIs(1)) << by << " " << vip;
      EXPECT_NE(next, met);
      lab_.apply(lab_.task(id, "web", {v4(gone), v6(gone)}));
    }
    EXPECT_THAT(lab_.repair(), IsEmpty());
  }
  lab_.apply(lab_.balance("web", v1::EndpointSpec::ROUND_ROBIN));
  EXPECT_THAT(spread(ns, kVip, 8), SizeIs(4));
}

TEST_F(ClientTest, LeastConnectionIsRoundRobinWhereItIsNotThere) {
  serve(4);
  lab_.service("web", {kVip});
  lab_.balance("web", v1::EndpointSpec::LEAST_CONNECTION);
  lab_.apply({});
  EXPECT_THAT(spread(client("c1", {"10.60.0.2"}), kVip, 8), SizeIs(4));
}

TEST_F(ClientTest, WithoutTasksItIsRefusedAtOnceWhateverTheClientItselfListensOn) {
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  const AddressServer own(ns, kPort, {});
  for (const std::string vip : {kVip, kVip6}) {
    EXPECT_EQ(refusal(ns, vip, kPort), ECONNREFUSED);
    inside(ns, [&] {
      const UniqueFd fd = open_udp(vip, kPort);
      const Answer answer = ask_udp(fd.get());
      EXPECT_TRUE(answer.error == EPERM || answer.error == ECONNREFUSED) << answer.error;
    });
    EXPECT_EQ(lab_.box.run(ns, "busybox ping -c1 -W2 " + vip + " >/dev/null && echo yes"), "yes");
  }
  // A task that is not ready is none.
  lab_.apply(lab_.task("t0", "web", {"10.60.0.2"}, v1::ENDPOINT_ABSENT));
  EXPECT_EQ(refusal(ns, kVip, kPort), ECONNREFUSED);
  lab_.apply(lab_.task("t0", "web", {"10.60.0.2", "fd60::2"}));
  EXPECT_EQ(refusal(ns, kVip, kPort), 0);
}

TEST_F(ClientTest, TheOnlyTaskCallsItsOwnService) {
  lab_.service("web", {kVip, kVip6});
  lab_.task("t0", "web", {"10.60.0.2", "fd60::2"});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  const AddressServer own(ns, kPort, {"10.60.0.2", "fd60::2"});
  for (const auto& [vip, address] :
       {std::pair<std::string, std::string>{kVip, "10.60.0.2"}, {kVip6, "fd60::2"}}) {
    inside(ns, [&, vip = vip, address = address] {
      const UniqueFd tcp = connect_tcp(vip, kPort);
      ASSERT_TRUE(tcp);
      const Answer answer = ask_on(tcp.get());
      EXPECT_EQ(answer.text, address);
      EXPECT_EQ(answer.peer, address);
      const UniqueFd udp = open_udp(vip, kPort);
      EXPECT_EQ(ask_udp(udp.get()).text, address);
    });
  }
}

TEST_F(ClientTest, ServicesComeAndGo) {
  serve(2);
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  EXPECT_EQ(lab_.nft(ns), "");
  lab_.apply(lab_.service("web", {kVip}));
  EXPECT_THAT(spread(ns, kVip, 4), SizeIs(2));
  const std::string other = "10.60.255.2";
  lab_.apply(lab_.service("web", {other}));
  EXPECT_THAT(spread(ns, other, 4), SizeIs(2));
  EXPECT_THAT(lab_.box.run(ns, "ip route show table local"), Not(HasSubstr(kVip)));
  // The address goes from one service to another in one step.
  NetworkDifference both = lab_.no_service("web");
  both.service_ids.merge(lab_.service("api", {other}).service_ids);
  lab_.apply(both);
  EXPECT_EQ(refusal(ns, other, kPort), ECONNREFUSED);
  lab_.apply(lab_.no_service("api"));
  const std::string rules = lab_.nft(ns);
  EXPECT_THAT(rules, Not(HasSubstr("10.60.255.2 :")));
  EXPECT_THAT(lab_.box.run(ns, "ip route show table local proto static"), "");
  lab_.apply(lab_.service("web", {kVip}));
  lab_.clients->forget("net");
  EXPECT_THAT(lab_.box.run(ns, "ip route show table local proto static"), "");
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("elements = { 10.60")));
}

TEST_F(NftClientTest, WhatIsThereReadsAsNftWritesIt) {
  serve(2, true);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  const std::string rules = lab_.nft(ns);
  for (const char* line :
       {"typeof numgen inc mod 64 : ip daddr", "typeof numgen inc mod 64 : ip6 daddr",
        "comment \"web\"", "dnat ip to numgen inc mod 64 map @slots_10.60.255.1_0",
        "dnat ip to 10.60.1.1", "10.60.255.1 : goto to_10.60.255.1_0", "ip daddr vmap @services4",
        "ip6 daddr @vips6 goto refuse", "meta l4proto tcp reject with tcp reset"}) {
    EXPECT_THAT(rules, HasSubstr(line));
  }
  EXPECT_EQ(lab_.box.run(ns, "nft list ruleset > " + lab_.box.dir() + "/rules; nft -c -f " +
                                 lab_.box.dir() + "/rules 2>&1"),
            "");
}

TEST_F(NftClientTest, ASuccessorChangesNothingThatIsRight) {
  serve(5, true);
  lab_.service("web", {kVip, kVip6});
  lab_.service("empty", {"10.60.255.7"});
  lab_.apply({});
  lab_.apply(lab_.no_task("t3"));  // slots that no newcomer would give out like this
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  const std::string other = client("c2", {"10.60.0.3", "fd60::3"});
  const std::string before = lab_.nft(ns);
  const std::string routes = lab_.box.run(ns, "ip route show table local");
  lab_.box.start(ns, "exec nft monitor > " + lab_.box.dir() + "/changes");
  lab_.box.run("", "for i in $(seq 500); do test -e " + lab_.box.dir() +
                       "/changes && exit; busybox usleep 1000; done");
  lab_.restart();
  for (const char* name : {"c1", "c2"}) {
    const Status adopted = lab_.clients->adopt(name, lab_.box.dir() + "/n1/netns/" + name);
    ASSERT_TRUE(adopted.ok()) << adopted.message();
  }
  // Nothing is known yet: it goes on.
  EXPECT_THAT(lab_.repair(), IsEmpty());
  EXPECT_EQ(lab_.nft(ns), before);
  lab_.apply({});
  EXPECT_EQ(lab_.nft(ns), before);
  EXPECT_EQ(lab_.box.run(ns, "ip route show table local"), routes);
  EXPECT_EQ(lab_.box.run("", "cat " + lab_.box.dir() + "/changes"), "");
  // What changed meanwhile is made up for.
  lab_.restart();
  ASSERT_TRUE(lab_.clients->adopt("c1", ns).ok());
  lab_.no_service("empty");
  lab_.no_task("t0");
  lab_.apply({});
  EXPECT_THAT(spread(ns, kVip, 9), SizeIs(3));
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("10.60.255.7")));
}

TEST_F(NftClientTest, WhatSomebodyElseChangedIsMendedAndSaid) {
  serve(2);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  EXPECT_THAT(lab_.repair(), IsEmpty());
  // Another table is none of ours.
  lab_.box.run(ns, "nft add table inet other");
  EXPECT_THAT(lab_.repair(), IsEmpty());
  const std::string led =
      "container c1 did not lead virtual address 10.60.255.1 of service web as "
      "it should";
  for (const char* harm :
       {"nft flush ruleset", "nft flush chain inet muster_vip output",
        "nft delete element inet muster_vip services4 '{ 10.60.255.1 }'",
        "nft delete element inet muster_vip vips4 '{ 10.60.255.1 }'",
        "nft flush map inet muster_vip services4; nft list maps | grep -o 'slots_[0-9._]*' | while "
        "read m; do nft flush map inet muster_vip $m; done",
        "nft list maps | grep -o 'slots_[0-9._]*' | while read m; do nft delete element inet "
        "muster_vip $m '{ 7 }'; done",
        "nft list chains | grep -o 'to_[0-9._]*' | while read c; do nft flush chain inet "
        "muster_vip $c; done",
        "ip route del local 10.60.255.1 table local",
        "ip route replace local 10.60.255.1 dev lo table local proto static src 10.60.0.2"}) {
    lab_.box.run(ns, harm);
    EXPECT_THAT(lab_.repair(), Contains(led)) << harm;
    EXPECT_THAT(lab_.repair(), IsEmpty()) << harm;
    EXPECT_THAT(spread(ns, kVip, 4), SizeIs(2)) << harm;
    EXPECT_EQ(lab_.box.run(ns, "busybox ping -c1 -W2 10.60.255.1 >/dev/null && echo yes"), "yes")
        << harm;
  }
  lab_.box.run(ns, "sysctl -qw net.ipv4.conf.all.arp_ignore=0");
  EXPECT_THAT(lab_.repair(), Contains("container c1 answered for virtual addresses on the wire"));
  lab_.box.run(ns,
               "nft add element inet muster_vip vips4 '{ 10.60.255.9 }'; ip route add local "
               "10.60.255.10 dev lo table local proto static");
  EXPECT_THAT(lab_.repair(), SizeIs(2));
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("10.60.255.9")));
  // A change meets what somebody else did without our having looked, and more was lost than it
  // touches.
  const char* const other = "10.60.255.2";
  lab_.task("o0", "other", {v4(1)});
  NetworkDifference both = lab_.service("other", {other});
  both.task_ids.insert("o0");
  lab_.apply(both);
  EXPECT_THAT(spread(ns, other, 4), SizeIs(1));
  lab_.box.run(ns, "nft flush ruleset");
  lab_.apply(lab_.no_task("t0"));
  EXPECT_THAT(spread(ns, kVip, 4), SizeIs(1));
  EXPECT_THAT(lab_.repair(), SizeIs(1));
  EXPECT_EQ(refusal(ns, other, kPort), 0);
}

TEST_F(NftClientTest, TheServicesOfANetworkShareABudgetOfSlots) {
  constexpr int kServices = 1100;
  serve(1);
  lab_.no_task("t0");
  serve_many(kServices);
  const std::string ns = client("c1", {"10.60.0.2"});
  EXPECT_THAT(lab_.nft(ns), HasSubstr("numgen inc mod 16"));
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("numgen inc mod 64")));
  EXPECT_THAT(lab_.clients->limitations(),
              Contains(HasSubstr("network back has too many services for all the slots")));
  EXPECT_THAT(spread(ns, vip(kServices - 1), 3), SizeIs(1));
  EXPECT_EQ(refusal(ns, vip(kServices - 1), kPort), 0);
  EXPECT_THAT(lab_.repair(), IsEmpty());
  // Half of it will do.
  NetworkDifference fewer;
  for (int i = 500; i < kServices; ++i) {
    fewer.service_ids.merge(lab_.no_service(fmt::format("s{}", i)).service_ids);
    fewer.task_ids.merge(lab_.no_task(fmt::format("t{}", i)).task_ids);
  }
  lab_.apply(fewer);
  lab_.apply({});  // clears away what the change left
  EXPECT_THAT(lab_.repair(), IsEmpty());
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("numgen inc mod 16")));
  EXPECT_THAT(lab_.clients->limitations(), IsEmpty());
  EXPECT_EQ(refusal(ns, vip(0), kPort), 0);
  EXPECT_EQ(refusal(ns, vip(499), kPort), 0);
}

// Slots in all maps that a listing has.
size_t slots_in(const std::string& ruleset) {
  constexpr std::string_view kType = "typeof numgen inc mod ";
  size_t sum = 0;
  for (size_t at = ruleset.find(kType); at != std::string::npos; at = ruleset.find(kType, at + 1)) {
    sum += std::stoul(ruleset.substr(at + kType.size(), 8));
  }
  return sum;
}

// Maps that are kept although they are larger than they need be.
TEST_F(NftClientTest, ServicesThatHaveShrunkKeepWithinTheBudget) {
  constexpr int kServices = 70;
  constexpr int kMost = 200;   // tasks, for which a service has 1,024 slots
  constexpr int kFewest = 65;  // ... and for which 512 would do
  const auto task = [](int service, int i) { return fmt::format("t{}.{}", service, i); };
  const std::string ns = client("c1", {"10.60.0.2"});
  for (int s = 0; s < kServices; ++s) {
    const std::string service = fmt::format("s{}", s);
    NetworkDifference more = lab_.service(service, {v4(2000 + s)});
    for (int i = 0; i < kMost; ++i) more.add(lab_.task(task(s, i), service, {v4(i)}));
    lab_.apply(more);
    NetworkDifference fewer;
    for (int i = kFewest; i < kMost; ++i) fewer.add(lab_.no_task(task(s, i)));
    lab_.apply(fewer);
  }
  EXPECT_THAT(lab_.repair(), IsEmpty());  // clears away what the change left
  const size_t slots = slots_in(lab_.nft(ns));
  EXPECT_GE(slots, size_t{kServices} * 512);
  EXPECT_LE(slots, kSlotsOfNetwork);
  EXPECT_THAT(lab_.clients->limitations(), IsEmpty());
}

TEST_F(NftClientTest, ASuccessorFindsTheScaleOfSlots) {
  constexpr int kServices = 1030;
  serve_many(kServices);
  const std::string ns = client("c1", {"10.60.0.2"});
  // Fewer, but not so few that maps would be made larger again.
  NetworkDifference fewer;
  for (int i = 600; i < kServices; ++i) {
    fewer.add(lab_.no_service(fmt::format("s{}", i)));
    fewer.add(lab_.no_task(fmt::format("t{}", i)));
  }
  lab_.apply(fewer);
  EXPECT_THAT(lab_.repair(), IsEmpty());  // clears away what the change left
  const std::string before = lab_.nft(ns);
  ASSERT_EQ(slots_in(before), 600u * 16);
  lab_.restart();
  ASSERT_TRUE(lab_.clients->adopt("c1", ns).ok());
  lab_.apply({});
  EXPECT_TRUE(lab_.nft(ns) == before);  // too long to be printed
}

TEST_F(ClientTest, OneContainerThatFailsDoesNotHoldUpOthers) {
  serve(2);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  const std::string gone = lab_.add("c2", {"10.60.0.3"});
  EXPECT_FALSE(lab_.clients->attach("c3", lab_.box.dir() + "/n1/netns/none").ok());
  EXPECT_FALSE(lab_.clients->has("c3"));
  ASSERT_TRUE(lab_.clients->attach("c2", gone).ok());
  lab_.box.run("", "umount " + gone + "; rm " + gone);
  lab_.apply(lab_.no_task("t1"));
  EXPECT_THAT(spread(ns, kVip, 4), SizeIs(1));
  lab_.clients->detach("c2");
  lab_.clients->detach("c2");
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

}  // namespace
}  // namespace muster::overlay::testing
