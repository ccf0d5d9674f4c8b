#include "tests/bench/raft_member.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/delimited_message_util.h>
#include <grpcpp/server_builder.h>
#include <signal.h>

#include <charconv>
#include <filesystem>
#include <unordered_map>

#include "base/rng.h"
#include "base/security/tls/credentials.h"
#include "base/security/tls_identity.h"
#include "base/thread_executor.h"
#include "etcd.grpc.pb.h"
#include "raft/node/log_disk.h"
#include "raft/node/node.h"
#include "raft/node/open_log.h"
#include "raft/transport/grpc/grpc_transport.h"

namespace muster::bench {
namespace {

using raft::MemberId;

constexpr Duration kRetry = 20ms;
constexpr size_t kMembers = 3;

constexpr size_t kChunkBytes = 64 << 10;

// Keys and values. Lives on the user's strand.
class Table final : public raft::StateMachine {
 public:
  explicit Table(std::function<void()> changed) : changed_(std::move(changed)) {}

  void put(std::string_view entry) {
    etcdserverpb::PutRequest request;
    request.ParseFromArray(entry.data(), static_cast<int>(entry.size()));
    values_[request.key()] = std::move(*request.mutable_value());
  }
  uint64_t term() const { return term_; }

  Status apply(raft::Index, std::string_view payload) override {
    put(payload);
    return ok_status();
  }
  Status restore_begin() override {
    values_.clear();
    return ok_status();
  }
  Status restore_chunk(std::string_view chunk) override {
    etcdserverpb::PutRequest pair;
    google::protobuf::io::ArrayInputStream bytes(chunk.data(), static_cast<int>(chunk.size()));
    for (bool end = false; !end;) {
      if (!google::protobuf::util::ParseDelimitedFromZeroCopyStream(&pair, &bytes, &end)) break;
      values_[pair.key()] = pair.value();
    }
    return ok_status();
  }
  Status restore_end() override { return ok_status(); }
  raft::SnapshotProducer capture() override {
    return [values = values_](const raft::ChunkSink& sink) -> Status {
      std::string chunk;
      for (const auto& [key, value] : values) {
        etcdserverpb::PutRequest pair;
        pair.set_key(key);
        pair.set_value(value);
        google::protobuf::io::StringOutputStream bytes(&chunk);
        google::protobuf::util::SerializeDelimitedToZeroCopyStream(pair, &bytes);
        if (chunk.size() < kChunkBytes) continue;
        MUSTER_TRY(sink(chunk));
        chunk.clear();
      }
      return chunk.empty() ? ok_status() : sink(chunk);
    };
  }
  void lead(raft::Term term) override {
    term_ = term;
    changed_();
  }
  void end_leading() override { term_ = 0; }
  void group_changed() override { changed_(); }

 private:
  std::function<void()> changed_;
  std::unordered_map<std::string, std::string> values_;
  uint64_t term_ = 0;  // that this member leads; 0 = none
};

class Puts final : public etcdserverpb::KV::CallbackService {
 public:
  Puts(Executor& strand, raft::Node& node, Table& table)
      : strand_(strand), node_(node), table_(table) {}

  grpc::ServerUnaryReactor* Put(grpc::CallbackServerContext* context,
                                const etcdserverpb::PutRequest* request,
                                etcdserverpb::PutResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!security::principal_of_tls(*context).manager) {
      reactor->Finish({grpc::StatusCode::PERMISSION_DENIED, "a manager's certificate is needed"});
      return reactor;
    }
    strand_.post([this, reactor, response, entry = request->SerializeAsString()]() mutable {
      // The log keeps its own; this one is for the table, once it is committed.
      std::string payload = entry;
      node_.propose(
          table_.term(), std::move(payload),
          [this, reactor, response, entry = std::move(entry)](const raft::ProposeResult& result) {
            if (result.outcome != raft::Outcome::kCommitted) {
              reactor->Finish({grpc::StatusCode::UNAVAILABLE, result.why.message()});
              return;
            }
            table_.put(entry);
            response->mutable_header()->set_revision(static_cast<int64_t>(result.index));
            reactor->Finish(grpc::Status::OK);
          });
    });
    return reactor;
  }

 private:
  Executor& strand_;
  raft::Node& node_;
  Table& table_;
};

class Reports final : public etcdserverpb::Maintenance::CallbackService {
 public:
  explicit Reports(raft::Node& node) : node_(node) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const etcdserverpb::StatusRequest*,
                                   etcdserverpb::StatusResponse* response) override {
    const raft::GroupView view = node_.view();
    size_t voters = 0;
    for (const raft::MemberView& member : view.members) voters += member.member.voter ? 1 : 0;
    response->mutable_header()->set_member_id(view.self.value);
    // There is no group to measure before all of it votes.
    if (voters == kMembers) response->set_leader(view.leader.value);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  raft::Node& node_;
};

// Member 1's: takes the others in, one step after another. Lives on the user's strand.
class Gatherer {
 public:
  Gatherer(Executor& strand, std::vector<raft::Member> wanted)
      : strand_(strand), wanted_(std::move(wanted)) {}
  void use(raft::Node& node) { node_ = &node; }

  void look() {
    if (node_ == nullptr || busy_) return;
    const raft::GroupView view = node_->view();
    if (!view.leads) return;
    for (const raft::Member& member : wanted_) {
      const raft::MemberView* known = view.find(member.id);
      if (known != nullptr && known->member.voter) continue;
      busy_ = true;
      auto done = [this](const Status&) {
        // Whatever it was: what is still missing is tried again.
        strand_.after(kRetry, [this] {
          busy_ = false;
          look();
        });
      };
      if (known == nullptr) {
        node_->add_learner(member, std::move(done));
      } else {
        node_->promote(member.id, std::move(done));
      }
      return;
    }
  }

 private:
  Executor& strand_;
  const std::vector<raft::Member> wanted_;
  raft::Node* node_ = nullptr;
  bool busy_ = false;
};

Status serve(const std::filesystem::path& dir, size_t number,
             const std::vector<std::string>& addresses) {
  MUSTER_ASSIGN(const Log log, make_log("raft-member", "warn", LogFormat::kText));
  MUSTER_ASSIGN(auto credentials, security::load_credentials(dir / "tls"));
  MUSTER_ASSIGN(const auto identity, security::TlsIdentity::create(std::move(credentials)));
  const auto about = identity->current()->facts.identity;
  std::vector<raft::Member> members;
  for (size_t i = 0; i < addresses.size(); ++i)
    members.push_back(
        {MemberId{i + 1}, fmt::format("member{}", i + 1), addresses[i], false, false});
  const raft::Member self = members[number - 1];

  ThreadExecutor raft_strand("raft");
  ThreadExecutor user_strand("main-loop");
  SystemRng rng;
  raft::LogFiles files;
  files.dir = dir / "raft";
  files.log = log;
  files.identity = {about.cluster_id, about.node_id, self.id};
  MUSTER_ASSIGN(raft::OpenedLog opened, raft::open_log(std::move(files)));
  raft::LogDisk disk(std::move(opened.store));
  Gatherer gatherer(user_strand, number == 1 ? members : std::vector<raft::Member>{});
  Table table([&] { gatherer.look(); });
  raft::Node::Options options;
  options.self = self;
  options.mode = number == 1 ? raft::StartMode::kFound : raft::StartMode::kJoin;
  raft::Node node(options, {raft_strand, user_strand, disk, rng, log, table},
                  std::move(opened.restored));
  gatherer.use(node);

  raft::GrpcTransportOptions net;
  net.cluster_id = about.cluster_id;
  net.self = self.id;
  net.address = self.address;
  raft::GrpcTransport transport(
      net,
      [&](const std::string& address, const std::string& node_id, Duration connect_max) {
        return grpc::CreateCustomChannel(
            address, security::channel_credentials(identity->current()->credentials, node_id),
            security::manager_channel_arguments(connect_max));
      },
      node.transport_events(), log);
  const auto raft_service =
      raft::make_raft_service([&] { return transport.inbound(); }, security::principal_of_tls);
  Puts puts(user_strand, node, table);
  Reports reports(node);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(self.address, security::server_credentials(identity));
  builder.RegisterService(raft_service.get());
  builder.RegisterService(&puts);
  builder.RegisterService(&reports);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return unavailable("cannot listen on {}", self.address);
  user_strand.post([&] {
    const Status started = node.start(transport);
    if (started.ok()) return;
    fmt::print(stderr, "raft-member: {}\n", started.message());
    _exit(1);
  });
  // Nothing here is worth an orderly end: whoever started this kills it.
  sigset_t none;
  sigemptyset(&none);
  while (true) sigsuspend(&none);
}

}  // namespace

int raft_member_main(int argc, char** argv) {
  size_t number = 0;
  if (argc == 3 + static_cast<int>(kMembers)) {
    const std::string_view text = argv[2];
    std::from_chars(text.data(), text.data() + text.size(), number);
  }
  if (number < 1 || number > kMembers) {
    fmt::print(stderr, "usage: raft-member DIR NUMBER ADDRESS ADDRESS ADDRESS\n");
    return 2;
  }
  security::require_tls13();
  security::relax_grpc_locks();
  const Status status = serve(argv[1], number, {argv + 3, argv + argc});
  fmt::print(stderr, "raft-member: {}\n", status.message());
  return 1;
}

}  // namespace muster::bench
