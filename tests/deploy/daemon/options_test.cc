// Flags, the configuration file, addresses, and what is kept of a node between starts.
#include "deploy/daemon/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "deploy/daemon/address_pools.h"
#include "deploy/daemon/config_file.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/local_listener.h"
#include "deploy/daemon/node_state.h"

namespace muster::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class OptionsTest : public testing::Test {
 protected:
  OptionsTest() {
    std::string name = testing::TempDir() + "muster-daemon-XXXXXX";
    dir_ = mkdtemp(name.data());
  }
  ~OptionsTest() override { std::filesystem::remove_all(dir_); }

  Result<Options> parse(std::vector<const char*> words) {
    words.insert(words.begin(), "musterd");
    return parse_options(static_cast<int>(words.size()), words.data());
  }
  std::string file(const std::string& text) {
    const std::string path = dir_ / "musterd.yaml";
    std::ofstream(path) << text;
    return "--config=" + path;
  }
  std::filesystem::path dir_;
};

TEST_F(OptionsTest, TheCommandLineWinsOverTheFile) {
  const std::string config = file("log-level: debug\nlabel: [a=1, b=2]\ndata-dir: /srv/muster\n");
  const auto options = parse({config.c_str(), "--log-level", "warn", "--socket", "/x/y.sock"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->log_level, "warn");
  EXPECT_EQ(options->data_dir, "/srv/muster");
  EXPECT_EQ(options->run_dir, "/x");
  EXPECT_THAT(options->labels, ElementsAre("a=1", "b=2"));
}

TEST_F(OptionsTest, MistakesAreNamed) {
  const struct {
    const char* text;
    const char* error;
  } files[] = {
      {"log_level: debug\n", "musterd.yaml: unknown key \"log_level\""},
      {"end-containers: true\n", "unknown key \"end-containers\""},
      {"label:\n  a: 1\n", "musterd.yaml:2: only a flat mapping of keys to values is allowed"},
      {"init: [\n", "musterd.yaml:2: "},
      {"init: x\ninit: y\n", "musterd.yaml:2: the key \"init\" stands twice"},
      {"runtime: docker\n", "docker"},
      {"just text\n", "musterd.yaml:1: a mapping of keys to values is expected"},
  };
  for (const auto& c : files) {
    const std::string config = file(c.text);
    const auto options = parse({config.c_str()});
    ASSERT_FALSE(options) << c.text;
    EXPECT_EQ(options.error().code(), StatusCode::kInvalidArgument) << c.text;
    EXPECT_THAT(options.error().message(), HasSubstr(c.error));
  }
  EXPECT_FALSE(parse({"--data-dir", "relative"}));
  EXPECT_FALSE(parse({"--log-format", "xml"}));
  EXPECT_FALSE(parse({"--no-such-flag"}));
  EXPECT_EQ(parse({"--help"}).error().code(), StatusCode::kOutOfRange);
}

TEST(Addresses, ListenAddressHasAPort) {
  EXPECT_EQ(*find_listen_address("", 2377), "0.0.0.0:2377");
  EXPECT_EQ(*find_listen_address("10.1.2.3", 2377), "10.1.2.3:2377");
  EXPECT_EQ(*find_listen_address("10.1.2.3:99", 2377), "10.1.2.3:99");
  EXPECT_EQ(*find_listen_address(":99", 2377), "0.0.0.0:99");
  EXPECT_EQ(*find_listen_address("::1", 2377), "[::1]:2377");
  EXPECT_EQ(*find_listen_address("[::1]", 2377), "[::1]:2377");
  EXPECT_EQ(*find_listen_address("[::1]:99", 2377), "[::1]:99");
  EXPECT_EQ(*find_listen_address("lo:99", 2377), "127.0.0.1:99");
  for (const char* bad : {"1.2.3.4:port", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:", ":", "nosuch0",
                          "1.2.3", "1.2.3.4:-1", "1.2.3.4:99999999999999999999"}) {
    const auto address = find_listen_address(bad, 2377);
    ASSERT_FALSE(address) << bad << " gave " << *address;
    EXPECT_EQ(address.error().code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_FALSE(find_advertise_address(bad, 2377)) << bad;
  }
}

TEST(Addresses, PoolsHoldAtLeastOneSubnet) {
  EXPECT_TRUE(check_address_pools({}, 0).ok());
  EXPECT_TRUE(check_address_pools({"10.20.0.0/16", "10.30.0.0/24", "fd00::/48"}, 0).ok());
  EXPECT_TRUE(check_address_pools({"10.20.0.0/28"}, 29).ok());
  const auto error = [](const std::vector<std::string>& pools, uint32_t mask) {
    return check_address_pools(pools, mask).message();
  };
  EXPECT_THAT(error({"10.0.0.0/33"}, 0), HasSubstr("invalid default address pool \"10.0.0.0/33\""));
  EXPECT_THAT(error({"ten"}, 0), HasSubstr("invalid default address pool"));
  EXPECT_EQ(error({"10.0.0.0/25"}, 0),
            "default address pool 10.0.0.0/25 is smaller than one subnet of /24");
  EXPECT_EQ(error({"10.0.0.0/8", "10.1.0.0/16"}, 0),
            "default address pools 10.0.0.0/8 and 10.1.0.0/16 overlap");
  EXPECT_EQ(error({}, 30), "subnets of /30 are too small: at most /29");
}

TEST_F(OptionsTest, ADataDirectoryHasOneUser) {
  auto held = lock_data_dir(dir_);
  ASSERT_TRUE(held) << held.error().message();
  const auto second = lock_data_dir(dir_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message(), "another musterd already uses " + dir_.string());
  held->reset();
  EXPECT_TRUE(lock_data_dir(dir_));
}

TEST_F(OptionsTest, ADamagedNodeFileIsRefused) {
  const auto first = load_node_state(dir_);
  ASSERT_TRUE(first);
  EXPECT_EQ(load_node_state(dir_)->instance_id, first->instance_id);
  const auto error_of = [&](const std::string& text) {
    std::ofstream(dir_ / "node.json") << text;
    const auto state = load_node_state(dir_);
    return state ? std::string("accepted") : state.error().message();
  };
  EXPECT_THAT(error_of("{\"version\":1,\"inst"), HasSubstr("node.json is damaged"));
  EXPECT_THAT(error_of(""), HasSubstr("node.json is damaged"));
  EXPECT_THAT(error_of("{\"version\":1}"), HasSubstr("has no instance_id"));
  EXPECT_THAT(error_of("{\"version\":2}"), HasSubstr("newer musterd (format 2, known is 1)"));
}

TEST_F(OptionsTest, TheSocketNeverReplacesAFile) {
  const std::string path = dir_ / "precious";
  std::ofstream(path) << "text";
  const Log log = *make_log("test", "error", LogFormat::kText);
  {
    LocalListener listener(log);
    EXPECT_THAT(listener.listen(path).message(), HasSubstr("exists and is not a socket"));
  }
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
  const std::string socket = dir_ / "sock";
  LocalListener first(log);
  ASSERT_TRUE(first.listen(socket).ok());
  LocalListener second(log);
  EXPECT_THAT(second.listen(socket).message(), HasSubstr("another musterd already listens on"));
  first.stop();
  EXPECT_FALSE(std::filesystem::exists(socket));
  EXPECT_TRUE(second.listen(socket).ok());
}

}  // namespace
}  // namespace muster::daemon
