#include "manager/control/data_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DataPathsTest : public ApiFixture {
 protected:
  // `index`: in the routing mesh.
  void put(const std::string& id, uint32_t index, const std::string& address) {
    v1::Node node;
    node.set_id(id);
    node.mutable_description()->set_hostname("host-" + id);
    node.mutable_description()->mutable_data_path()->set_address("192.0.2." + id);
    node.mutable_ingress()->set_index(index);
    if (!address.empty()) node.mutable_ingress()->add_addresses(address);
    write([&](store::Transaction& tx) { return tx.create(std::move(node)); });
  }
  auto warnings(size_t mesh_nodes_max, const char* id) {
    const store::Snapshot state = store_.snapshot();
    return DataPathFaults(state, mesh_nodes_max).of(*state.get<v1::Node>(id));
  }
};

// Another bound than that of addresses, with other words: a further subnet does not help.
TEST_F(DataPathsTest, AMeshWithAllTheNodesThatItMayHaveSaysSo) {
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("in");
    network.mutable_spec()->mutable_annotations()->set_name("edge");
    network.mutable_spec()->set_ingress(true);
    network.mutable_state()->add_pools()->set_subnet("10.0.0.0/24");
    return tx.create(std::move(network));
  });
  put("1", 1, "10.0.0.2/24");
  put("2", 2, "");  // the network was made anew
  put("3", 0, "");
  const std::string rest = ": ports published in ingress mode do not answer here";
  EXPECT_THAT(warnings(2, "1"), IsEmpty());
  EXPECT_THAT(warnings(2, "2"),
              ElementsAre("no address of network edge was free for this node" + rest));
  EXPECT_THAT(warnings(2, "3"), ElementsAre("the routing mesh is full, it has 2 nodes" + rest));
  EXPECT_THAT(warnings(3, "3"),
              ElementsAre("no address of network edge was free for this node" + rest));
}

}  // namespace
}  // namespace muster::manager::control
