#include "deploy/compose/values.h"

#include <gtest/gtest.h>

#include "deploy/compose/env_file.h"

namespace muster::deploy::compose {
namespace {

std::string show(const Result<int64_t>& value) {
  return value ? std::to_string(*value) : "error: " + value.error().message();
}

TEST(Sizes, ArePowersOf1024) {
  const std::pair<const char*, int64_t> good[] = {
      {"0", 0},          {"512", 512},          {"1b", 1},         {"1k", 1024},
      {"2KB", 2048},     {"1KiB", 1024},        {"64m", 67108864}, {"1.5g", 1610612736},
      {"1 mb", 1048576}, {"1t", 1099511627776}, {"0.5k", 512}};
  for (const auto& [text, bytes] : good) EXPECT_EQ(show(parse_size(text)), std::to_string(bytes));
  for (const char* text :
       {"", "m", "-1", "1x", "1mm", "1..5k", "1  k", "k1", "1kibb", "9e99", "99999999999p"}) {
    EXPECT_EQ(show(parse_size(text)), fmt::format("error: invalid size: '{}'", text));
  }
}

TEST(Cpus, AreBillionths) {
  EXPECT_EQ(show(parse_cpus("0.5")), "500000000");
  EXPECT_EQ(show(parse_cpus("2")), "2000000000");
  EXPECT_EQ(show(parse_cpus(".25")), "250000000");
  EXPECT_EQ(show(parse_cpus("1.0000000010000")), "1000000001");
  EXPECT_EQ(show(parse_cpus("0.0000000001")), "error: value is too precise");
  for (const char* text : {"", ".", "-1", "1e3", "a", "1.2.3", "9999999999"}) {
    EXPECT_FALSE(parse_cpus(text)) << text;
  }
}

TEST(Words, SplitAsAShellDoes) {
  using Words = std::vector<std::string>;
  const std::pair<const char*, Words> good[] = {
      {"", {}},
      {"a b  c", {"a", "b", "c"}},
      {"sh -c 'a b'", {"sh", "-c", "a b"}},
      {"a\"b c\"d", {"ab cd"}},
      {"\"a\\\"b\\n\"", {"a\"b\\n"}},
      {"a\\ b '' \"\"", {"a b", "", ""}},
      {"a # comment\nb", {"a", "b"}},
      {"a#b", {"a#b"}},
      {"$HOME ${X} *", {"$HOME", "${X}", "*"}},
  };
  for (const auto& [text, words] : good) {
    const Result<Words> out = split_words(text);
    ASSERT_TRUE(out) << text;
    EXPECT_EQ(*out, words) << text;
  }
  for (const char* text : {"'a", "\"a", "a\\"}) EXPECT_FALSE(split_words(text)) << text;
}

std::string show_ports(const char* text) {
  const Result<std::vector<Node>> ports = parse_port(text, {});
  if (!ports) return "error: " + ports.error().message();
  std::string out;
  for (const Node& port : *ports) {
    const auto part = [&](std::string_view key) {
      const Node* found = port.find(key);
      return found == nullptr ? std::string("-") : found->scalar_text();
    };
    out += fmt::format("{} {} {} {}; ", part("host_ip"), part("published"), part("target"),
                       part("protocol"));
  }
  return out;
}

TEST(Ports, ShortForms) {
  const std::pair<const char*, const char*> rows[] = {
      {"80", "- - 80 tcp; "},
      {"8080:80", "- 8080 80 tcp; "},
      {"53:53/UDP", "- 53 53 udp; "},
      {"80-81", "- - 80 tcp; - - 81 tcp; "},
      {"90-91:80-81/sctp", "- 90 80 sctp; - 91 81 sctp; "},
      {"90-91:80", "- 90 80 tcp; - 91 80 tcp; "},
      {"127.0.0.1:90:80", "127.0.0.1 90 80 tcp; "},
      {"127.0.0.1::80", "127.0.0.1 - 80 tcp; "},
      {"[::1]:90:80", "::1 90 80 tcp; "},
      {"0:80", "- 0 80 tcp; "},
      {"80:0", "error: invalid containerPort: 0"},
      {"90:", "error: no port specified: 90:<empty>"},
      {"", "error: no port specified: <empty>"},
      {"80/icmp", "error: invalid proto: icmp"},
      {"a:80", "error: invalid hostPort: a"},
      {"81-80", "error: invalid containerPort: 81-80"},
      {"1:2-3", "error: invalid ranges specified for container and host Ports: 2-3 and 1"},
      {"65536:80", "error: invalid hostPort: 65536"},
  };
  for (const auto& [text, expected] : rows) EXPECT_EQ(show_ports(text), expected) << text;
}

TEST(Images, ReferencesAsDockerReadsThem) {
  const std::string digest = "@sha256:" + std::string(64, 'a');
  for (const std::string& text :
       {std::string("a"), std::string("nginx:1.25-alpine"), std::string("team/web"),
        std::string("localhost:5000/a/b:t"), std::string("Reg.Example.com/a__b/c-d.e"),
        "a" + digest, "r.io/a:t" + digest, std::string("127.0.0.1:5000/hello:1")}) {
    EXPECT_TRUE(check_image(text).ok()) << text;
  }
  for (const char* text : {"", "A", "a:", "a:b:c", "a b", "/a", "a//b", "a/", "a@sha256:12",
                           "a:.tag", "a___b", "-a", "a@", "reg:port/a", "a/B"}) {
    EXPECT_FALSE(check_image(text).ok()) << text;
  }
}

TEST(Paths, AreJoinedAndCleaned) {
  EXPECT_EQ(join_file_path("/p", "a"), "/p/a");
  EXPECT_EQ(join_file_path("/p/q", "../a/./b/"), "/p/a/b");
  EXPECT_EQ(join_file_path("/p", "/a"), "/a");
  EXPECT_EQ(join_file_path("/p", "."), "/p");
  EXPECT_EQ(join_file_path("/p", "../../x"), "/x");
}

std::string show_env(const Result<EnvPairs>& pairs) {
  if (!pairs) return "error: " + pairs.error().message();
  std::string out;
  for (const auto& [name, value] : *pairs) out += name + "=" + value + "|";
  return out;
}

TEST(EnvFiles, BothFormats) {
  const Lookup lookup = [](const std::string& name) -> std::optional<std::string> {
    if (name == "OUT") return "side";
    return std::nullopt;
  };
  const auto raw = [&](std::string_view text) {
    return show_env(parse_docker_env(text, "f", lookup));
  };
  const auto dotenv = [&](std::string_view text) {
    return show_env(parse_dotenv(text, "f", lookup));
  };
  EXPECT_EQ(raw("\xEF\xBB\xBF"
                "A=1\r\n# c\n\n  B= two words # kept\nOUT\nNONE\nC='q'"),
            "A=1|B= two words # kept|OUT=side|C='q'|");
  EXPECT_EQ(raw("=1"), "error: f:1: no variable name on line '=1'");
  EXPECT_EQ(raw("A=1\nB C=1"), "error: f:2: variable 'B C' contains whitespaces");
  EXPECT_EQ(
      dotenv("A = 1 \nexport B=two words # note\nC='$A'\nD=\"$A\\t\\$A\"\nE=${X:-d}\nF=\nOUT"),
      "A=1|B=two words|C=$A|D=1\t$A|E=d|F=|OUT=side|");
  EXPECT_EQ(dotenv("A=\"1\n2\"\nB='3\n4'\nC=a#b"), "A=1\n2|B=3\n4|C=a#b|");
  EXPECT_EQ(dotenv("A=#1\nB= # none\nC='it\\'s # $A'#\nD='\\n'\nE=1 #"),
            "A=#1|B=|C=it's # $A|D=\\n|E=1|");
  EXPECT_EQ(dotenv("A=1\nB='x"), "error: f:2: unterminated quoted value");
  EXPECT_EQ(dotenv("A B=1\n\"C\"=1"), "error: f:1: unexpected character in variable name \"A B\"");
  EXPECT_EQ(dotenv("A=${"), "error: f:1: \"${\"; you may need to escape any $ with another $");
}

}  // namespace
}  // namespace muster::deploy::compose
