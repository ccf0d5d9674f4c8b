#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "tests/manager/allocator/fixture.h"

namespace muster::manager::allocator {
namespace {

using store::Snapshot;
using ::testing::HasSubstr;

TEST_F(AllocatorTest, BootstrapMakesThePredefinedNetworksOnce) {
  for (int i = 0; i < 2; ++i) {
    write([&](store::Transaction& tx) { return bootstrap_networks(tx, rng_); });
  }
  const Snapshot view = store_.snapshot();
  EXPECT_EQ(view.count<v1::Network>(), 4u);
  EXPECT_EQ(view.find<v1::Network>("host")->state().pools_size(), 0);
  EXPECT_EQ(view.find<v1::Network>("none")->allocation_error(), "");
  // Whatever their ids.
  EXPECT_EQ(view.find<v1::Network>("ingress")->state().pools(0).subnet(), "10.0.0.0/16");
  EXPECT_EQ(view.find<v1::Network>("bridge")->state().pools(0).subnet(), "10.1.0.0/16");
}

TEST_F(AllocatorTest, NetworksOfOneCommitGetSubnetsByNameNotById) {
  const char* const ids[] = {"id-a", "id-b", "id-c"};
  write([&](store::Transaction& tx) -> Status {
    for (int i = 0; i < 3; ++i) {
      auto net = network(ids[2 - i]);
      net.set_id(ids[i]);
      MUSTER_TRY(tx.create(net));
    }
    return ok_status();
  });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(get<v1::Network>(ids[2 - i])->state().pools(0).subnet(),
              fmt::format("10.0.{}.0/24", i));
  }
}

TEST_F(AllocatorTest, EverythingFromOneCommitIsReadyInTheNext) {
  const auto s = service("web", {"id-net"}, {80, 0});
  write([&](store::Transaction& tx) -> Status {
    MUSTER_TRY(tx.create(network("net")));
    MUSTER_TRY(tx.create(s));
    MUSTER_TRY(tx.create(revision(s)));
    MUSTER_TRY(tx.create(task(s, "t1")));
    return tx.create(task(s, "t2"));
  });
  EXPECT_EQ(proposer_.entries(), 2u);
  const auto net = get<v1::Network>("id-net");
  EXPECT_EQ(net->state().pools(0).subnet(), "10.0.0.0/24");
  EXPECT_EQ(net->state().pools(0).gateway(), "10.0.0.1");
  EXPECT_EQ(net->state().vni(), 4096u);
  const auto web = get<v1::Service>("id-web");
  ASSERT_EQ(web->endpoint().ports_size(), 2);
  EXPECT_EQ(web->endpoint().ports(0).published_port(), 80u);
  EXPECT_EQ(web->endpoint().ports(1).published_port(), 30000u);
  ASSERT_EQ(web->endpoint().virtual_ips_size(), 1);
  EXPECT_EQ(web->endpoint().virtual_ips(0).address(), "10.0.0.2/24");
  const auto t = get<v1::Task>("t1");
  EXPECT_EQ(t->status().state(), v1::TASK_PENDING);
  EXPECT_EQ(t->status().message(), "pending task scheduling");
  EXPECT_EQ(t->networks(0).addresses(0), "10.0.0.3/24");
  EXPECT_EQ(t->networks(0).mac(), "02:42:0a:00:00:03");
  EXPECT_EQ(t->ports(1).published_port(), 30000u);
  EXPECT_EQ(address("t2"), "10.0.0.4/24");
}

TEST_F(AllocatorTest, WhichNetworksATaskIsIn) {
  write([&](store::Transaction& tx) { return bootstrap_networks(tx, rng_); });
  const auto id = [&](const char* name) { return store_.snapshot().find<v1::Network>(name)->id(); };
  auto internal = network("inner");
  internal.mutable_spec()->set_internal(true);
  create(internal);
  create(network("outer"));
  struct Case {
    const char* name;
    std::vector<std::string> networks;
    std::vector<uint32_t> ports;
    std::vector<std::string> want;
  };
  const Case cases[] = {
      {"plain", {}, {}, {"bridge"}},
      {"port", {}, {80}, {"ingress"}},
      {"host", {id("host")}, {81}, {"host"}},
      {"none", {id("none")}, {}, {"none"}},
      {"outer", {"id-outer"}, {}, {"outer"}},
      {"outer-port", {"id-outer"}, {82}, {"outer", "ingress"}},
      {"inner", {"id-inner"}, {}, {"inner"}},
      {"inner-port", {"id-inner"}, {83}, {"inner", "ingress"}},
      {"both", {"id-inner", "id-outer"}, {84}, {"inner", "outer", "ingress"}},
  };
  for (const Case& c : cases) {
    create_service(service(c.name, c.networks, c.ports), 1);
    const auto t = get<v1::Task>(fmt::format("id-{}.0", c.name));
    EXPECT_EQ(t->status().state(), v1::TASK_PENDING) << c.name << t->status().error();
    std::vector<std::string> got;
    for (const auto& a : t->networks()) {
      got.push_back(get<v1::Network>(a.network_id())->spec().annotations().name());
    }
    EXPECT_EQ(got, c.want) << c.name;
  }
}

TEST_F(AllocatorTest, DnsRoundRobinAndHostPortsTakeNoVirtualIp) {
  create(network("net"));
  auto s = service("web", {"id-net"}, {});
  s.mutable_spec()->mutable_endpoint()->set_mode(v1::EndpointSpec::DNSRR);
  auto* port = s.mutable_spec()->mutable_endpoint()->add_ports();
  port->set_mode(v1::PortConfig::HOST);
  port->set_target_port(80);
  create_service(s, 1);
  const auto web = get<v1::Service>("id-web");
  EXPECT_EQ(web->endpoint().virtual_ips_size(), 0);
  EXPECT_EQ(web->endpoint().ports(0).published_port(), 0u);
  EXPECT_EQ(address("id-web.0"), "10.0.0.2/24");
}

TEST_F(AllocatorTest, ANetworkOfEachNodesOwnHasNoVirtualIp) {
  create(network("net"));
  auto local = network("local");
  local.mutable_spec()->set_driver("bridge");
  create(local);
  create_service(service("web", {"id-local", "id-net"}), 1);
  const auto web = get<v1::Service>("id-web");
  ASSERT_EQ(web->endpoint().virtual_ips_size(), 1);
  EXPECT_EQ(web->endpoint().virtual_ips(0).network_id(), "id-net");
  EXPECT_EQ(get<v1::Task>("id-web.0")->networks_size(), 2);
}

TEST_F(AllocatorTest, AFullSubnetIsSaidInWordsAndHealsWhenATaskEnds) {
  create(network("tiny", "10.9.0.0/29"));
  create_service(service("web", {"id-tiny"}), 5);  // gateway, VIP, four tasks
  EXPECT_EQ(address("id-web.3"), "10.9.0.6/29");
  EXPECT_EQ(address("id-web.4"),
            "error: network tiny: subnet 10.9.0.0/29 has no free address (5 of 5 in use): `network "
            "update --subnet` gives the network another");
  const uint64_t entries = proposer_.entries();
  world_.settle();
  EXPECT_EQ(proposer_.entries(), entries);  // no busy loop
  end_task("id-web.1");
  EXPECT_EQ(address("id-web.4"), "10.9.0.4/29");
  EXPECT_EQ(get<v1::Task>("id-web.4")->status().error(), "");
  // The record of the ended task goes: its address has a new holder and stays taken.
  remove<v1::Task>("id-web.1");
  create(task(service("web", {}), "late"));
  EXPECT_THAT(address("late"), HasSubstr("no free address"));
  remove<v1::Task>("id-web.0");
  EXPECT_EQ(address("late"), "10.9.0.3/29");
}

TEST_F(AllocatorTest, APortClashIsSaidInWordsAndHealsWhenTheOtherGoes) {
  create(network("net"));
  create_service(service("one", {"id-net"}, {80}), 0);
  create_service(service("two", {"id-net"}, {80}), 1);
  EXPECT_EQ(get<v1::Service>("id-two")->allocation_error(),
            "port 80/tcp is already in use by service one as an ingress port");
  EXPECT_EQ(get<v1::Task>("id-two.0")->status().error(),
            "port 80/tcp is already in use by service one as an ingress port");
  remove<v1::Service>("id-one");
  EXPECT_EQ(get<v1::Service>("id-two")->allocation_error(), "");
  EXPECT_EQ(get<v1::Task>("id-two.0")->status().state(), v1::TASK_PENDING);
}

TEST_F(AllocatorTest, OverlappingSubnetHealsWhenTheOtherGoes) {
  create(network("a", "10.9.0.0/24"));
  create(network("b", "10.9.0.0/25"));
  create_service(service("web", {"id-b"}), 1);
  EXPECT_THAT(get<v1::Network>("id-b")->allocation_error(), HasSubstr("overlaps 10.9.0.0/24"));
  // Who waits for it says so, too.
  const std::string why = "network b: " + get<v1::Network>("id-b")->allocation_error();
  EXPECT_EQ(get<v1::Service>("id-web")->allocation_error(), why);
  EXPECT_EQ(address("id-web.0"), "error: " + why);
  remove<v1::Network>("id-a");
  EXPECT_EQ(get<v1::Network>("id-b")->allocation_error(), "");
  EXPECT_EQ(address("id-web.0"), "10.9.0.3/25");
}

TEST_F(AllocatorTest, AnUpdateKeepsWhatStaysAndGivesBackTheRest) {
  create(network("a"));
  create(network("b"));
  create_service(service("web", {"id-a"}, {80, 0}), 0);
  const auto before = get<v1::Service>("id-web")->endpoint();
  change<v1::Service>("id-web", [](v1::Service& s) {
    auto* ports = s.mutable_spec()->mutable_endpoint();
    ports->mutable_ports(0)->set_published_port(81);
    s.mutable_spec()->mutable_task()->mutable_networks(0)->set_target("id-b");
  });
  const auto after = get<v1::Service>("id-web")->endpoint();
  EXPECT_EQ(after.ports(0).published_port(), 81u);
  EXPECT_EQ(after.ports(1).published_port(), before.ports(1).published_port());
  EXPECT_EQ(after.virtual_ips(0).network_id(), "id-b");
  create_service(service("other", {"id-a"}, {80}), 0);
  EXPECT_EQ(get<v1::Service>("id-other")->allocation_error(), "");
}

TEST_F(AllocatorTest, ANewLeaderGoesOnFromTheState) {
  create(network("net"));
  create_service(service("web", {"id-net"}, {80, 0}), 3);
  end_task("id-web.0");
  allocator_.reset();
  create(task(service("web", {}), "waiting"));
  EXPECT_EQ(get<v1::Task>("waiting")->status().state(), v1::TASK_NEW);
  restart();
  EXPECT_EQ(address("waiting"), "10.0.0.6/24");
  create_service(service("two", {"id-net"}, {80}), 0);
  EXPECT_THAT(get<v1::Service>("id-two")->allocation_error(), HasSubstr("service web"));
  create(network("next"));
  EXPECT_EQ(get<v1::Network>("id-next")->state().pools(0).subnet(), "10.0.1.0/24");
  EXPECT_EQ(get<v1::Network>("id-next")->state().vni(), 4097u);
}

TEST_F(AllocatorTest, TasksToBeStoppedAreLeftAlone) {
  create(network("net"));
  create_service(service("web", {"id-net"}), 0);
  auto t = task(service("web", {}), "t");
  t.set_desired_state(v1::TASK_SHUTDOWN);
  create(t);
  EXPECT_EQ(get<v1::Task>("t")->status().state(), v1::TASK_NEW);
}

TEST_F(AllocatorTest, TheFirstLeaderBeginsBeforeTheClusterAndItsPoolsAreWritten) {
  v1::Cluster cluster;
  cluster.set_id("id-cluster");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.add_default_address_pools("172.20.0.0/23");
  cluster.set_subnet_mask_bits(25);
  write([&](store::Transaction& tx) -> Status {
    MUSTER_TRY(bootstrap_networks(tx, rng_));
    return tx.create(cluster);
  });
  create(network("web"));
  const Snapshot view = store_.snapshot();
  EXPECT_EQ(view.find<v1::Network>("ingress")->state().pools(0).subnet(), "172.20.0.0/25");
  EXPECT_EQ(view.find<v1::Network>("web")->state().pools(0).subnet(), "172.20.1.0/25");
}

TEST_F(AllocatorTest, ClusterPools) {
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.add_default_address_pools("172.20.0.0/16");
  cluster.set_subnet_mask_bits(26);
  create(cluster);
  restart();
  create(network("net"));
  EXPECT_EQ(get<v1::Network>("id-net")->state().pools(0).subnet(), "172.20.0.0/26");
}

TEST_F(AllocatorTest, AutomaticSubnetsKeepAwayFromWhatNodesReach) {
  const auto node = [](const std::string& id, const std::vector<std::string>& ranges) {
    v1::Node n;
    n.set_id(id);
    n.mutable_description()->mutable_local_ranges()->Assign(ranges.begin(), ranges.end());
    return n;
  };
  create(node("n1", {"10.0.0.0/24", "192.0.2.0/24"}));
  create(node("n2", {"10.0.2.0/23"}));
  const auto subnet = [&](const std::string& name) {
    const auto n = get<v1::Network>("id-" + name);
    return n->state().pools_size() == 0 ? n->allocation_error() : n->state().pools(0).subnet();
  };
  create(network("a"));
  EXPECT_EQ(subnet("a"), "10.0.1.0/24");
  create(network("b"));
  EXPECT_EQ(subnet("b"), "10.0.4.0/24");
  // A route that came later takes nothing away; what is asked for is given.
  change<v1::Node>("n2",
                   [](v1::Node& n) { n.mutable_description()->add_local_ranges("10.0.4.0/22"); });
  EXPECT_EQ(subnet("b"), "10.0.4.0/24");
  create(network("c"));
  EXPECT_EQ(subnet("c"), "10.0.8.0/24");
  create(network("d", "10.0.2.0/24"));
  EXPECT_EQ(subnet("d"), "10.0.2.0/24");
  // A new leader knows the same.
  restart();
  create(network("e"));
  EXPECT_EQ(subnet("e"), "10.0.9.0/24");
  // Nothing is left; a node that goes gives its ranges back.
  create(node("n3", {"0.0.0.0/1", "128.0.0.0/1"}));
  create(network("f"));
  EXPECT_THAT(subnet("f"), HasSubstr("no free /24 subnet is left"));
  EXPECT_THAT(subnet("f"), HasSubstr("routes of nodes are kept away from"));
  create(network("g"));
  change<v1::Network>(
      "id-g", [](v1::Network& n) { n.mutable_spec()->add_pools()->set_subnet("203.0.113.0/24"); });
  EXPECT_EQ(subnet("g"), "203.0.113.0/24") << "what it is to have instead is given at once";
  EXPECT_EQ(get<v1::Network>("id-g")->allocation_error(), "");
  remove<v1::Node>("n3");
  EXPECT_EQ(subnet("f"), "10.0.10.0/24");
}

TEST_F(AllocatorTest, AutomaticSubnetsKeepAwayFromDataPaths) {
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.add_default_address_pools("10.0.0.0/16");
  create(cluster);
  v1::Node n;
  n.set_id("n1");
  n.mutable_description()->mutable_data_path()->set_address("10.0.0.77");
  create(n);
  const auto subnet = [&](const std::string& name) {
    const auto network = get<v1::Network>("id-" + name);
    return network->state().pools_size() == 0 ? network->allocation_error()
                                              : network->state().pools(0).subnet();
  };
  create(network("a"));
  EXPECT_EQ(subnet("a"), "10.0.1.0/24");
  // Another address alone: the new one is kept away from, the former one no longer.
  const auto lies_at = [&](const std::string& address) {
    change<v1::Node>("n1", [&](v1::Node& node) {
      node.mutable_description()->mutable_data_path()->set_address(address);
    });
  };
  lies_at("10.0.2.9");
  create(network("b"));
  EXPECT_EQ(subnet("b"), "10.0.0.0/24");
  create(network("c"));
  EXPECT_EQ(subnet("c"), "10.0.3.0/24");
  // A node in no swarm has none.
  lies_at("");
  create(network("d"));
  EXPECT_EQ(subnet("d"), "10.0.2.0/24");
}

TEST_F(AllocatorTest, AutomaticSubnetsLieBesideTheNodesPrivateNetworks) {
  v1::Node n;
  n.set_id("n1");
  n.mutable_description()->add_local_ranges("10.0.0.0/20");
  n.mutable_description()->mutable_data_path()->set_address("10.0.0.77");
  write([&](store::Transaction& tx) -> Status {
    MUSTER_TRY(tx.create(n));
    return bootstrap_networks(tx, rng_);
  });
  const Snapshot view = store_.snapshot();
  EXPECT_EQ(view.find<v1::Network>("ingress")->state().pools(0).subnet(), "10.1.0.0/16");
  EXPECT_EQ(view.find<v1::Network>("bridge")->state().pools(0).subnet(), "10.2.0.0/16");
  create(network("a"));
  EXPECT_EQ(get<v1::Network>("id-a")->state().pools(0).subnet(), "10.3.0.0/24");
  // A node of another VPC, and an address that is nobody's neighbour; what was given stays.
  change<v1::Node>("n1", [](v1::Node& node) {
    node.mutable_description()->mutable_data_path()->set_address("203.0.113.9");
  });
  n.set_id("n2");
  n.mutable_description()->mutable_data_path()->set_address("10.3.200.1");
  create(n);
  EXPECT_EQ(get<v1::Network>("id-a")->state().pools(0).subnet(), "10.3.0.0/24");
  create(network("b"));
  EXPECT_EQ(get<v1::Network>("id-b")->state().pools(0).subnet(), "10.0.16.0/24");
  create(network("c", "10.3.7.0/24"));
  EXPECT_EQ(get<v1::Network>("id-c")->state().pools(0).subnet(), "10.3.7.0/24");
  restart();
  create(network("d"));
  EXPECT_EQ(get<v1::Network>("id-d")->state().pools(0).subnet(), "10.0.17.0/24");
}

TEST_F(AllocatorTest, UnknownDriver) {
  create(network("odd", "", "macvlan"));
  EXPECT_EQ(get<v1::Network>("id-odd")->allocation_error(),
            "network driver \"macvlan\" is not supported");
}

TEST_F(AllocatorTest, WhatCouldNotBeStoredIsTriedAgainWithoutAnotherCommit) {
  create(network("a", "10.9.0.0/29"));
  const v1::Service s = service("web", {"id-a"});
  store_.update(
      [&](store::Transaction& tx) -> Status {
        MUSTER_TRY(tx.create(s));
        MUSTER_TRY(tx.create(revision(s)));
        return tx.create(task(s, "t1"));
      },
      [&](const store::Commit&) { proposer_.rejections = 4; });
  world_.settle();
  EXPECT_EQ(get<v1::Task>("t1")->status().state(), v1::TASK_NEW);
  world_.advance(5s);
  EXPECT_THAT(address("t1"), HasSubstr("10.9.0."));
  // Nothing was lost on the way: gateway, virtual address and four tasks fill the subnet.
  for (const char* id : {"t2", "t3", "t4"}) {
    create(task(s, id));
    EXPECT_THAT(address(id), HasSubstr("10.9.0."));
  }
}

TEST_F(AllocatorTest, WhatIsVoidBeforeItIsCommittedComesBack) {
  create(network("a", "10.9.0.0/29"));  // five addresses beside the gateway's
  for (int round = 0; round < 6; ++round) {
    const v1::Service s = service("web", {"id-a"}, {8080});
    store_.update(
        [&](store::Transaction& tx) -> Status {
          MUSTER_TRY(tx.create(s));
          MUSTER_TRY(tx.create(revision(s)));
          MUSTER_TRY(tx.create(task(s, "t1")));
          return tx.create(task(s, "t2"));
        },
        [&](const store::Commit&) {
          // Queued behind the allocator's transaction: it ends what that one has just served, in
          // one entry with it.
          store_.update(
              [](store::Transaction& tx) -> Status {
                v1::Task ended = *tx.view().get<v1::Task>("t1");
                ended.mutable_status()->set_state(v1::TASK_SHUTDOWN);
                MUSTER_TRY(tx.update(std::move(ended)));
                MUSTER_TRY(tx.remove<v1::Task>("t2"));
                MUSTER_TRY(tx.remove<v1::Service>("id-web"));
                return tx.remove<v1::Revision>(store::revision_id("id-web", 1));
              },
              [](const store::Commit&) {});
        });
    world_.settle();
    ASSERT_EQ(get<v1::Service>("id-web"), nullptr);
    remove<v1::Task>("t1");
  }
  create_service(service("last", {"id-a"}, {8080}), 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(address(fmt::format("id-last.{}", i)), HasSubstr("10.9.0."));
  }
}

TEST_F(AllocatorTest, LargeServicesTakeSeveralEntries) {
  write([&](store::Transaction& tx) -> Status {
    for (int i = 0; i < 2; ++i) {
      v1::Service s = service(fmt::format("s{}", i), {}, {static_cast<uint32_t>(8000 + i)});
      s.mutable_spec()->mutable_task()->mutable_container()->add_env(std::string(480'000, 'x'));
      MUSTER_TRY(tx.create(s));
    }
    return ok_status();
  });
  for (int i = 2; i < 6; ++i) {  // more arrive while the allocator is at work
    v1::Service s = service(fmt::format("s{}", i), {}, {static_cast<uint32_t>(8000 + i)});
    s.mutable_spec()->mutable_task()->mutable_container()->add_env(std::string(480'000, 'x'));
    store_.update([s](store::Transaction& tx) { return tx.create(s); },
                  [](const store::Commit&) {});
  }
  world_.settle();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(get<v1::Service>(fmt::format("id-s{}", i))->endpoint().ports_size(), 1) << i;
  }
  restart();
}

TEST_F(AllocatorTest, ManyTasksTakeSeveralEntriesAndEachAnAddress) {
  create(network("big", "10.64.0.0/16"));
  create_service(service("web", {"id-big"}), 2500);
  std::set<std::string> seen;
  for (int i = 0; i < 2500; ++i) seen.insert(address(fmt::format("id-web.{}", i)));
  EXPECT_EQ(seen.size(), 2500u);
}

TEST_F(AllocatorTest, Figures) {
  using Clock = std::chrono::steady_clock;
  const auto us = [](Clock::duration d) {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(d).count());
  };
  create(network("big", "10.64.0.0/14"));
  create_service(service("web", {"id-big"}), 20);
  allocator_.reset();
  write([&](store::Transaction& tx) -> Status {
    for (int i = 0; i < 60; ++i) {
      MUSTER_TRY(tx.create(task(service("web", {}), fmt::format("x{}", i))));
    }
    return ok_status();
  });
  const auto start = Clock::now();
  restart();
  const auto sixty = Clock::now();
  for (int batch = 0; batch < 100; ++batch) {
    write([&](store::Transaction& tx) -> Status {
      for (int i = 0; i < 1000; ++i) {
        MUSTER_TRY(tx.create(task(service("web", {}), fmt::format("y{}-{}", batch, i))));
      }
      return ok_status();
    });
  }
  const auto all = Clock::now();
  restart();
  const auto rebuilt = Clock::now();
  std::printf("60 tasks with start %d us, 100,000 tasks %d ms with their creation, rebuild %d ms\n",
              us(sixty - start), us(all - sixty) / 1000, us(rebuilt - all) / 1000);
  RecordProperty("allocate_60_us", us(sixty - start));
  RecordProperty("rebuild_100k_ms", us(rebuilt - all) / 1000);
  EXPECT_EQ(get<v1::Task>("y99-999")->status().state(), v1::TASK_PENDING);
}

TEST_F(AllocatorTest, ANetworkThatIsFullGrowsAndWhoWaitedGoesOnAtOnce) {
  create(network("tiny", "10.9.0.0/29"));
  create_service(service("web", {"id-tiny"}), 5);
  create_service(service("late", {"id-tiny"}), 1);
  EXPECT_THAT(address("id-web.4"), HasSubstr("no free address"));
  EXPECT_THAT(get<v1::Service>("id-late")->allocation_error(), HasSubstr("no free address"));
  change<v1::Network>("id-tiny", [](v1::Network& n) {
    auto* pool = n.mutable_spec()->add_pools();
    pool->set_subnet("10.9.1.0/29");
    pool->set_gateway("10.9.1.6");
  });
  const auto grown = get<v1::Network>("id-tiny");
  ASSERT_EQ(grown->state().pools_size(), 2);
  EXPECT_EQ(grown->state().pools(1).gateway(), "10.9.1.6");
  EXPECT_EQ(address("id-web.4"), "10.9.1.3/29");
  EXPECT_EQ(get<v1::Service>("id-late")->endpoint().virtual_ips(0).address(), "10.9.1.1/29");
  EXPECT_EQ(get<v1::Service>("id-late")->allocation_error(), "");
  EXPECT_EQ(address("id-late.0"), "10.9.1.2/29");
  // A new leader knows both, and one that finds a wish carries it out.
  restart();
  EXPECT_EQ(get<v1::Network>("id-tiny")->state().pools_size(), 2);
  allocator_->stop();
  change<v1::Network>(
      "id-tiny", [](v1::Network& n) { n.mutable_spec()->add_pools()->set_subnet("10.9.2.0/29"); });
  restart();
  EXPECT_EQ(get<v1::Network>("id-tiny")->state().pools_size(), 3);
}

TEST_F(AllocatorTest, ASubnetThatCannotBeGivenIsSaidInWordsAndHeals) {
  create(network("a", "10.9.0.0/24"));
  create(network("b", "10.8.0.0/24"));
  change<v1::Network>(
      "id-a", [](v1::Network& n) { n.mutable_spec()->add_pools()->set_subnet("10.8.0.0/25"); });
  EXPECT_EQ(get<v1::Network>("id-a")->allocation_error(),
            "subnet 10.8.0.0/25 overlaps 10.8.0.0/24, which another network uses");
  create_service(service("web", {"id-a"}), 1);
  EXPECT_EQ(address("id-web.0"), "10.9.0.3/24");
  const uint64_t entries = proposer_.entries();
  world_.settle();
  EXPECT_EQ(proposer_.entries(), entries);
  remove<v1::Network>("id-b");
  EXPECT_EQ(get<v1::Network>("id-a")->allocation_error(), "");
  EXPECT_EQ(get<v1::Network>("id-a")->state().pools_size(), 2);
}

TEST_F(AllocatorTest, ARunningTaskEntersNetworksAndGivesTheirAddressesBack) {
  create(network("own", "10.9.0.0/24"));
  create(network("tiny", "10.8.0.0/30"));
  create(network("other", "10.7.0.0/24"));
  create_service(service("web", {"id-own"}), 2);
  const auto connect = [&](const std::string& task, const std::string& to,
                           const std::string& wanted = "") {
    change<v1::Task>(task, [&](v1::Task& t) {
      t.mutable_status()->set_state(v1::TASK_RUNNING);
      auto* entry = t.add_connected();
      entry->set_target(to);
      entry->add_aliases("alias");
      if (!wanted.empty()) entry->add_addresses(wanted);
    });
  };
  const auto in = [&](const std::string& task) {
    std::string out;
    for (const auto& a : get<v1::Task>(task)->networks()) {
      out += fmt::format("{} {} {} ", a.addresses(0), a.mac(), a.aliases_size());
    }
    return out;
  };
  connect("id-web.0", "id-tiny");
  EXPECT_EQ(in("id-web.0"), "10.9.0.3/24 02:42:0a:09:00:03 0 10.8.0.2/30 02:42:0a:08:00:02 1 ");
  // The only address is taken: it waits, and is served as soon as it can be.
  connect("id-web.1", "id-tiny");
  EXPECT_EQ(in("id-web.1"), "10.9.0.4/24 02:42:0a:09:00:04 0 ");
  connect("id-web.1", "id-other", "10.7.0.99");
  EXPECT_EQ(in("id-web.1"), "10.9.0.4/24 02:42:0a:09:00:04 0 10.7.0.99/24 02:42:0a:07:00:63 1 ");
  const uint64_t entries = proposer_.entries();
  world_.settle();
  EXPECT_EQ(proposer_.entries(), entries);
  restart();
  end_task("id-web.0");
  EXPECT_EQ(in("id-web.1"),
            "10.9.0.4/24 02:42:0a:09:00:04 0 10.7.0.99/24 02:42:0a:07:00:63 1 "
            "10.8.0.2/30 02:42:0a:08:00:02 1 ");
  // Left again.
  change<v1::Task>("id-web.1", [](v1::Task& t) {
    t.mutable_connected()->DeleteSubrange(0, 1);
    t.mutable_networks()->DeleteSubrange(2, 1);
  });
  create_service(service("next", {"id-own"}), 1);
  connect("id-next.0", "id-tiny");
  EXPECT_THAT(in("id-next.0"), HasSubstr("10.8.0.2/30"));
  // What is gone is nobody's wish any more.
  connect("id-web.1", "id-gone");
  EXPECT_EQ(get<v1::Task>("id-web.1")->connected_size(), 1);
}

TEST_F(AllocatorTest, AnAddressThatWasLeftIsNobodyElsesUntilTheNodeHasSaidSo) {
  create(network("own", "10.9.0.0/24"));
  create(network("tiny", "10.8.0.0/30"));
  create_service(service("web", {"id-own"}), 2);
  const auto connect = [&](const std::string& task, const std::string& wanted = "") {
    change<v1::Task>(task, [&](v1::Task& t) {
      t.mutable_status()->set_state(v1::TASK_RUNNING);
      auto* entry = t.add_connected();
      entry->set_target("id-tiny");
      entry->add_aliases("alias");
      if (!wanted.empty()) entry->add_addresses(wanted);
    });
  };
  const auto disconnect = [&](const std::string& task) {
    change<v1::Task>(task, [](v1::Task& t) {
      *t.add_left() = t.networks(1);
      t.mutable_networks()->RemoveLast();
      t.clear_connected();
    });
  };
  const auto in_tiny = [&](const std::string& task) {
    const auto found = get<v1::Task>(task);
    return found->networks_size() == 2 ? found->networks(1).addresses(0) : std::string();
  };
  connect("id-web.0");
  disconnect("id-web.0");
  connect("id-web.1");
  EXPECT_EQ(in_tiny("id-web.1"), "");
  restart();
  EXPECT_EQ(in_tiny("id-web.1"), "") << "a new leader holds it, too";
  // Who had it may have it again at once.
  connect("id-web.0", "10.8.0.2");
  EXPECT_EQ(in_tiny("id-web.0"), "10.8.0.2/30");
  EXPECT_EQ(get<v1::Task>("id-web.0")->networks(1).aliases_size(), 1);
  EXPECT_TRUE(get<v1::Task>("id-web.0")->left().empty());
  disconnect("id-web.0");
  EXPECT_EQ(in_tiny("id-web.1"), "");
  change<v1::Task>("id-web.0", [](v1::Task& t) { t.clear_left(); });
  EXPECT_EQ(in_tiny("id-web.1"), "10.8.0.2/30");
  // The task's end is as good.
  disconnect("id-web.1");
  connect("id-web.0");
  EXPECT_EQ(in_tiny("id-web.0"), "");
  end_task("id-web.1");
  EXPECT_EQ(in_tiny("id-web.0"), "10.8.0.2/30");
  // So is the end of the network.
  disconnect("id-web.0");
  remove<v1::Network>("id-tiny");
  restart();
}

}  // namespace
}  // namespace muster::manager::allocator
