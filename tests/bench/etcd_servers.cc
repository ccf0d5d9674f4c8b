// The peer of `muster-bench raft`.
#include <array>

#include "base/file.h"
#include "tests/bench/put_servers.h"

namespace muster::bench {
namespace {

// A CA, and one certificate for servers and clients alike, with openssl(1): what an operator does.
Status make_certificates(const std::filesystem::path& dir) {
  const auto openssl = [&](std::vector<std::string> words) -> Status {
    ProcessOptions options;
    options.argv = {"openssl"};
    options.argv.insert(options.argv.end(), words.begin(), words.end());
    options.working_dir = dir;
    MUSTER_ASSIGN(const RunResult result, run_process(options));
    if (result.exit.success()) return ok_status();
    return internal_error("openssl {}: {}", words[0], result.err);
  };
  MUSTER_TRY(write_file_atomic(dir / "names",
                               "subjectAltName=IP:127.0.0.1\n"
                               "extendedKeyUsage=serverAuth,clientAuth\n",
                               0600, Durability::kNone));
  for (const char* name : {"ca", "node"})
    MUSTER_TRY(openssl({"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                        fmt::format("{}.key", name)}));
  MUSTER_TRY(openssl({"req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=bench", "-days", "30",
                      "-out", "ca.crt"}));
  MUSTER_TRY(openssl({"req", "-new", "-key", "node.key", "-subj", "/CN=node", "-out", "node.csr"}));
  return openssl({"x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                  "-CAcreateserial", "-days", "30", "-extfile", "names", "-out", "node.crt"});
}

class EtcdServers final : public PutServers {
 public:
  Status start(const std::filesystem::path& dir, const std::string& processors) {
    MUSTER_TRY(make_directory(dir, 0700));
    MUSTER_TRY(make_certificates(dir));
    grpc::SslCredentialsOptions tls;
    MUSTER_ASSIGN(tls.pem_root_certs, read_file(dir / "ca.crt"));
    MUSTER_ASSIGN(tls.pem_cert_chain, read_file(dir / "node.crt"));
    MUSTER_ASSIGN(tls.pem_private_key, read_file(dir / "node.key"));
    std::array<std::string, 3> clients, peers;
    std::string cluster;
    for (size_t i = 0; i < 3; ++i) {
      clients[i] = fmt::format("127.0.0.1:{}", free_port());
      peers[i] = fmt::format("https://127.0.0.1:{}", free_port());
      cluster += fmt::format("{}m{}={}", i == 0 ? "" : ",", i, peers[i]);
      targets_.push_back({clients[i], grpc::SslCredentials(tls), {}});
    }
    for (size_t i = 0; i < 3; ++i) {
      const std::string client = "https://" + clients[i];
      const std::string ca = dir / "ca.crt", certificate = dir / "node.crt", key = dir / "node.key";
      MUSTER_TRY(launch({"etcd",
                         "--name",
                         fmt::format("m{}", i),
                         "--data-dir",
                         dir / fmt::format("m{}", i),
                         "--listen-client-urls",
                         client,
                         "--advertise-client-urls",
                         client,
                         "--listen-peer-urls",
                         peers[i],
                         "--initial-advertise-peer-urls",
                         peers[i],
                         "--initial-cluster",
                         cluster,
                         "--initial-cluster-state",
                         "new",
                         "--client-cert-auth",
                         "--trusted-ca-file",
                         ca,
                         "--cert-file",
                         certificate,
                         "--key-file",
                         key,
                         "--peer-client-cert-auth",
                         "--peer-trusted-ca-file",
                         ca,
                         "--peer-cert-file",
                         certificate,
                         "--peer-key-file",
                         key,
                         "--logger",
                         "zap",
                         "--log-level",
                         "error"},
                        processors, dir / fmt::format("m{}.log", i)));
    }
    return ok_status();
  }
};

}  // namespace

Result<std::unique_ptr<PutServers>> start_etcd(const std::filesystem::path& dir,
                                               const std::string& processors) {
  if (find_program("etcd").empty())
    return fail(not_found("etcd is missing: install Debian's etcd-server"));
  auto servers = std::make_unique<EtcdServers>();
  MUSTER_TRY(servers->start(dir, processors));
  return servers;
}

}  // namespace muster::bench
