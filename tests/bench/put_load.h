#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::bench {

// How to reach one server.
struct PutTarget {
  std::string address;  // host:port
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  grpc::ChannelArguments arguments;
};

struct PutLoad {
  int clients = 1;  // each has one write under way at any time
  size_t value_bytes = 256;
  Duration warm_up = 1s;
  Duration measured = 5s;
};

struct PutFigures {
  double per_s = 0;
  uint64_t writes = 0;
  Duration elapsed{0};
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
  double client_cores = 0;  // of this process, meanwhile
};

// Writes 10,000 keys over and over, and measures. `measuring` is called when the warm-up is over
// and again when the time is: for looking at the servers' processor time. Any write that fails ends
// it with an error.
Result<PutFigures> run_put_load(const PutTarget& target, const PutLoad& load,
                                const std::function<void()>& measuring);

struct MemberStatus {
  uint64_t member = 0;
  uint64_t leader = 0;  // 0 = none
};
Result<MemberStatus> ask_status(const PutTarget& target, Duration timeout);

}  // namespace muster::bench
