#include "deploy/cli/port_clashes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

v1::Node node(const std::string& name, const std::vector<std::string>& limitations) {
  v1::Node out;
  out.set_id("id-" + name);
  out.mutable_description()->set_hostname(name);
  out.mutable_status()->set_state(v1::NodeStatus::READY);
  for (const auto& text : limitations) out.mutable_description()->add_limitations(text);
  return out;
}

TEST(PortClashes, AreToldByPortWithTheNodes) {
  v1::Service service;
  auto* http = service.mutable_endpoint()->add_ports();
  http->set_published_port(8080);
  auto* dns = service.mutable_endpoint()->add_ports();
  dns->set_published_port(53);
  dns->set_protocol(v1::PortConfig::UDP);
  dns->set_bind("10.0.0.5");
  const std::string taken = "port 8080/tcp is taken by another program of this host";
  const std::string other = "port 10.0.0.5:53/udp is taken by another program of this host";
  EXPECT_THAT(port_clashes(service, {node("a", {"no init program found"})}), IsEmpty());
  EXPECT_THAT(port_clashes(service, {node("a10", {taken}), node("a9", {taken, other})}),
              ElementsAre("port 8080/tcp is taken on a9, a10 by another program (`ss -lntup sport "
                          "= :8080` there tells which)",
                          "port 10.0.0.5:53/udp is taken on a9 by another program (`ss -lntup "
                          "sport = :53` there tells which)"));
  EXPECT_THAT(port_clashes(service, {node("a", {taken + " at ::1, and answers everywhere else"})}),
              ElementsAre("port 8080/tcp is taken on a by another program at ::1, and answers "
                          "everywhere else (`ss -lntup sport = :8080` there tells which)"));
  std::vector<v1::Node> many;
  for (int i = 1; i <= 8; ++i) many.push_back(node("n" + std::to_string(i), {taken}));
  many[0].mutable_status()->set_state(v1::NodeStatus::DOWN);
  EXPECT_THAT(port_clashes(service, many),
              ElementsAre("port 8080/tcp is taken on n2, n3, n4, n5, n6 and 2 more by another "
                          "program (`ss -lntup sport = :8080` there tells which)"));
}

}  // namespace
}  // namespace muster::deploy::cli
