#include "deploy/cli/quantities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deploy/cli/names.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;

TEST(Quantities, Bytes) {
  const struct {
    const char* text;
    int64_t bytes;  // -1 = refused
  } cases[] = {{"0", 0},          {"512", 512},         {"512b", 512},     {"1k", 1024},
               {"1.5m", 1572864}, {"2GiB", 2147483648}, {"1 gb", 1 << 30}, {"", -1},
               {"m", -1},         {"1x", -1},           {"-1", -1},        {"1.2.3", -1},
               {"99999999t", -1}};
  for (const auto& c : cases) {
    const auto bytes = parse_bytes(c.text);
    EXPECT_EQ(bytes ? *bytes : -1, c.bytes) << c.text;
  }
}

TEST(Quantities, Cpus) {
  EXPECT_EQ(*parse_nano_cpus("0.5"), 500'000'000);
  EXPECT_EQ(*parse_nano_cpus("2"), 2'000'000'000);
  EXPECT_EQ(*parse_nano_cpus(".000000001"), 1);
  EXPECT_FALSE(parse_nano_cpus("0.0000000001"));
  EXPECT_FALSE(parse_nano_cpus("many"));
}

TEST(Quantities, CsvAndShellWords) {
  EXPECT_THAT(*parse_csv("a,\"b,c\",\"d\"\"e\""), ElementsAre("a", "b,c", "d\"e"));
  EXPECT_FALSE(parse_csv("\"open"));
  EXPECT_THAT(*parse_shell_words("sh -c 'a  b' \"c d\" e\\ f ''"),
              ElementsAre("sh", "-c", "a  b", "c d", "e f", ""));
  EXPECT_FALSE(parse_shell_words("'open"));
}

TEST(Quantities, Moments) {
  const int64_t now = 1'000'000'000'000;
  EXPECT_EQ(*parse_moment("10s", now), now - 10'000'000'000);
  EXPECT_EQ(*parse_moment("1.5", now), 1'500'000'000);
  EXPECT_EQ(*parse_moment("1970-01-01T00:00:01Z", now), 1'000'000'000);
  EXPECT_EQ(*parse_moment("1970-01-02", now), 86'400'000'000'000);
  EXPECT_FALSE(parse_moment("yesterday", now));
}

std::string ports(const char* text) {
  const auto parsed = parse_publish(text);
  if (!parsed) return "error: " + parsed.error().message();
  std::string out;
  for (const auto& port : *parsed)
    out += fmt::format(
        "{}{}:{}/{}/{}{}{}{} ", port.bind().empty() ? "" : port.bind() + " ", port.published_port(),
        port.target_port(), static_cast<int>(port.protocol()), static_cast<int>(port.mode()),
        port.local() ? "/local" : "",
        port.client_address() == v1::PortConfig::AUTOMATIC
            ? ""
            : "/" + client_address_name(port.client_address()),
        port.proxy_protocol() == 0 ? "" : fmt::format("/proxy{}", port.proxy_protocol()));
  return out;
}

TEST(Quantities, Publish) {
  const struct {
    const char *text, *want;
  } cases[] = {
      {"80", "0:80/0/0 "},
      {"8080:80", "8080:80/0/0 "},
      {"53:53/udp", "53:53/1/0 "},
      {"8000-8001:80-81", "8000:80/0/0 8001:81/0/0 "},
      {"target=80,published=8080,mode=host,protocol=tcp", "8080:80/0/1 "},
      {"127.0.0.1:8080:80", "127.0.0.1 8080:80/0/0 "},
      {"[::1]:8080:80", "::1 8080:80/0/0 "},
      {"fd00:0::1:8080:80/udp", "fd00::1 8080:80/1/0 "},
      {"0.0.0.0:8080:80", "8080:80/0/0 "},
      {"eth1:8000-8001:80-81", "eth1 8000:80/0/0 eth1 8001:81/0/0 "},
      {"10.0.0.5::80", "10.0.0.5 0:80/0/0 "},
      {"1.2.3:80:80",
       "error: a port cannot be bound to \"1.2.3\": it is neither an IP address nor the name of an "
       "interface"},
      {"target=80,published=8080,local=true,bind=10.0.0.5,client-address=masquerade",
       "10.0.0.5 8080:80/0/0/local/masquerade "},
      {"target=80,local,client-address=keep", "0:80/0/0/local/keep "},
      {"target=80,local=false,bind=*,client-address=auto,proxy-protocol=0", "0:80/0/0 "},
      {"target=80,proxy-protocol=2,local=1", "0:80/0/0/local/proxy2 "},
      {"target=80,local=maybe", "error: invalid value for local: maybe (true or false)"},
      {"target=80,proxy-protocol=3",
       "error: invalid proxy-protocol value '3' (version 1 or 2 of the PROXY protocol, 0 = none)"},
      {"target=80,client-address=hide",
       "error: invalid client-address value 'hide' (keep, masquerade or auto)"},
      {"target=53,protocol=udp,proxy-protocol=1",
       "error: the PROXY protocol is for TCP ports, not for udp"},
      {"published=80", "error: missing mandatory field \"target\""},
      {"target=80,mode=mesh", "error: invalid publish mode value 'mesh'"},
      {"80/xyz", "error: invalid protocol value 'xyz'"},
      {"99999", "error: invalid port: 99999"},
      {"1-3:1-2", "error: invalid ranges in \"1-3:1-2\": not of the same length"},
  };
  for (const auto& c : cases) EXPECT_EQ(ports(c.text), c.want) << c.text;
}

std::string mount(const char* text) {
  const auto parsed = parse_mount(text, "/here");
  return parsed ? parsed->ShortDebugString() : "error: " + parsed.error().message();
}

TEST(Quantities, Mounts) {
  const struct {
    const char *text, *want;
  } cases[] = {
      {"source=data,target=/data", "source: \"data\" target: \"/data\""},
      {"type=bind,src=./etc,dst=/etc,ro",
       "type: BIND source: \"/here/etc\" target: \"/etc\" read_only: true"},
      {"type=tmpfs,destination=/tmp,tmpfs-size=1m,tmpfs-mode=1770",
       "type: TMPFS target: \"/tmp\" tmpfs { size_bytes: 1048576 mode: 1016 }"},
      {"type=volume,target=/d,volume-nocopy,volume-driver=local,volume-opt=type=nfs",
       "target: \"/d\" volume { no_copy: true driver: \"local\" driver_options { key: \"type\" "
       "value: \"nfs\" } }"},
      {"type=bind,target=/x", "error: source is required when specifying a bind mount"},
      {"type=bind,source=/a", "error: target is required"},
      {"type=tmpfs,target=/x,source=/y", "error: cannot specify 'source' on a tmpfs mount"},
      {"type=bind,source=/a,target=/b,volume-nocopy",
       "error: cannot mix 'volume-*' options with mount type 'bind'"},
      {"target=/x,colour=red", "error: unexpected key 'colour' in 'colour=red'"},
      {"target=/x,src", "error: invalid field 'src' must be a key=value pair"},
      {"type=cluster,target=/x", "error: cluster volumes (CSI) are not supported"},
  };
  for (const auto& c : cases) EXPECT_EQ(mount(c.text), c.want) << c.text;
}

TEST(Quantities, References) {
  const auto secret = parse_secret("source=key,target=tls/key,mode=0400,uid=7");
  ASSERT_TRUE(secret);
  EXPECT_EQ(secret->ShortDebugString(),
            "secret_name: \"key\" file { name: \"tls/key\" uid: \"7\" gid: \"0\" mode: 256 }");
  EXPECT_EQ(parse_config("site.conf")->file().name(), "/site.conf");
  EXPECT_FALSE(parse_secret("target=x"));
  EXPECT_EQ(parse_ulimit("nofile=10:20")->hard(), 20);
  EXPECT_FALSE(parse_ulimit("nofile=20:10"));
  EXPECT_EQ(*parse_host("db:10.0.0.1"), "10.0.0.1 db");
  EXPECT_EQ(*parse_host("db:[::1]"), "::1 db");
  EXPECT_EQ(parse_network("name=net,alias=a,alias=b,driver-opt=k=v")->aliases_size(), 2);
  EXPECT_FALSE(parse_placement_pref("binpack=x"));
  EXPECT_FALSE(parse_generic_resource("gpu=none"));
  EXPECT_EQ(*parse_ratio_ppm("0.25"), 250'000U);
  EXPECT_FALSE(parse_ratio_ppm("1.5"));
}

}  // namespace
}  // namespace muster::deploy::cli
