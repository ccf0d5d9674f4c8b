#include "agent/images/registry.h"

#include <gtest/gtest.h>

namespace muster::agent {
namespace {

Status explain(const std::string& message) {
  const auto image = parse_reference("r.example:5000/web:2");
  return explain_registry_failure(
      "time=\"2024-01-01T00:00:00Z\" level=warning msg=\"something else\"\n"
      "time=\"2024-01-01T00:00:00Z\" level=fatal msg=\"" +
          message + "\"\n",
      *image, image->registry);
}

TEST(RegistryFailures, AreSaidInWordsThatUsersKnow) {
  struct Case {
    std::string message;
    StatusCode code;
    std::string text;
  };
  const Case cases[] = {
      {"Error parsing manifest: reading manifest 2 in r.example:5000/web: manifest unknown: x",
       StatusCode::kNotFound, "manifest for r.example:5000/web:2 not found: manifest unknown"},
      {"reading manifest 2: name unknown: repository name not known to registry",
       StatusCode::kNotFound,
       "pull access denied for r.example:5000/web, repository does not exist"},
      {"unable to retrieve auth token: invalid username/password: unauthorized: no",
       StatusCode::kPermissionDenied, "may require 'docker login': unable to retrieve auth token"},
      {"pinging container registry r.example:5000: Get \\\"https://r.example:5000/v2/\\\": dial "
       "tcp "
       "10.0.0.1:5000: connect: connection refused",
       StatusCode::kUnavailable, "connection refused to registry r.example:5000"},
      {"Get \\\"https://r.example:5000/v2/\\\": dial tcp: lookup r.example: no such host",
       StatusCode::kUnavailable, "cannot find registry r.example:5000: lookup r.example"},
      {"Get \\\"https://r.example:5000/v2/\\\": http: server gave HTTP response to HTTPS client",
       StatusCode::kUnavailable, "add it to insecure-registries"},
      {"Get: x509: certificate signed by unknown authority", StatusCode::kUnavailable,
       "registry r.example:5000 cannot be trusted: x509"},
      {"toomanyrequests: You have reached your pull rate limit", StatusCode::kUnavailable,
       "limits the rate of pulls"},
      {"received unexpected HTTP status: 503 Service Unavailable", StatusCode::kUnavailable,
       "cannot be reached"},
      {"writing blob: write /x: no space left on device", StatusCode::kResourceExhausted,
       "no space left on device while pulling r.example:5000/web:2"},
      {"writing blob: Digest did not match, expected sha256:50, got sha256:51",
       StatusCode::kDataLoss, "is damaged: Digest did not match"},
      // Not every number is an HTTP status.
      {"something new about sha256:ab502cd503", StatusCode::kInternal,
       "cannot pull r.example:5000/web:2: something new about sha256:ab502cd503"},
      {"", StatusCode::kInternal, "skopeo failed without a message"},
  };
  for (const Case& c : cases) {
    const Status status = explain(c.message);
    EXPECT_EQ(status.code(), c.code) << status.message();
    EXPECT_NE(status.message().find(c.text), std::string::npos) << status.message();
  }
}

TEST(Registry, MirrorsComeFirstAndOnlyForTheirRegistry) {
  ImageStoreOptions options;
  options.mirrors = {{"docker.io", {"https://m.example/hub/", "http://10.0.0.1:5000"}}};
  const Registry registry(options);
  const auto hub = registry.endpoints(*parse_reference("busybox"));
  ASSERT_EQ(hub.size(), 3U);
  EXPECT_EQ(hub[0].name, "m.example/hub/library/busybox");
  EXPECT_EQ(hub[0].host(), "m.example");
  EXPECT_FALSE(hub[0].insecure);
  EXPECT_EQ(hub[1].name, "10.0.0.1:5000/library/busybox");
  EXPECT_TRUE(hub[1].insecure);
  EXPECT_EQ(hub[2].name, "docker.io/library/busybox");
  EXPECT_EQ(registry.endpoints(*parse_reference("h.x/a")).size(), 1U);
}

TEST(Registry, LoopbackAndListedRegistriesNeedNoCertificate) {
  const std::vector<std::string> listed = {"a.example:5000", "b.example", "10.1.0.0/16"};
  for (const char* registry : {"127.0.0.1:5000", "127.9.9.9", "localhost:80", "[::1]:5000",
                               "a.example:5000", "b.example:1", "10.1.2.3:5000"}) {
    EXPECT_TRUE(is_insecure_registry(registry, listed)) << registry;
  }
  for (const char* registry : {"a.example", "a.example:5001", "c.example", "10.2.0.1", "docker.io",
                               "127.0.0.1.example", "localhost.example"}) {
    EXPECT_FALSE(is_insecure_registry(registry, listed)) << registry;
  }
}

}  // namespace
}  // namespace muster::agent
