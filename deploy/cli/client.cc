#include "deploy/cli/client.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "base/rng.h"
#include "base/security/tls/credentials.h"
#include "base/unique_fd.h"
#include "deploy/cli/leader_watch.h"
#include "deploy/cli/repeat.h"
#include "muster/v1/control.grpc.pb.h"
#include "muster/v1/local.grpc.pb.h"

namespace muster::deploy::cli {
namespace {

constexpr auto kCallDeadline = std::chrono::seconds(60);
// How long a change without an answer waits for musterd to come back.
constexpr auto kBackDeadline = std::chrono::seconds(5);
// A manager that says after this that it cannot know the outcome has looked for another leader.
constexpr auto kManagerWaits = std::chrono::seconds(3);
constexpr size_t kUnreadMessagesMax = 1024;
constexpr size_t kUnsentMessagesMax = 8;
constexpr int kMessageBytesMax = 64 << 20;  // lists of many tasks
constexpr std::string_view kTcpScheme = "tcp://";
// A musterd on this host that does not take a connection in this time is stopped or wedged.
constexpr int kLocalConnectMs = 4'000;

std::string socket_path(const std::string& address) {
  constexpr std::string_view kScheme = "unix://";
  if (address.starts_with(kScheme)) return address.substr(kScheme.size());
  return address;
}

// Whether a process has the socket: then it is there, and what is wrong is that it does not answer.
bool somebody_listens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return true;
  return errno == EAGAIN;  // its queue is full
}

Status unreachable(const std::string& path) {
  if (path.starts_with("tcp://")) {
    return unavailable(
        "Cannot connect to musterd at {}. Is a manager's port there, and are the certificates of "
        "its "
        "swarm?",
        path);
  }
  if (access(path.c_str(), R_OK | W_OK) != 0 && errno == EACCES) {
    return permission_denied(
        "permission denied on unix://{}: run as root or join the group that owns the socket", path);
  }
  if (somebody_listens(path)) {
    return unavailable(
        "musterd at unix://{} does not answer: its process is there, but stopped, or too busy",
        path);
  }
  return unavailable("Cannot connect to musterd at unix://{}. Is musterd running?", path);
}

Status to_status(const grpc::Status& status, const grpc::ClientContext& context,
                 const std::string& path) {
  if (status.ok()) return ok_status();
  const auto& trailers = context.GetServerTrailingMetadata();
  std::string reason;
  if (const auto it = trailers.find("muster-reason"); it != trailers.end())
    reason.assign(it->second.data(), it->second.size());
  // gRPC's own words for a missing socket say nothing a user can act on.
  const std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && reason.empty()) {
    for (const char* sign :
         {"failed to connect", "No such file", "Connection refused", "Permission denied",
          "connections to all backends failing", "Handshake", "handshake", "DNS resolution failed"})
      if (message.find(sign) != std::string::npos) return unreachable(path);
    if (message == "Socket closed" || message == "Connection reset by peer")
      return Status(StatusCode::kUnavailable, "musterd closed the connection", "connection-lost");
  }
  return Status(static_cast<StatusCode>(status.error_code()),
                message.empty()
                    ? std::string(to_string(static_cast<StatusCode>(status.error_code())))
                    : message,
                reason);
}

// The queue between a reading thread and the command.
template <class T>
class Inbox {
 public:
  Inbox() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  int fd() const { return event_.get(); }
  void push(T message) {
    std::unique_lock lock(mutex_);
    space_.wait(lock, [&] { return messages_.size() < kUnreadMessagesMax || closed_; });
    messages_.push_back(std::move(message));
    signal();
  }
  void finish(Status status) {
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);
    finished_ = true;
    signal();
  }
  // Makes fd() readable although no message came.
  void wake() {
    const std::lock_guard lock(mutex_);
    signal();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    space_.notify_all();
  }
  bool pop(T* message) {
    const std::lock_guard lock(mutex_);
    if (messages_.empty()) {
      uint64_t count = 0;
      // Kept readable once the stream has ended, so that no poll misses it.
      if (!finished_ && ::read(event_.get(), &count, sizeof count) < 0) return false;
      return false;
    }
    *message = std::move(messages_.front());
    messages_.pop_front();
    space_.notify_one();
    return true;
  }
  bool ended() {
    const std::lock_guard lock(mutex_);
    return finished_ && messages_.empty();
  }
  Status status() {
    const std::lock_guard lock(mutex_);
    return status_;
  }

 private:
  void signal() {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then it is readable anyway.
    if (::write(event_.get(), &one, sizeof one) < 0) return;
  }

  UniqueFd event_;
  std::mutex mutex_;
  std::condition_variable space_;
  std::deque<T> messages_;
  bool finished_ = false;
  bool closed_ = false;
  Status status_;
};

template <class T, class Start>
class ReadStream final : public Stream<T> {
 public:
  ReadStream(std::string path, Start start)
      : thread_([this, path = std::move(path), start = std::move(start)] {
          auto reader = start(&context_);
          T message;
          while (reader->Read(&message)) inbox_.push(std::move(message));
          const grpc::Status status = reader->Finish();
          inbox_.finish(to_status(status, context_, path));
        }) {}
  ~ReadStream() override {
    context_.TryCancel();
    inbox_.close();
    thread_.join();
  }
  int fd() const override { return inbox_.fd(); }
  bool pop(T* message) override { return inbox_.pop(message); }
  bool ended() override { return inbox_.ended(); }
  Status status() override { return inbox_.status(); }

 private:
  grpc::ClientContext context_;
  Inbox<T> inbox_;
  std::thread thread_;
};

template <class T, class Start>
std::unique_ptr<Stream<T>> read_stream(const std::string& path, Start start) {
  return std::make_unique<ReadStream<T, Start>>(path, std::move(start));
}

// Sends on a thread of its own: a command that is slow to read must not keep the caller from taking
// the command's output, or both would wait for one another.
class GrpcExec final : public ExecStream {
 public:
  GrpcExec(v1::Local::Stub& stub, std::string path) : path_(std::move(path)) {
    call_ = stub.Exec(&context_);
    reader_ = std::thread([this] {
      v1::ExecOutput message;
      while (call_->Read(&message)) inbox_.push(std::move(message));
      const grpc::Status status = call_->Finish();
      inbox_.finish(to_status(status, context_, path_));
    });
    writer_ = std::thread([this] { send_all(); });
  }
  ~GrpcExec() override {
    context_.TryCancel();
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
      more_.notify_all();
    }
    inbox_.close();
    writer_.join();
    reader_.join();
  }
  int fd() const override { return inbox_.fd(); }
  bool pop(v1::ExecOutput* message) override { return inbox_.pop(message); }
  bool ended() override { return inbox_.ended(); }
  Status status() override { return inbox_.status(); }
  void write(v1::ExecInput message) override {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    unsent_.push_back(std::move(message));
    more_.notify_all();
  }
  bool wants_input() override {
    const std::lock_guard lock(mutex_);
    return !over_ && unsent_.size() < kUnsentMessagesMax;
  }

 private:
  void send_all() {
    for (;;) {
      v1::ExecInput message;
      {
        std::unique_lock lock(mutex_);
        more_.wait(lock, [this] { return over_ || !unsent_.empty(); });
        if (over_) return;
        message = std::move(unsent_.front());
        unsent_.pop_front();
      }
      const bool sent = call_->Write(message);
      inbox_.wake();  // there is room for more
      if (sent) continue;
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
  }

  std::string path_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ExecInput, v1::ExecOutput>> call_;
  Inbox<v1::ExecOutput> inbox_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<v1::ExecInput> unsent_;
  bool over_ = false;  // nothing can be sent any more
  std::thread reader_;
  std::thread writer_;
};

// A unary call in the shape of a stream's reader.
struct OneInfo {
  v1::Control::Stub& stub;
  grpc::ClientContext* context;
  bool asked = false;
  grpc::Status status;

  bool Read(v1::GetInfoResponse* response) {
    if (std::exchange(asked, true)) return false;
    status = stub.GetInfo(context, {}, response);
    return status.ok();
  }
  grpc::Status Finish() { return status; }
};

class GrpcClient final : public Client, public InfoSource {
 public:
  // `path`: of the socket, or with `credentials` "tcp://host:port".
  explicit GrpcClient(std::string path,
                      std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr)
      : path_(std::move(path)) {
    const bool remote = credentials != nullptr;
    grpc::ChannelArguments arguments =
        remote ? security::manager_channel_arguments() : grpc::ChannelArguments();
    arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // A musterd that is restarted is back soon.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    if (!remote) arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kLocalConnectMs);
    channel_ = grpc::CreateCustomChannel(
        remote ? path_.substr(kTcpScheme.size()) : "unix://" + path_,
        remote ? credentials : grpc::InsecureChannelCredentials(), arguments);
    control_ = v1::Control::NewStub(channel_);
    local_ = v1::Local::NewStub(channel_);
  }

#define MUSTER_CLI_DEFINE(stub, Name)                                                             \
  Result<v1::Name##Response> call(const v1::Name##Request& given) override {                      \
    const auto once = [&](const v1::Name##Request& request) {                                     \
      return send<v1::Name##Response>(                                                            \
          [&](auto* context, auto* response) { return stub->Name(context, request, response); }); \
    };                                                                                            \
    return with_repetition<v1::Name##Response>(given, once);                                      \
  }
#define MUSTER_CLI_CONTROL(Name) MUSTER_CLI_DEFINE(control_, Name)
#define MUSTER_CLI_LOCAL(Name) MUSTER_CLI_DEFINE(local_, Name)
  MUSTER_CLI_CONTROL_CALLS(MUSTER_CLI_CONTROL)
  MUSTER_CLI_LOCAL_CALLS(MUSTER_CLI_LOCAL)

  std::unique_ptr<Stream<v1::WatchResponse>> watch(const v1::WatchRequest& request) override {
    return read_stream<v1::WatchResponse>(
        path_, [this, request](auto* context) { return control_->Watch(context, request); });
  }
  std::unique_ptr<Stream<v1::ServiceLogsResponse>> service_logs(
      const v1::ServiceLogsRequest& request) override {
    return read_stream<v1::ServiceLogsResponse>(
        path_, [this, request](auto* context) { return control_->ServiceLogs(context, request); });
  }
  std::unique_ptr<Stream<v1::ExamineNetworksResponse>> examine_networks(
      const v1::ExamineNetworksRequest& request) override {
    return read_stream<v1::ExamineNetworksResponse>(path_, [this, request](auto* context) {
      return control_->ExamineNetworks(context, request);
    });
  }
  std::unique_ptr<Stream<v1::LogsResponse>> logs(const v1::LogsRequest& request) override {
    return read_stream<v1::LogsResponse>(
        path_, [this, request](auto* context) { return local_->Logs(context, request); });
  }
  std::unique_ptr<Stream<v1::StatsResponse>> stats(const v1::StatsRequest& request) override {
    return read_stream<v1::StatsResponse>(
        path_, [this, request](auto* context) { return local_->Stats(context, request); });
  }
  std::unique_ptr<Stream<v1::PullProgress>> pull(const v1::PullImageRequest& request) override {
    return read_stream<v1::PullProgress>(
        path_, [this, request](auto* context) { return local_->PullImage(context, request); });
  }
  std::unique_ptr<ExecStream> exec() override {
    return std::make_unique<GrpcExec>(*local_, path_);
  }

  std::unique_ptr<Stream<v1::GetInfoResponse>> ask() override {
    return read_stream<v1::GetInfoResponse>(path_, [this](auto* context) {
      return std::make_unique<OneInfo>(OneInfo{*control_, context, false, {}});
    });
  }

  std::unique_ptr<Stream<v1::BackupSwarmResponse>> backup(
      const v1::BackupSwarmRequest& request) override {
    return read_stream<v1::BackupSwarmResponse>(
        path_, [this, request](auto* context) { return control_->BackupSwarm(context, request); });
  }
  Result<v1::RestoreSwarmResponse> restore(
      const v1::RestoreSwarmRequest& first,
      const std::function<Result<std::string>()>& read) override {
    grpc::ClientContext context;
    v1::RestoreSwarmResponse response;
    auto writer = control_->RestoreSwarm(&context, &response);
    v1::RestoreSwarmRequest request = first;
    while (writer->Write(request)) {
      Result<std::string> piece = read();
      if (!piece) {
        context.TryCancel();
        (void)writer->Finish();
        return fail(piece.error());
      }
      if (piece->empty()) break;
      request.Clear();
      request.set_chunk(*piece);
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    MUSTER_TRY(to_status(status, context, path_));
    return response;
  }
  Result<v1::LoadImageResponse> load(const std::function<Result<std::string>()>& read) override {
    grpc::ClientContext context;
    v1::LoadImageResponse response;
    auto writer = local_->LoadImage(&context, &response);
    for (;;) {
      Result<std::string> piece = read();
      if (!piece) {
        context.TryCancel();
        (void)writer->Finish();
        return fail(piece.error());
      }
      v1::LoadImageRequest request;
      request.set_data(*piece);
      if (piece->empty() || !writer->Write(request)) break;
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    MUSTER_TRY(to_status(status, context, path_));
    return response;
  }

 private:
  template <class Response, class Method>
  Result<Response> send(Method method) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallDeadline);
    Response response;
    const grpc::Status status = method(&context, &response);
    MUSTER_TRY(to_status(status, context, path_));
    return response;
  }
  template <class Response, class Request, class Once>
  Result<Response> with_repetition(const Request& given, const Once& once) {
    if constexpr (Repeatable<Request>) {
      Request request = given;
      if (request.request_id().empty()) {
        SystemRng rng;
        request.set_request_id(rng.id());
      }
      using Clock = std::chrono::system_clock;
      const auto began = Clock::now();
      std::optional<Clock::time_point> until;  // from the first loss on
      const auto back = [&](const Status& why) {
        const auto now = Clock::now();
        // The manager has waited for a leader, and tried again, as long as it makes sense.
        if (why.reason() == "outcome-unknown" && now - began >= kManagerWaits) return false;
        if (!until) until = now + kBackDeadline;
        return now < *until && channel_->WaitForConnected(*until);
      };
      return repeat_uncertain([&] { return once(request); }, back);
    } else {
      return once(given);
    }
  }

  std::string path_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<v1::Local::Stub> local_;
};

std::unique_ptr<GrpcClient> make_client(const Endpoint& endpoint) {
  // gRPC writes of handshakes and sockets to standard error; the call's own end says it in words.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  if (!endpoint.remote()) return std::make_unique<GrpcClient>(socket_path(endpoint.address));
  security::require_tls13();
  security::NodeCredentials credentials;
  credentials.root_pem = endpoint.root_pem;
  credentials.node = {endpoint.certificate_pem, endpoint.key_pem};
  return std::make_unique<GrpcClient>(endpoint.address, security::channel_credentials(credentials));
}

}  // namespace

std::unique_ptr<Client> connect(const Endpoint& endpoint) {
  return make_client(endpoint);
}

std::unique_ptr<InfoSource> info_source(const Endpoint& endpoint) {
  return make_client(endpoint);
}

}  // namespace muster::deploy::cli
