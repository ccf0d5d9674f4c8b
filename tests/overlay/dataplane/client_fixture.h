#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/overlay/dataplane/client_lab.h"

namespace muster::overlay::testing {

// Containers that call a service of tasks by its virtual addresses, with the balancer that
// MUSTER_TEST_BALANCER names.
constexpr int kPort = 8080;
inline constexpr const char* kVip = "10.60.255.1";
inline constexpr const char* kVip6 = "fd60::ff01";

inline std::string v4(size_t i) {
  return fmt::format("10.60.{}.{}", 1 + i / 250, i % 250 + 1);
}
inline std::string v6(size_t i) {
  return fmt::format("fd60::1:{:x}", i + 1);
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(lab_.ok()) << lab_.box.error(); }

  // A namespace with the addresses of `n` tasks and a server, and the tasks in the truth.
  void serve(size_t n, bool with_v6 = false) {
    std::vector<std::string> addresses;
    for (size_t i = 0; i < n; ++i) {
      std::vector<std::string> of_task = {v4(i)};
      if (with_v6) of_task.push_back(v6(i));
      lab_.task(fmt::format("t{}", i), "web", of_task);
      addresses.insert(addresses.end(), of_task.begin(), of_task.end());
    }
    servers_ = lab_.add("servers", addresses);
    server_ = std::make_unique<AddressServer>(servers_, kPort, addresses);
  }
  std::string client(const std::string& name, const std::vector<std::string>& addresses) {
    const std::string path = lab_.add(name, addresses);
    const Status attached = lab_.clients->attach(name, path);
    EXPECT_TRUE(attached.ok()) << attached.message();
    return path;
  }
  // How often each backend is met by so many connections.
  std::map<std::string, size_t> spread(const std::string& netns, const std::string& address,
                                       size_t connections) {
    std::map<std::string, size_t> out;
    inside(netns, [&] {
      for (size_t i = 0; i < connections; ++i) {
        const UniqueFd fd = connect_tcp(address, kPort);
        ++out[fd ? ask_on(fd.get()).text : "refused"];
      }
    });
    return out;
  }
  int refusal(const std::string& netns, const std::string& address, int port) {
    int error = 0;
    inside(netns, [&] { (void)connect_tcp(address, port, &error); });
    return error;
  }

  ClientLab lab_;
  std::string servers_;
  std::unique_ptr<AddressServer> server_;
};

// What nftables alone have.
class NftClientTest : public ClientTest {
 protected:
  static std::string vip(int i) { return fmt::format("10.60.{}.{}", 200 + i / 250, i % 250 + 1); }
  // Services s0 and on, of one task each.
  void serve_many(int services) {
    for (int i = 0; i < services; ++i) {
      const std::string service = fmt::format("s{}", i);
      lab_.task(fmt::format("t{}", i), service, {v4(0)});
      lab_.service(service, {vip(i)});
    }
    lab_.apply({});
  }
};

}  // namespace muster::overlay::testing
