#pragma once

#include <string>

#include "agent/doctor/checks.h"

namespace muster::agent {

// A node "one" in network blue, with a container of its own and three tasks elsewhere, of the
// services web (with a virtual address) and list (without); web publishes port 8080.
inline NodeFacts node_in_network() {
  NodeFacts facts;
  facts.node_id = "n1";
  facts.hostname = "one";
  facts.data_path_addr = "192.0.2.1";
  overlay::NetworkStep blue;
  blue.network_id = "net-blue";
  blue.complete = true;
  blue.feed.mutable_network()->set_id("net-blue");
  blue.feed.mutable_network()->mutable_spec()->mutable_annotations()->set_name("blue");
  blue.feed.mutable_network()->mutable_state()->set_mtu(1450);
  const auto endpoint = [&](const char* id, const char* service, const char* address,
                            v1::EndpointState state = v1::ENDPOINT_READY) {
    v1::NetworkEndpoint& e = *blue.feed.add_endpoints();
    e.set_task_id(id);
    e.set_service_id(service);
    e.add_addresses(address);
    e.set_state(state);
  };
  endpoint("t1", "s-web", "10.0.1.3");
  endpoint("t2", "s-web", "10.0.1.4");
  endpoint("t3", "s-web", "10.0.1.5", v1::ENDPOINT_DRAINING);
  endpoint("t4", "s-list", "10.0.1.6");
  v1::NetworkService& web = *blue.feed.add_services();
  web.set_service_id("s-web");
  web.set_name("web");
  web.add_virtual_ips("10.0.1.2");
  v1::PortConfig& port = *web.add_ports();
  port.set_protocol(v1::PortConfig::TCP);
  port.set_target_port(80);
  port.set_published_port(8080);
  v1::NetworkService& list = *blue.feed.add_services();
  list.set_service_id("s-list");
  list.set_name("list");
  facts.networks.push_back(blue);
  overlay::NetworkStep ingress;
  ingress.network_id = "net-ingress";
  ingress.feed.mutable_network()->set_id("net-ingress");
  ingress.feed.mutable_network()->mutable_spec()->mutable_annotations()->set_name("ingress");
  ingress.feed.mutable_network()->mutable_spec()->set_ingress(true);
  *ingress.feed.add_services() = web;
  facts.networks.push_back(ingress);
  facts.containers.push_back({"web.1.t1", "/netns/c1", {{"net-blue", {"10.0.1.3"}}}});
  overlay::PublishedPort published;
  published.port = port;
  published.port.set_mode(v1::PortConfig::INGRESS);
  published.owner = "s-web";
  published.backends = {"10.0.1.3"};
  facts.ports.push_back(published);
  return facts;
}

}  // namespace muster::agent
