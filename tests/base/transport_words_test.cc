#include "base/transport_words.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(TransportWords, SayWhatHappenedAndNothingOfGrpc) {
  const std::pair<const char*, const char*> cases[] = {
      {"failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.9:2377: tcp "
       "handshaker "
       "shutdown",
       "no answer in time"},
      {"failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.9:2377: Failed to "
       "connect to remote host: Connection refused",
       "connection refused: no manager listens there"},
      {"failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.9:2377: Failed to "
       "connect to remote host: No route to host",
       "no route to host"},
      {"Deadline Exceeded", "no answer in time"},
      {"DNS resolution failed for m1:2377: UNAVAILABLE: getaddrinfo: Name or service not known",
       "the name cannot be resolved"},
      {"failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:2377: Ssl handshake "
       "failed: SSL_ERROR_SSL: error:0A000086:SSL routines::certificate verify failed",
       "its certificate is not one of this swarm's, or has expired (the clocks of this host and of "
       "the manager may differ)"},
      {"Socket closed", "the connection was closed by the other side"},
  };
  for (const auto& [grpc, words] : cases) EXPECT_EQ(transport_words(grpc), words);
}

TEST(TransportWords, WhatOurOwnChecksSayStays) {
  EXPECT_EQ(
      transport_words("failed to connect to all addresses; last error: UNKNOWN: Custom "
                      "verification check failed with error: UNAUTHENTICATED: node w2 answers "
                      "there, which is not a manager"),
      "UNKNOWN: Custom verification check failed with error: UNAUTHENTICATED: node w2 answers "
      "there, which is not a manager");
  EXPECT_EQ(transport_words(""), "");
}

}  // namespace
}  // namespace muster
