// Muster's side of `muster-bench raft`.
#include <unistd.h>

#include <array>

#include "base/file.h"
#include "base/security/tls/credentials.h"
#include "base/thread_executor.h"
#include "tests/bench/put_servers.h"

namespace muster::bench {
namespace {

constexpr const char* kCluster = "bench";

Result<security::NodeCredentials> make_credentials(const security::CertificateAndKey& root,
                                                   const std::string& node_id) {
  const WallTime now = SystemClock().wall_now();
  security::NodeCredentials out;
  out.root_pem = root.certificate_pem;
  MUSTER_ASSIGN(out.node.key_pem, security::generate_key());
  MUSTER_ASSIGN(const std::string request, security::create_signing_request(out.node.key_pem));
  MUSTER_ASSIGN(
      out.node.certificate_pem,
      security::sign_request(root, request,
                             {node_id, security::CertificateRole::kManager, kCluster}, now, 24h));
  return out;
}

class RaftServers final : public PutServers {
 public:
  Status start(const std::filesystem::path& dir, const std::string& processors) {
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
    if (length <= 0) return errno_status(errno, "/proc/self/exe");
    MUSTER_TRY(make_directory(dir, 0700));
    MUSTER_ASSIGN(const auto root, security::create_root(SystemClock().wall_now()));
    MUSTER_ASSIGN(const auto client, make_credentials(root, "client"));
    std::array<std::string, 3> addresses;
    for (std::string& address : addresses) {
      address = fmt::format("127.0.0.1:{}", free_port());
      targets_.push_back(
          {address, security::channel_credentials(client), security::manager_channel_arguments()});
    }
    for (size_t i = 0; i < addresses.size(); ++i) {
      const std::filesystem::path own = dir / fmt::format("m{}", i + 1);
      MUSTER_TRY(make_directory(own, 0700));
      MUSTER_ASSIGN(const auto credentials, make_credentials(root, fmt::format("member{}", i + 1)));
      MUSTER_TRY(security::save_credentials(own / "tls", credentials));
      MUSTER_TRY(launch({std::string(self, static_cast<size_t>(length)), "raft-member", own,
                         std::to_string(i + 1), addresses[0], addresses[1], addresses[2]},
                        processors, own / "log"));
    }
    return ok_status();
  }
};

}  // namespace

Result<std::unique_ptr<PutServers>> start_raft_members(const std::filesystem::path& dir,
                                                       const std::string& processors) {
  auto servers = std::make_unique<RaftServers>();
  MUSTER_TRY(servers->start(dir, processors));
  return servers;
}

}  // namespace muster::bench
