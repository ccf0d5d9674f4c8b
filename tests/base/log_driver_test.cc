#include "base/log_driver.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(LogDriverTest, Accepted) {
  const std::vector<std::pair<std::string, LogOptions>> cases = {
      {"", {}},
      {"", {{"max-size", "10m"}, {"syslog-address", "udp://h:1"}}},
      {"none", {}},
      {"json-file", {}},
      {"json-file", {{"max-size", "10m"}, {"max-file", "3"}, {"compress", "true"}}},
      {"json-file",
       {{"max-size", "-1"}, {"labels", "a,b"}, {"env-regex", "^A"}, {"tag", "{{.Name}}"}}},
      {"json-file", {{"mode", "non-blocking"}, {"max-buffer-size", "4m"}}},
      {"local", {{"max-size", "1g"}, {"max-file", "5"}, {"compress", "false"}}},
      {"journald",
       {{"tag", "{{.ImageName}}/{{.ID}}"}, {"labels", "x"}, {"cache-disabled", "true"}}},
      {"syslog",
       {{"syslog-address", "tcp://[::1]:601"},
        {"syslog-facility", "local3"},
        {"syslog-format", "rfc5424micro"}}},
      {"syslog", {{"syslog-address", "unix:///run/x"}, {"syslog-facility", "17"}}},
  };
  for (const auto& [name, options] : cases) {
    const Status status = check_log_driver(name, options);
    EXPECT_TRUE(status.ok()) << name << ": " << status.message();
  }
}

TEST(LogDriverTest, Refused) {
  const struct {
    std::string name;
    LogOptions options;
    std::string message;
  } cases[] = {
      {"gelf",
       {},
       "logger: no log driver named 'gelf' is registered (there are journald, json-file, local, "
       "none, syslog)"},
      {"none", {{"tag", "x"}}, "unknown log opt 'tag' for none log driver"},
      {"json-file", {{"max-sise", "1m"}}, "unknown log opt 'max-sise' for json-file log driver"},
      {"", {{"max-sise", "1m"}}, "unknown log opt 'max-sise'"},
      {"json-file", {{"max-size", "big"}}, "max-size: invalid size: 'big'"},
      {"json-file", {{"max-size", "0"}}, "max-size: invalid size: '0'"},
      {"json-file", {{"max-file", "0"}}, "max-file cannot be less than 1"},
      {"json-file", {{"max-file", "two"}}, "max-file: invalid number: 'two'"},
      {"json-file", {{"compress", "maybe"}}, "compress: invalid boolean: 'maybe'"},
      {"json-file",
       {{"compress", "true"}},
       "compress cannot be true when max-file is less than 2 or max-size is not set"},
      {"json-file", {{"mode", "fast"}}, "logger: logging mode not supported: fast"},
      {"json-file",
       {{"max-buffer-size", "4m"}},
       "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
      {"json-file", {{"env-regex", "("}}, "env-regex: invalid regular expression '('"},
      {"local", {{"labels", "a"}}, "unknown log opt 'labels' for local log driver"},
      {"syslog",
       {{"syslog-address", "loghost"}},
       "syslog-address should be in form proto://address, got loghost"},
      {"syslog",
       {{"syslog-address", "http://h"}},
       "unsupported scheme: 'http' in syslog-address http://h"},
      {"syslog",
       {{"syslog-address", "tcp+tls://h"}},
       "syslog-address tcp+tls://h: syslog over TLS is not supported"},
      {"syslog",
       {{"syslog-address", "udp://:99999"}},
       "syslog-address udp://:99999: host:port is needed"},
      {"syslog",
       {{"syslog-tls-cert", "x"}},
       "log opt 'syslog-tls-cert': syslog over TLS is not supported"},
      {"syslog", {{"syslog-facility", "loud"}}, "invalid syslog facility: loud"},
      {"syslog",
       {{"syslog-format", "xml"}},
       "invalid syslog format 'xml': rfc3164, rfc5424 or rfc5424micro"},
  };
  for (const auto& c : cases) {
    const Status status = check_log_driver(c.name, c.options);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.message;
    EXPECT_EQ(status.message(), c.message);
  }
  EXPECT_FALSE(check_log_driver("json-file", {{"tag", "{{.Nope"}}).ok());
}

TEST(LogDriverTest, SizesFacilitiesAddresses) {
  EXPECT_EQ(parse_log_size("512"), 512U);
  EXPECT_EQ(parse_log_size("64K"), 64U << 10);
  EXPECT_EQ(parse_log_size("10MiB"), 10U << 20);
  EXPECT_EQ(parse_log_size("1gb"), 1U << 30);
  for (const char* bad : {"", "x", "5q", "1.5m", "99999999999g"}) {
    EXPECT_FALSE(parse_log_size(bad).has_value()) << bad;
  }
  EXPECT_EQ(parse_syslog_facility("daemon"), 3U);
  EXPECT_EQ(parse_syslog_facility("local7"), 23U);
  EXPECT_EQ(parse_syslog_facility("0"), 0U);
  EXPECT_FALSE(parse_syslog_facility("24").has_value());
  const auto udp = parse_syslog_address("udp://loghost");
  EXPECT_EQ(udp->host, "loghost");
  EXPECT_EQ(udp->port, "514");
  const auto six = parse_syslog_address("tcp://[fe80::1]:6514");
  EXPECT_EQ(six->host, "fe80::1");
  EXPECT_EQ(six->port, "6514");
  EXPECT_EQ(parse_syslog_address("")->host, "/dev/log");
}

}  // namespace
}  // namespace muster
