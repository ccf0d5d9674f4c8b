// The parts of netd that need no kernel; the whole is in tests/integration/dns_test.sh.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.h"
#include "overlay/dns/netd/frames.h"
#include "overlay/dns/netd/handover.h"
#include "overlay/dns/netd/node_resolvers.h"
#include "overlay/dns/netd/records.h"

namespace muster::overlay::dns {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

v1::NetdRecord network_record(const std::string& id) {
  v1::NetdRecord out;
  out.set_key("network/" + id);
  out.mutable_network()->set_id(id);
  return out;
}

v1::NetdRecord endpoint_record(const std::string& network, const std::string& task, bool fed) {
  v1::NetdRecord out;
  out.set_key("endpoint/" + network + "/" + task);
  out.set_fed(fed);
  out.mutable_endpoint()->set_network_id(network);
  out.mutable_endpoint()->set_task_id(task);
  return out;
}

std::vector<std::string> keys(const std::vector<v1::NetdRecord>& records) {
  std::vector<std::string> out;
  for (const auto& record : records) out.push_back(record.key());
  return out;
}

v1::NetdUpdate complete(std::vector<v1::NetdRecord> records) {
  v1::NetdUpdate out;
  out.set_complete(true);
  for (auto& record : records) *out.add_records() = std::move(record);
  return out;
}

TEST(RecordsTest, AnUpdateSaysWhatIsNewAndWhatIsGone) {
  Records records;
  auto changes = records.apply(complete({network_record("n"), endpoint_record("n", "a", false)}));
  EXPECT_THAT(keys(changes.set), ElementsAre("network/n", "endpoint/n/a"));
  v1::NetdUpdate step;
  *step.add_records() = endpoint_record("n", "b", false);
  *step.add_records() = network_record("n");
  step.add_removed_keys("endpoint/n/a");
  step.add_removed_keys("endpoint/n/never");
  changes = records.apply(step);
  EXPECT_THAT(keys(changes.set), ElementsAre("endpoint/n/b")) << "what is the same is no change";
  EXPECT_THAT(keys(changes.removed), ElementsAre("endpoint/n/a"));
  EXPECT_EQ(records.all().records_size(), 2);
}

TEST(RecordsTest, ACompleteUpdateReplacesEverything) {
  Records records;
  records.apply(complete({network_record("n"), endpoint_record("n", "a", false)}));
  const auto changes = records.apply(complete({network_record("m")}));
  EXPECT_THAT(keys(changes.removed), UnorderedElementsAre("network/n", "endpoint/n/a"));
  EXPECT_THAT(keys(changes.set), ElementsAre("network/m"));
}

TEST(RecordsTest, WhatTheManagerToldStaysUntilItIsHeardAgain) {
  Records records;
  records.apply(complete({network_record("n"), endpoint_record("n", "remote", true),
                          endpoint_record("n", "local", false)}));
  // musterd has started anew and knows its own tasks alone.
  auto changes = records.apply(complete({network_record("n"), endpoint_record("n", "own", false)}));
  EXPECT_THAT(keys(changes.removed), ElementsAre("endpoint/n/local"));
  // Now it has the feed, and the remote one is not in it.
  auto update = complete({network_record("n"), endpoint_record("n", "own", false)});
  update.add_fed_network_ids("n");
  changes = records.apply(update);
  EXPECT_THAT(keys(changes.removed), ElementsAre("endpoint/n/remote"));
  // A network that nobody here is in any more takes all along.
  records.apply(complete({network_record("n"), endpoint_record("n", "remote", true)}));
  changes = records.apply(complete({}));
  EXPECT_THAT(keys(changes.removed), UnorderedElementsAre("network/n", "endpoint/n/remote"));
}

TEST(RecordsTest, RelaysStayUntilMusterdKnowsItsPorts) {
  v1::NetdRecord relay;
  relay.set_key("relay/tcp/80");
  relay.mutable_relay()->set_id("tcp/80");
  Records records;
  records.apply(complete({relay}));
  EXPECT_THAT(keys(records.apply(complete({network_record("n")})).removed), IsEmpty());
  auto update = complete({network_record("n")});
  update.add_fed_network_ids(kRelaysTold);
  EXPECT_THAT(keys(records.apply(update).removed), ElementsAre("relay/tcp/80"));
}

TEST(RecordsTest, SocketsOfEncryptedNetworksStayUntilMusterdSaysWhere) {
  v1::NetdRecord relay;
  relay.set_key("relay/esp/4500");
  relay.mutable_relay()->set_id("esp/4500");
  Records records;
  records.apply(complete({relay}));
  auto update = complete({});
  update.add_fed_network_ids(kRelaysTold);
  EXPECT_THAT(keys(records.apply(update).removed), IsEmpty()) << "relays are others";
  update.add_fed_network_ids(kEncapsulationTold);
  EXPECT_THAT(keys(records.apply(update).removed), ElementsAre("relay/esp/4500"));
}

TEST(FramesTest, ComeOutAsTheyWentInHoweverTheyAreCut) {
  v1::NetdRecord first = network_record("one");
  v1::NetdRecord second = network_record(std::string(70'000, 'x'));
  const std::string stream = encode_frame(first) + encode_frame(second) + encode_frame(first);
  for (const size_t step : {size_t{1}, size_t{3}, size_t{1000}, stream.size()}) {
    FrameReader reader;
    std::vector<std::string> out;
    for (size_t at = 0; at < stream.size(); at += step) {
      reader.add(std::string_view(stream).substr(at, step));
      while (true) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame);
        if (!*frame) break;
        out.push_back(**frame);
      }
    }
    EXPECT_THAT(out, ElementsAre(first.SerializeAsString(), second.SerializeAsString(),
                                 first.SerializeAsString()));
  }
}

TEST(FramesTest, OneThatIsTooLongIsRefused) {
  FrameReader reader;
  reader.add(std::string("\xff\xff\xff\xff", 4));
  EXPECT_EQ(reader.next().error().code(), StatusCode::kResourceExhausted);
}

TEST(HandoverTest, StateAndSocketsArriveAtTheSuccessor) {
  std::string directory = std::filesystem::temp_directory_path() / "muster-netd-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = netd_socket(directory);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  Result<Handover> got = fail(internal_error("not run"));
  std::thread successor([&] { got = receive_handover(path); });
  const UniqueFd fd(accept(listener.get(), nullptr, nullptr));
  v1::NetdReply hello;
  hello.mutable_hello();
  const std::string frame = encode_frame(hello);
  ASSERT_EQ(write(fd.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  v1::NetdUpdate state = complete({network_record("n"), endpoint_record("n", "a", false)});
  // Pipes instead of sockets: what is written into one end comes out of the other.
  std::map<std::string, HandedSockets> sockets;
  std::vector<UniqueFd> ends;
  for (int i = 0; i < 300; ++i) {
    int pipe[2];
    ASSERT_EQ(pipe2(pipe, O_CLOEXEC), 0);
    ends.emplace_back(pipe[0]);
    ends.emplace_back(pipe[1]);
    sockets["c" + std::to_string(i)] = {pipe[0], pipe[1], pipe[0]};
  }
  std::vector<HandedRelay> relays(2);
  relays[0].text = "listener tcp/80 127.0.0.1:80";
  relays[0].descriptors = {ends[0].get()};
  relays[1].text = "connection 5 0";
  relays[1].descriptors = {ends[0].get(), ends[1].get(), ends[0].get(),
                           ends[1].get(), ends[0].get(), ends[1].get()};
  ASSERT_TRUE(send_handover(fd.get(), state, sockets, relays).ok());
  ASSERT_TRUE(send_handover_end(fd.get()).ok());
  successor.join();
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(got->state.SerializeAsString(), state.SerializeAsString());
  ASSERT_EQ(got->sockets.size(), 300u);
  const auto& last = got->sockets.at("c299");
  ASSERT_EQ(write(last.udp.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(last.tcp.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
  ASSERT_EQ(got->relays.size(), 2u);
  EXPECT_EQ(got->relays[0].text, relays[0].text);
  EXPECT_EQ(got->relays[0].owned.size(), 1u);
  EXPECT_EQ(got->relays[1].owned.size(), 6u);
  std::filesystem::remove_all(directory);
}

TEST(HandoverTest, WithoutAPredecessorThereIsNothing) {
  EXPECT_FALSE(receive_handover("/nonexistent/netd.sock"));
}

TEST(NodeResolversTest, ReadsNameservers) {
  const auto texts = [](std::string_view text) {
    std::vector<std::string> out;
    for (const Ip& ip : parse_nameservers(text)) out.push_back(ip.str());
    return out;
  };
  EXPECT_THAT(texts("# nameserver 9.9.9.9\nnameserver 192.0.2.1\nsearch x\n"
                    "nameserver\t2001:db8::1  # second\r\nnameserver 192.0.2.1\n"
                    "nameserver nonsense\nnameserver\nnameserver192.0.2.9\n"
                    "nameserver fe80::1%eth0\nnameserver 192.0.2.3"),
              ElementsAre("192.0.2.1", "2001:db8::1", "192.0.2.3"));
  EXPECT_THAT(texts(""), IsEmpty());
}

TEST(NodeResolversTest, FollowsTheFile) {
  std::string directory = std::filesystem::temp_directory_path() / "muster-netd-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/resolv.conf";
  NodeResolvers resolvers(path);
  TimePoint now{1h};
  EXPECT_THAT(resolvers.get(now), ElementsAre(Upstream{*Ip::parse("127.0.0.1"), true}));
  ASSERT_TRUE(write_file_atomic(path, "nameserver 192.0.2.1\nnameserver 127.0.0.53\n", 0644,
                                Durability::kNone)
                  .ok());
  EXPECT_EQ(resolvers.get(now).size(), 1u) << "looked at once a second";
  now = now + 1s;
  EXPECT_THAT(resolvers.get(now), ElementsAre(Upstream{*Ip::parse("192.0.2.1"), false},
                                              Upstream{*Ip::parse("127.0.0.53"), true}));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace muster::overlay::dns
