#include "agent/images/reference.h"

#include <gtest/gtest.h>

namespace muster::agent {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, ShortNamesMeanDockerHub) {
  struct Case {
    std::string text, full, familiar;
  };
  const Case cases[] = {
      {"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"busybox:1", "docker.io/library/busybox:1", "busybox:1"},
      {"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"index.docker.io/a/b:2", "docker.io/a/b:2", "a/b:2"},
      {"a/b", "docker.io/a/b:latest", "a/b:latest"},
      {"host:5000/a/b/c:x", "host:5000/a/b/c:x", "host:5000/a/b/c:x"},
      {"localhost/a", "localhost/a:latest", "localhost/a:latest"},
      {"Registry/a", "Registry/a:latest", "Registry/a:latest"},
      {"[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"},
      {"a@" + kDigest, "docker.io/library/a@" + kDigest, "a@" + kDigest},
      {"h.x/a:t@" + kDigest, "h.x/a:t@" + kDigest, "h.x/a:t@" + kDigest},
  };
  for (const Case& c : cases) {
    const auto reference = parse_reference(c.text);
    ASSERT_TRUE(reference.has_value()) << c.text << ": " << reference.error().message();
    EXPECT_EQ(reference->full(), c.full);
    EXPECT_EQ(reference->familiar(), c.familiar);
  }
}

TEST(Reference, WhatIsNoReferenceSaysWhichRuleItBreaks) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "it is empty"},
      {"UPPER", "must be lowercase"},
      {"a:b:c", "repository name"},
      {"a:", "the tag is malformed"},
      {"a:-x", "the tag is malformed"},
      {"a:" + std::string(129, 'x'), "the tag is malformed"},
      {"a@sha256:abc", "the digest is not sha256"},
      {"a@md5:abc", "the digest is not sha256"},
      {"a@sha256:" + std::string(64, 'A'), "the digest is not sha256"},
      {std::string(64, 'a'), "image id"},
      {"a..b", "repository name"},
      {"a/../b", "repository name"},
      {"../b", "host name is malformed"},
      {"a//b", "repository name"},
      {"/a", "repository name"},
      {"host:port/a", "host name is malformed"},
      {"a b", "repository name"},
      {"-o/a", "repository name"},
      {"--option.x/a", "host name is malformed"},
      {"h.x/" + std::string(300, 'a'), "too long"},
  };
  for (const auto& [text, why] : cases) {
    const auto reference = parse_reference(text);
    ASSERT_FALSE(reference.has_value()) << text;
    EXPECT_EQ(reference.error().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(reference.error().message().find(why), std::string::npos)
        << text << ": " << reference.error().message();
  }
}

TEST(Reference, DigestsAndIds) {
  EXPECT_TRUE(is_digest(kDigest));
  EXPECT_FALSE(is_digest("sha256:../../../../etc/passwd"));
  EXPECT_FALSE(is_digest("sha512:" + std::string(64, 'a')));
  EXPECT_TRUE(looks_like_id("abcd"));
  EXPECT_FALSE(looks_like_id("abc"));
  EXPECT_FALSE(looks_like_id("abcg"));
}

}  // namespace
}  // namespace muster::agent
