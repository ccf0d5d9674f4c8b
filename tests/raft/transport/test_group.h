#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/security/tls/credentials.h"
#include "base/security/tls_identity.h"
#include "raft/transport/grpc/grpc_transport.h"
#include "tests/raft/issuer.h"
#include "tests/raft/transport/tcp_proxy.h"

namespace muster::raft {

// How long anything may take before a test gives up.
constexpr auto kPatience = std::chrono::seconds(120);

// What a member wrote to its log, by lines.
class LogLines final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  size_t with(const std::string& text) {
    std::lock_guard lock(mutex_);
    return count(text);
  }
  // Waits until so many lines have the text.
  testing::AssertionResult eventually(const std::string& text, size_t lines) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return count(text) >= lines; })
               ? testing::AssertionSuccess()
               : testing::AssertionFailure() << count(text) << " lines have \"" << text << '"';
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    lines_.emplace_back(message.payload.data(), message.payload.size());
    changed_.notify_all();
  }
  void flush_() override {}

 private:
  size_t count(const std::string& text) const {
    return static_cast<size_t>(
        std::count_if(lines_.begin(), lines_.end(),
                      [&](const std::string& l) { return l.find(text) != std::string::npos; }));
  }

  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

// One member in this process: a server of its own on a port of the kernel's choice, a transport,
// and everything the transport told.
class TestMember final : public TransportEvents {
 public:
  struct Settings {
    std::string node_id;
    std::string cluster;       // of hellos; empty: the issuer's
    std::string certified_as;  // empty: node_id
    security::CertificateRole role = security::CertificateRole::kManager;
    std::function<void(GrpcTransportOptions&)> tune;
  };

  TestMember(const Issuer& issuer, uint64_t id, Settings settings)
      : id_{id}, issuer_(issuer), settings_(std::move(settings)) {
    if (settings_.cluster.empty()) settings_.cluster = issuer.cluster();
    if (settings_.certified_as.empty()) settings_.certified_as = settings_.node_id;
    calls_as_ =
        *security::TlsIdentity::create(issuer_.issue(settings_.certified_as, settings_.role));
    start_server();
    proxy_ = std::make_unique<TcpProxy>(port_);
    GrpcTransportOptions options;
    options.cluster_id = settings_.cluster;
    options.self = id_;
    options.address = address();
    // Nobody refuses a connection here by being slow, and what waited for one is lost with it.
    options.connect_first = options.connect_max = kPatience;
    options.goodbye_max = std::chrono::seconds(20);
    options.removed = [this](MemberId other) {
      std::lock_guard lock(mutex_);
      return std::find(removed_ids.begin(), removed_ids.end(), other) != removed_ids.end();
    };
    options.node_removed = [this](const std::string& node_id) {
      std::lock_guard lock(mutex_);
      return std::find(removed_nodes.begin(), removed_nodes.end(), node_id) != removed_nodes.end();
    };
    if (settings_.tune) settings_.tune(options);
    auto logger = std::make_shared<spdlog::logger>("raft", log);
    logger->set_level(spdlog::level::debug);
    transport = std::make_unique<GrpcTransport>(
        std::move(options),
        [this](const std::string& to, const std::string& node_id, Duration connect_max) {
          {
            std::lock_guard lock(mutex_);
            ++dials[to];
            ++attempts[connect_max];
            changed_.notify_all();
          }
          return channel(to, node_id, connect_max);
        },
        *this, logger);
    std::lock_guard lock(mutex_);
    inbound_ = transport->inbound();
  }

  ~TestMember() override {
    {
      std::lock_guard lock(mutex_);
      held_ = {};
      changed_.notify_all();
    }
    transport->stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  MemberId id() const { return id_; }
  std::string address() const { return proxy_->address(); }
  TcpProxy& link() { return *proxy_; }
  uint16_t port() const { return port_; }
  Member member() const { return {id_, settings_.node_id, address(), true, false}; }

  // New connections are made with a new certificate.
  void rotate_certificate() {
    ASSERT_TRUE(calls_as_->replace(issuer_.issue(settings_.certified_as, settings_.role)).ok());
  }
  std::shared_ptr<grpc::Channel> channel(const std::string& to, const std::string& node_id = {},
                                         Duration connect_max = kPatience) {
    grpc::ChannelArguments arguments = security::manager_channel_arguments(connect_max);
    // Well within kPatience, and long for a loaded machine: a link that is given up loses messages.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 1000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 4000);
    return grpc::CreateCustomChannel(
        to, security::channel_credentials(calls_as_->current()->credentials, node_id), arguments);
  }
  std::shared_ptr<Inbound> inbound() const { return transport->inbound(); }

  // ---- what was told

  // Waits until `what` is true of what was told; called with the lock held.
  testing::AssertionResult eventually(const std::function<bool()>& what) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, what) ? testing::AssertionSuccess()
                                                    : testing::AssertionFailure() << "not in time";
  }
  bool wait_some(std::unique_lock<std::mutex>& lock, const std::function<bool()>& what) {
    return changed_.wait_for(lock, std::chrono::milliseconds(100), what);
  }
  testing::AssertionResult hears(const Message& message) {
    return eventually([&] { return std::count(messages.begin(), messages.end(), message) > 0; });
  }
  template <class F>
  auto locked(F f) {
    std::lock_guard lock(mutex_);
    return f();
  }
  // Messages for which `which` is true are not returned from, until release().
  void hold(std::function<bool(const Message&)> which) {
    std::lock_guard lock(mutex_);
    held_ = std::move(which);
  }
  void release() {
    std::lock_guard lock(mutex_);
    held_ = {};
    changed_.notify_all();
  }

  void received(Message message) override {
    std::unique_lock lock(mutex_);
    messages.push_back(message);
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_ || !held_(message); });
  }
  void unreachable(MemberId peer) override { tell(unreachables, peer); }
  void vanished(MemberId peer) override { tell(vanishes, peer); }
  void said_goodbye(MemberId peer) override { tell(goodbyes, peer); }
  void removed(MemberId) override {
    std::lock_guard lock(mutex_);
    ++removals;
    changed_.notify_all();
  }
  Result<std::unique_ptr<SnapshotWriter>> snapshot_arrives(const Message& announcement) override {
    return on_snapshot(announcement);
  }
  void snapshot_sent(MemberId to, const Status& status) override {
    std::lock_guard lock(mutex_);
    sent.emplace_back(to, status);
    changed_.notify_all();
  }

  std::vector<Message> messages;
  std::map<MemberId, int> unreachables, vanishes, goodbyes;
  int removals = 0;
  std::vector<std::pair<MemberId, Status>> sent;
  std::map<std::string, int> dials;  // by address
  std::map<Duration, int> attempts;  // by how long one might take
  std::vector<MemberId> removed_ids;
  std::vector<std::string> removed_nodes;
  std::function<Result<std::unique_ptr<SnapshotWriter>>(const Message&)> on_snapshot =
      [](const Message&) -> Result<std::unique_ptr<SnapshotWriter>> {
    return fail(StatusCode::kUnimplemented, "no snapshots here");
  };
  std::shared_ptr<LogLines> log = std::make_shared<LogLines>();
  std::unique_ptr<GrpcTransport> transport;

  void send(Message message) {
    transport->send(std::move(message));
    transport->flush();
  }

  std::mutex& mutex() { return mutex_; }
  void notify() { changed_.notify_all(); }

 private:
  void tell(std::map<MemberId, int>& where, MemberId peer) {
    std::lock_guard lock(mutex_);
    ++where[peer];
    changed_.notify_all();
  }

  void start_server() {
    service_ = make_raft_service(
        [this] {
          std::lock_guard lock(mutex_);
          return inbound_;
        },
        [](const grpc::ServerContextBase& context) { return security::principal_of_tls(context); });
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0",
                             security::server_credentials(
                                 *security::TlsIdentity::create(issuer_.issue(settings_.node_id))),
                             &port);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    port_ = static_cast<uint16_t>(port);
  }

  const MemberId id_;
  const Issuer& issuer_;
  Settings settings_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<bool(const Message&)> held_;
  std::shared_ptr<Inbound> inbound_;
  std::shared_ptr<security::TlsIdentity> calls_as_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  uint16_t port_ = 0;
  std::unique_ptr<TcpProxy> proxy_;
};

inline Members members_of(std::initializer_list<const TestMember*> list) {
  Members members;
  for (const TestMember* member : list) members.put(member->member());
  return members;
}

inline Message heartbeat(const TestMember& from, const TestMember& to, uint64_t round = 1) {
  Message m;
  m.kind = MessageKind::kHeartbeat;
  m.from = from.id();
  m.to = to.id();
  m.term = 1;
  m.read_round = round;
  return m;
}

inline Message append(const TestMember& from, const TestMember& to, Index index,
                      size_t bytes = 10) {
  Message m;
  m.kind = MessageKind::kAppend;
  m.from = from.id();
  m.to = to.id();
  m.term = 1;
  m.prev_index = index - 1;
  m.prev_term = index == 1 ? 0 : 1;
  m.entries = {{index, 1, EntryKind::kData,
                std::make_shared<const std::string>(bytes, static_cast<char>('a' + index % 26))}};
  return m;
}

// Two members, 1 and 2, that know each other.
struct Pair {
  explicit Pair(const std::function<void(GrpcTransportOptions&)>& tune = {})
      : a(issuer, 1, {.node_id = "n1", .tune = tune}),
        b(issuer, 2, {.node_id = "n2", .tune = tune}) {
    a.transport->set_members(members_of({&a, &b}));
    b.transport->set_members(members_of({&a, &b}));
  }
  // Both lanes both ways are in use.
  testing::AssertionResult connect() {
    const uint64_t round = ++round_ + 1000;
    for (auto [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
      const Message beat = heartbeat(*from, *to, round);
      Message reply = beat;
      reply.kind = MessageKind::kAppendReply;
      // Lost ones are sent again, as the protocol would.
      for (int tries = 0; tries < 200; ++tries) {
        from->send(beat);
        from->send(reply);
        std::unique_lock lock(to->mutex());
        if (to->wait_some(lock, [&] {
              return std::count(to->messages.begin(), to->messages.end(), beat) > 0 &&
                     std::count(to->messages.begin(), to->messages.end(), reply) > 0;
            })) {
          break;
        }
        if (tries == 199) return testing::AssertionFailure() << "no connection";
      }
    }
    return testing::AssertionSuccess();
  }

  Issuer issuer;
  TestMember a;
  TestMember b;
  uint64_t round_ = 0;
};

}  // namespace muster::raft
