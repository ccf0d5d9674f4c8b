#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "deploy/cli/endpoint.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/local.pb.h"

namespace muster::deploy::cli {

// A server's stream of messages, read by a thread of its own so that the command can wait for
// messages, keys, signals and time together: poll fd() for reading, then pop() until it says no.
// At most 1024 messages wait unread. The destructor cancels the call.
template <class T>
class Stream {
 public:
  virtual ~Stream() = default;
  virtual int fd() const = 0;
  // Takes the next message; false when there is none now.
  virtual bool pop(T* message) = 0;
  // True once the server has ended the stream and every message was taken.
  virtual bool ended() = 0;
  // Why it ended; only after ended().
  virtual Status status() = 0;
};

class ExecStream : public Stream<v1::ExecOutput> {
 public:
  // Never waits. What cannot be sent any more is dropped: the end of the stream tells why.
  virtual void write(v1::ExecInput message) = 0;
  // False while enough messages wait to be sent, and when nothing can be. fd() becomes readable
  // when that changes.
  virtual bool wants_input() = 0;
};

// Every unary method of both services.
// The formatter never settles on these lines.
// clang-format off
#define MUSTER_CLI_CONTROL_CALLS(X)                                                           \
  X(InitSwarm)                                                                                \
  X(JoinSwarm)                                                                                \
  X(LeaveSwarm)                                                                               \
  X(UnlockSwarm)                                                                              \
  X(GetUnlockKey)                                                                             \
  X(IssueClientCertificate)                                                                   \
  X(GetCluster)                                                                               \
  X(UpdateCluster)                                                                            \
  X(GetInfo) X(CreateService) X(UpdateService) X(RemoveService) X(GetService) X(ListServices) \
      X(ExplainService) X(GetTask) X(ListTasks) X(GetNode) X(ListNodes) X(UpdateNode) X(RemoveNode) X(CreateNetwork)          \
          X(RemoveNetwork) X(GetNetwork) X(ListNetworks)                                      \
  X(UpdateNetwork) X(ConnectNetwork) X(DisconnectNetwork)                                     \
  X(CreateSecret)                                                                             \
  X(UpdateSecret)                                                                             \
  X(RemoveSecret)                                                                             \
  X(GetSecret)                                                                                \
  X(ListSecrets)                                                                              \
  X(CreateConfig) X(UpdateConfig) X(RemoveConfig) X(GetConfig) X(ListConfigs)
// clang-format on
#define MUSTER_CLI_LOCAL_CALLS(X) \
  X(ListContainers)               \
  X(ListImages)                   \
  X(RemoveImage) X(PruneImages) X(ListVolumes) X(CreateVolume) X(RemoveVolume) X(PruneVolumes)

// The two services (over a manager's port Control alone) behind one connection, which is made by
// the first call. Calls have a deadline of 60 s; streams have none. Errors keep the server's code,
// message and reason; a server that cannot be reached is UNAVAILABLE with a hint.
class Client {
 public:
  virtual ~Client() = default;

#define MUSTER_CLI_DECLARE(Name) \
  virtual Result<v1::Name##Response> call(const v1::Name##Request& request) = 0;
  MUSTER_CLI_CONTROL_CALLS(MUSTER_CLI_DECLARE)
  MUSTER_CLI_LOCAL_CALLS(MUSTER_CLI_DECLARE)
#undef MUSTER_CLI_DECLARE

  virtual std::unique_ptr<Stream<v1::WatchResponse>> watch(const v1::WatchRequest& request) = 0;
  virtual std::unique_ptr<Stream<v1::ServiceLogsResponse>> service_logs(
      const v1::ServiceLogsRequest& request) = 0;
  virtual std::unique_ptr<Stream<v1::ExamineNetworksResponse>> examine_networks(
      const v1::ExamineNetworksRequest& request) = 0;
  virtual std::unique_ptr<Stream<v1::LogsResponse>> logs(const v1::LogsRequest& request) = 0;
  virtual std::unique_ptr<Stream<v1::StatsResponse>> stats(const v1::StatsRequest& request) = 0;
  virtual std::unique_ptr<Stream<v1::PullProgress>> pull(const v1::PullImageRequest& request) = 0;
  virtual std::unique_ptr<ExecStream> exec() = 0;
  virtual std::unique_ptr<Stream<v1::BackupSwarmResponse>> backup(
      const v1::BackupSwarmRequest& request) = 0;
  // `first` without a chunk; `read` as for load().
  virtual Result<v1::RestoreSwarmResponse> restore(
      const v1::RestoreSwarmRequest& first, const std::function<Result<std::string>()>& read) = 0;
  // `read` fills in the next piece of the archive; empty = the end.
  virtual Result<v1::LoadImageResponse> load(const std::function<Result<std::string>()>& read) = 0;
};

std::unique_ptr<Client> connect(const Endpoint& endpoint);

}  // namespace muster::deploy::cli
