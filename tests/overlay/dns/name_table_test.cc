#include "overlay/dns/name_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::overlay::dns {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

v1::NetdNetwork network(const std::string& id, const std::string& name,
                        const std::string& subnet = "10.0.1.0/24") {
  v1::NetdNetwork out;
  out.set_id(id);
  out.set_name(name);
  out.add_subnets(subnet);
  return out;
}

v1::NetdEndpoint endpoint(const std::string& net, const std::string& service, int slot,
                          const std::string& address, bool ready = true) {
  v1::NetdEndpoint out;
  out.set_network_id(net);
  out.set_task_id(service + std::to_string(slot) + "id");
  out.set_service_id(service + "-id");
  out.set_service_name(service);
  out.set_name(service + "." + std::to_string(slot) + "." + out.task_id());
  out.add_own_names(service + "." + std::to_string(slot));
  out.add_addresses(address);
  out.set_ready(ready);
  return out;
}

v1::NetdService service(const std::string& net, const std::string& name,
                        std::vector<std::string> virtual_ips = {}) {
  v1::NetdService out;
  out.set_network_id(net);
  out.set_id(name + "-id");
  out.set_name(name);
  for (const std::string& ip : virtual_ips) out.add_virtual_ips(ip);
  return out;
}

std::vector<std::string> texts(const std::vector<Ip>& addresses) {
  std::vector<std::string> out;
  for (const Ip& ip : addresses) out.push_back(ip.str());
  return out;
}

class NameTableTest : public testing::Test {
 protected:
  NameTableTest() { table_.set(network("n1", "shop_default")); }
  std::vector<std::string> find(const std::string& name, NameTable::Networks networks = {"n1"}) {
    return texts(table_.find(networks, name).addresses);
  }
  bool known(const std::string& name, NameTable::Networks networks = {"n1"}) {
    return table_.find(networks, name).known;
  }
  NameTable table_;
};

TEST_F(NameTableTest, AServiceMeansItsHealthyTasks) {
  table_.set(endpoint("n1", "web", 1, "10.0.1.3"));
  table_.set(endpoint("n1", "web", 2, "10.0.1.4", false));
  table_.set(endpoint("n1", "web", 3, "10.0.1.5"));
  EXPECT_THAT(find("web"), ElementsAre("10.0.1.3", "10.0.1.5"));
  EXPECT_THAT(find("tasks.web"), ElementsAre("10.0.1.3", "10.0.1.5"));
  table_.set(endpoint("n1", "web", 2, "10.0.1.4", true));
  EXPECT_THAT(find("web"), ElementsAre("10.0.1.3", "10.0.1.4", "10.0.1.5"));
  table_.remove_endpoint("n1", "web1id");
  EXPECT_THAT(find("web"), ElementsAre("10.0.1.4", "10.0.1.5"));
}

TEST_F(NameTableTest, AVirtualAddressStandsForTheTasksButNotForTasksDotName) {
  table_.set(service("n1", "web", {"10.0.1.2"}));
  table_.set(endpoint("n1", "web", 1, "10.0.1.3"));
  EXPECT_THAT(find("web"), ElementsAre("10.0.1.2"));
  EXPECT_THAT(find("tasks.web"), ElementsAre("10.0.1.3"));
  EXPECT_THAT(find("web.1"), ElementsAre("10.0.1.3"));
}

TEST_F(NameTableTest, ANameWithNothingHealthyIsStillKnown) {
  table_.set(service("n1", "idle"));
  table_.set(endpoint("n1", "sick", 1, "10.0.1.9", false));
  for (const char* name : {"idle", "sick", "tasks.sick", "sick.1", "sick.1.sick1id"}) {
    EXPECT_TRUE(known(name)) << name;
    EXPECT_THAT(find(name), IsEmpty()) << name;
  }
  for (const char* name : {"other", "tasks.other", "tasks.sick.1", "", "tasks.", "example.com"}) {
    EXPECT_FALSE(known(name)) << name;
  }
}

TEST_F(NameTableTest, TasksHaveNamesOfTheirOwn) {
  auto one = endpoint("n1", "web", 1, "10.0.1.3");
  one.add_own_names("0123456789ab");
  one.add_own_names("Host-A");
  table_.set(one);
  for (const char* name : {"web.1", "web.1.web1id", "0123456789ab", "host-a"}) {
    EXPECT_THAT(find(name), ElementsAre("10.0.1.3")) << name;
  }
}

TEST_F(NameTableTest, AnAliasOfSeveralServicesMeansAllOfThem) {
  auto a = endpoint("n1", "a", 1, "10.0.1.3");
  auto b = endpoint("n1", "b", 1, "10.0.1.4");
  a.add_aliases("api");
  b.add_aliases("API");
  table_.set(a);
  table_.set(b);
  EXPECT_THAT(find("api"), ElementsAre("10.0.1.3", "10.0.1.4"));
  EXPECT_THAT(find("tasks.api"), ElementsAre("10.0.1.3", "10.0.1.4"));
  // One of them has a virtual address.
  auto with_address = service("n1", "a", {"10.0.1.2"});
  with_address.add_aliases("api");
  table_.set(with_address);
  EXPECT_THAT(find("api"), ElementsAre("10.0.1.2", "10.0.1.4"));
  table_.remove_endpoint("n1", "b1id");
  EXPECT_THAT(find("api"), ElementsAre("10.0.1.2"));
}

TEST_F(NameTableTest, TheFirstNetworkThatKnowsTheNameAnswers) {
  table_.set(network("n2", "back", "10.0.2.0/24"));
  table_.set(endpoint("n1", "db", 1, "10.0.1.3"));
  table_.set(endpoint("n2", "db", 1, "10.0.2.3"));
  table_.set(endpoint("n2", "cache", 1, "10.0.2.4"));
  EXPECT_THAT(find("db", {"n1", "n2"}), ElementsAre("10.0.1.3"));
  EXPECT_THAT(find("db", {"n2", "n1"}), ElementsAre("10.0.2.3"));
  EXPECT_THAT(find("cache", {"n1", "n2"}), ElementsAre("10.0.2.4"));
  EXPECT_THAT(find("cache", {"n1"}), IsEmpty());
  EXPECT_FALSE(known("cache", {"n1"})) << "networks do not see each other";
}

TEST_F(NameTableTest, ANetworkCanBeNamedBehindTheName) {
  table_.set(network("n2", "Back.end", "10.0.2.0/24"));
  table_.set(endpoint("n1", "db", 1, "10.0.1.3"));
  table_.set(endpoint("n2", "db", 1, "10.0.2.3"));
  EXPECT_THAT(find("db.back.end", {"n1", "n2"}), ElementsAre("10.0.2.3"));
  EXPECT_THAT(find("tasks.db.back.end", {"n1", "n2"}), ElementsAre("10.0.2.3"));
  EXPECT_THAT(find("db.shop_default", {"n1", "n2"}), ElementsAre("10.0.1.3"));
  EXPECT_FALSE(known("db.back.end", {"n1"}));
  EXPECT_FALSE(known("dbback.end", {"n1", "n2"}));
  EXPECT_FALSE(known(".back.end", {"n1", "n2"}));
}

TEST_F(NameTableTest, ARecordReplacesTheOneBefore) {
  auto one = endpoint("n1", "web", 1, "10.0.1.3");
  one.add_aliases("old");
  table_.set(one);
  one.clear_aliases();
  one.add_aliases("new");
  one.set_addresses(0, "10.0.1.7");
  table_.set(one);
  EXPECT_FALSE(known("old"));
  EXPECT_THAT(find("new"), ElementsAre("10.0.1.7"));
  EXPECT_EQ(table_.find_address({"n1"}, *Ip::parse("10.0.1.3")).name, "");
  table_.remove_network("n1");
  EXPECT_FALSE(known("new"));
}

TEST_F(NameTableTest, AddressesHaveNames) {
  table_.set(service("n1", "web", {"10.0.1.2"}));
  table_.set(endpoint("n1", "web", 1, "10.0.1.3", false));
  const auto reverse = [&](const char* address) {
    return table_.find_address({"n1"}, *Ip::parse(address));
  };
  EXPECT_EQ(reverse("10.0.1.3").name, "web.1.web1id.shop_default");
  EXPECT_EQ(reverse("10.0.1.2").name, "web.shop_default");
  EXPECT_TRUE(reverse("10.0.1.77").ours);
  EXPECT_EQ(reverse("10.0.1.77").name, "");
  EXPECT_FALSE(reverse("192.0.2.1").ours);
}

TEST_F(NameTableTest, PortsOfAServiceAreFoundByNameOrNumber) {
  auto web = service("n1", "web");
  auto* port = web.add_ports();
  port->set_name("http");
  port->set_protocol("tcp");
  port->set_target(80);
  table_.set(web);
  table_.set(endpoint("n1", "web", 1, "10.0.1.3"));
  table_.set(endpoint("n1", "web", 2, "10.0.1.4", false));
  for (const char* name : {"_http._tcp.web", "http.tcp.web", "_80._tcp.web", "80.tcp.web",
                           "_http._tcp.web.shop_default"}) {
    const auto targets = table_.find_service({"n1"}, name);
    ASSERT_TRUE(targets.has_value()) << name;
    ASSERT_EQ(targets->size(), 1u) << name;
    EXPECT_EQ(targets->front().name, "web.1.web1id");
    EXPECT_EQ(targets->front().port, 80);
  }
  for (const char* name : {"_https._tcp.web", "_http._udp.web"}) {
    const auto targets = table_.find_service({"n1"}, name);
    ASSERT_TRUE(targets.has_value()) << name;
    EXPECT_THAT(*targets, IsEmpty()) << name;
  }
  for (const char* name : {"_http._tcp.other", "_http.web", "web", "_http._xyz.web"}) {
    EXPECT_FALSE(table_.find_service({"n1"}, name).has_value()) << name;
  }
  table_.set(service("n1", "web", {"10.0.1.2"}));
  EXPECT_THAT(*table_.find_service({"n1"}, "_http._tcp.web"), IsEmpty());
}

}  // namespace
}  // namespace muster::overlay::dns
