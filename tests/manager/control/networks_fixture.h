#pragma once

#include <string>
#include <vector>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {

// Networks and nodes through the API, and what it warns of.
class NetworksFixture : public ApiFixture {
 protected:
  NetworksFixture() { api_.activate(store_); }
  static v1::NetworkSpec spec(const std::string& name, const std::string& subnet = "") {
    v1::NetworkSpec out;
    out.mutable_annotations()->set_name(name);
    if (!subnet.empty()) out.add_pools()->set_subnet(subnet);
    return out;
  }
  // What went wrong; empty when it was made.
  std::string create(const v1::NetworkSpec& spec) {
    v1::CreateNetworkRequest request;
    *request.mutable_spec() = spec;
    const auto made = call(&ControlApi::create_network, request);
    return made ? "" : made.error().message();
  }
  void put(v1::Node node) {
    write([&](store::Transaction& tx) { return tx.create(std::move(node)); });
  }
  static v1::Node node(const std::string& id, const std::string& path, uint32_t mtu = 1500) {
    v1::Node out;
    out.set_id(id);
    out.mutable_description()->set_hostname("host-" + id);
    out.mutable_description()->mutable_data_path()->set_address(path);
    out.mutable_description()->mutable_data_path()->set_mtu(mtu);
    return out;
  }
  std::vector<std::string> warnings_of_node(const std::string& id) {
    v1::GetNodeRequest request;
    request.set_node(id);
    const auto got = api_.get_node(user_, request);
    return {got->node().warnings().begin(), got->node().warnings().end()};
  }
  std::vector<std::string> warnings_of_network(const std::string& name) {
    v1::GetNetworkRequest request;
    request.set_network(name);
    const auto got = api_.get_network(user_, request);
    return {got->network().warnings().begin(), got->network().warnings().end()};
  }
};

}  // namespace muster::manager::control
