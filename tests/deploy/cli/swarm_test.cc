// Cluster life on the command line: words in, requests and texts out.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/security/x509.h"
#include "deploy/cli/cluster_flags.h"
#include "deploy/cli/endpoint.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

class SwarmCommands : public ::testing::Test {
 protected:
  SwarmCommands() {
    char path[] = "/tmp/muster-cli-swarm-XXXXXX";
    dir_ = mkdtemp(path);
  }
  ~SwarmCommands() override { std::filesystem::remove_all(dir_); }

  Outcome run(const std::vector<std::string>& words, const std::string& input = "") {
    return run_muster(daemon_, words, input);
  }
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
    return (dir_ / name).string();
  }

  FakeDaemon daemon_;
  std::filesystem::path dir_;
};

TEST_F(SwarmCommands, InitTakesTheSettingsOfTheCluster) {
  const Outcome outcome =
      run({"swarm", "init", "--autolock", "--cert-expiry", "2h", "--snapshot-interval", "500",
           "--raft-heartbeat", "500ms", "--raft-election-timeout", "5s", "--ca-cert",
           file("root.pem", "ROOT"), "--ca-key", file("root.key", "KEY")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto& request = daemon_.init_request;
  EXPECT_TRUE(request.spec().autolock());
  EXPECT_EQ(request.spec().node_cert_expiry_ns(), 7200LL * 1'000'000'000);
  EXPECT_EQ(request.spec().raft().snapshot_interval(), 500u);
  EXPECT_EQ(request.spec().raft().heartbeat_period_ns(), 500'000'000);
  EXPECT_EQ(request.spec().raft().election_timeout_ns(), 5LL * 1'000'000'000);
  EXPECT_EQ(request.ca_certificate_pem(), "ROOT");
  EXPECT_EQ(request.ca_key_pem(), "KEY");
  EXPECT_NE(outcome.out.find("    SWMKEY-1-first\n"), std::string::npos) << outcome.out;
}

TEST_F(SwarmCommands, InitForcesANewCluster) {
  EXPECT_EQ(run({"swarm", "init", "--force-new-cluster"}).code, 0);
  EXPECT_TRUE(daemon_.init_request.force_new_cluster());
}

TEST_F(SwarmCommands, WrongSettingsAreUsageErrors) {
  const std::vector<std::vector<std::string>> wrong = {
      {"swarm", "init", "--cert-expiry", "59m"},
      {"swarm", "init", "--ca-cert", "/x"},
      {"swarm", "init", "--max-snapshots", "2"},
      {"swarm", "update", "--snapshot-interval", "0"},
      {"swarm", "update", "--raft-heartbeat", "0s"},
      {"swarm", "update", "--raft-heartbeat", "5"},
      {"swarm", "update", "--raft-election-timeout", "-1s"},
      {"swarm", "update", "--external-ca", "protocol=other,url=https://ca"},
      {"swarm", "update", "--external-ca", "url=https://ca"},
      {"swarm", "join", "10.0.0.1:2377"},
      {"swarm", "join", "--token", "t", "--availability", "lazy", "10.0.0.1:2377"},
      {"swarm", "ca", "--cert-expiry", "2h"},
      {"swarm", "ca", "--detach"},
      {"swarm", "ca", "--rotate", "--ca-cert", "/x"},
      {"swarm", "ca", "--rotate", "--ca-key", "/x"},
  };
  for (const auto& words : wrong) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.code, 2) << words[1] << " " << words[2] << ": " << outcome.err;
  }
}

TEST_F(SwarmCommands, JoinSaysWhatTheNodeBecame) {
  const Outcome worker = run({"swarm", "join", "--token", "SWMTKN-1-a-worker", "--advertise-addr",
                              "eth0", "--availability", "drain", "10.0.0.1:2377"});
  EXPECT_EQ(worker.out, "This node joined a swarm as a worker.\n") << worker.err;
  EXPECT_EQ(daemon_.join_request.remote_addrs(0), "10.0.0.1:2377");
  EXPECT_EQ(daemon_.join_request.advertise_addr(), "eth0");
  EXPECT_EQ(daemon_.join_request.availability(), v1::NodeSpec::DRAIN);
  EXPECT_EQ(run({"swarm", "join", "--token", "SWMTKN-1-a-manager", "10.0.0.1:2377"}).out,
            "This node joined a swarm as a manager.\n");
}

TEST_F(SwarmCommands, UnlockAsksOnlyWhereThereIsALock) {
  daemon_.info.set_local_state("inactive");
  EXPECT_EQ(run({"swarm", "unlock"}).err, "muster: This node is not part of a swarm\n");
  daemon_.info.set_local_state("active");
  EXPECT_EQ(run({"swarm", "unlock"}).err, "muster: swarm is not locked\n");
  EXPECT_TRUE(daemon_.unlock_keys_tried.empty());
  daemon_.info.set_local_state("locked");
  EXPECT_EQ(run({"swarm", "unlock"}, "SWMKEY-1-abc\nmore").code, 0);
  EXPECT_EQ(daemon_.unlock_keys_tried, std::vector<std::string>{"SWMKEY-1-abc"});
}

TEST_F(SwarmCommands, UnlockKeyIsShownAndRotated) {
  EXPECT_EQ(run({"swarm", "unlock-key"}).err, "muster: no unlock key is set\n");
  EXPECT_EQ(run({"swarm", "unlock-key", "--rotate"}).err,
            "muster: cannot rotate because autolock is not turned on\n");
  daemon_.unlock_key = "SWMKEY-1-k";
  daemon_.cluster.mutable_spec()->set_autolock(true);
  EXPECT_EQ(run({"swarm", "unlock-key", "-q"}).out, "SWMKEY-1-k\n");
  const Outcome rotated = run({"swarm", "unlock-key", "--rotate"});
  EXPECT_TRUE(rotated.out.starts_with("Successfully rotated manager unlock key.\n"));
  ASSERT_EQ(daemon_.updated_clusters.size(), 1u);
  EXPECT_TRUE(daemon_.updated_clusters[0].rotate_unlock_key());
}

TEST_F(SwarmCommands, TurningAutolockOnShowsTheKey) {
  daemon_.unlock_key = "SWMKEY-1-k";
  EXPECT_NE(run({"swarm", "update", "--autolock"}).out.find("SWMKEY-1-k"), std::string::npos);
  EXPECT_EQ(run({"swarm", "update", "--autolock=false"}).out, "Swarm updated.\n");
  EXPECT_FALSE(daemon_.updated_clusters.back().spec().autolock());
}

TEST_F(SwarmCommands, CaShowsTheRoot) {
  daemon_.cluster.mutable_root_ca()->set_certificate_pem("PEM\n");
  EXPECT_EQ(run({"swarm", "ca"}).out, "PEM\n");
}

TEST_F(SwarmCommands, RotatingTheRootWaitsForEveryNode) {
  daemon_.cluster.mutable_root_ca()->set_certificate_pem("PEM\n");
  daemon_.nodes.clear();
  v1::Node& node = daemon_.nodes.emplace_back();
  node.set_id("n1");
  node.mutable_description()->set_hostname("alpha");
  node.mutable_status()->set_state(v1::NodeStatus::DOWN);
  daemon_.nodes.emplace_back().set_id("n2");
  daemon_.renewals = {{}, {"n1", "n2"}, {"n1"}, {}};
  const Outcome outcome = run({"swarm", "ca", "--rotate"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(daemon_.updated_clusters[0].has_rotate_root());
  EXPECT_NE(outcome.out.find("0/2 nodes"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("1/2 nodes, waiting for alpha (down)\n"), std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("2/2 nodes\n"), std::string::npos) << outcome.out;
  EXPECT_TRUE(outcome.out.ends_with("PEM\n"));
  daemon_.renewals = {{"n1"}};
  EXPECT_EQ(run({"swarm", "ca", "--rotate", "-d"}).out, "");
}

TEST_F(SwarmCommands, AClientCertificateIsADirectoryAndItsKeyStaysHere) {
  const std::filesystem::path out = dir_ / "alice";
  const Outcome made = run({"client-cert", "create", "--days", "7", "-o", out.string(), "alice"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.out,
            "Client certificate of alice in " + out.string() + ", until 2023-11-15T22:13:20Z.\n");
  const auto& request = daemon_.client_certificate_request;
  EXPECT_EQ(request.name(), "alice");
  EXPECT_EQ(request.validity_ns(), 7LL * 86400 * 1'000'000'000);
  const auto mode = [&](const char* name) {
    struct stat about {};
    EXPECT_EQ(stat((out / name).c_str(), &about), 0) << name;
    return about.st_mode & 07777;
  };
  EXPECT_EQ(mode("key.pem"), 0600u);
  EXPECT_EQ(mode("."), 0700u);
  const std::string key = *read_file(out / "key.pem", 1 << 16);
  EXPECT_TRUE(security::check_key(*read_file(out / "cert.pem", 1 << 16), key).ok());
  EXPECT_NE(read_file(out / "ca.pem", 1 << 16)->find("BEGIN CERTIFICATE"), std::string::npos);
  EXPECT_EQ(request.SerializeAsString().find("PRIVATE"), std::string::npos);
  // How long one lasts when nobody says so is the managers' to say, and how long at most.
  ASSERT_EQ(run({"client-cert", "create", "-o", (dir_ / "b").string(), "bob"}).code, 0);
  EXPECT_EQ(request.name(), "bob");
  EXPECT_EQ(request.validity_ns(), 0);
  ASSERT_EQ(run({"client-cert", "create", "-o", (dir_ / "e").string(), "--days", "366", "x"}).code,
            0);
  EXPECT_EQ(request.validity_ns(), 366LL * 86400 * 1'000'000'000);
  // Nothing is overwritten, and nothing asked for then.
  daemon_.client_certificate_request.Clear();
  const Outcome again = run({"client-cert", "create", "--out", out.string(), "bob"});
  EXPECT_EQ(again.code, 1);
  EXPECT_NE(again.err.find("is there already"), std::string::npos) << again.err;
  EXPECT_EQ(daemon_.client_certificate_request.name(), "");
  EXPECT_EQ(*read_file(out / "key.pem", 1 << 16), key);
  // What is refused leaves no key behind.
  daemon_.next_error = invalid_argument("invalid name of a client");
  EXPECT_EQ(run({"client-cert", "create", "--out", (dir_ / "c").string(), "x"}).code, 1);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c" / "key.pem"));
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {"client-cert", "create", "a"},
           {"client-cert", "create", "--out", "d"},
           {"client-cert", "create", "--out", "d", "--days", "0", "a"},
           {"client-cert", "create", "--out", "d", "--days", "200000", "a"},
           {"client-cert", "create", "--out", "d", "--days", "x", "a"}}) {
    EXPECT_EQ(run(wrong).code, 2) << wrong.back();
  }
}

TEST_F(SwarmCommands, ABackupIsWholeOrNotThere) {
  const std::string to = (dir_ / "swarm.backup").string();
  const std::string pass = file("pass", "tell nobody\nsecond line");
  daemon_.backup_chunks = {"one", "two"};
  ASSERT_EQ(run({"swarm", "backup", "--passphrase-file", pass, to}).code, 0);
  EXPECT_EQ(daemon_.backup_request.passphrase(), "tell nobody");
  EXPECT_EQ(*read_file(to), "onetwo");
  struct stat about {};
  ASSERT_EQ(stat(to.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600u);

  daemon_.next_error = Status(StatusCode::kUnavailable, "the leader went");
  const std::string other = (dir_ / "other.backup").string();
  EXPECT_EQ(run({"swarm", "backup", other}, "pass\n").err, "muster: the leader went\n");
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_FALSE(std::filesystem::exists(other + ".part"));
  EXPECT_EQ(run({"swarm", "backup", other}, "\n").code, 1);
}

TEST_F(SwarmCommands, ARestoreSendsTheFile) {
  const std::string from = file("swarm.backup", std::string(600 << 10, 'x'));
  const Outcome outcome =
      run({"swarm", "restore", "--advertise-addr", "10.0.0.9", from}, "tell nobody\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(daemon_.restore_requests[0].passphrase(), "tell nobody");
  EXPECT_EQ(daemon_.restore_requests[0].advertise_addr(), "10.0.0.9");
  size_t bytes = 0;
  for (const auto& request : daemon_.restore_requests) bytes += request.chunk().size();
  EXPECT_EQ(bytes, size_t{600 << 10});
}

TEST_F(SwarmCommands, NodesAreRemoved) {
  daemon_.nodes.emplace_back().set_id("n7");
  EXPECT_EQ(run({"node", "rm", "--force", "n7"}).out, "n7\n");
  ASSERT_EQ(daemon_.removed_nodes.size(), 1u);
  EXPECT_TRUE(daemon_.removed_nodes[0].force());
  EXPECT_EQ(run({"node", "rm", "nobody"}).code, 1);
}

TEST_F(SwarmCommands, NodesShowTheirCertificates) {
  daemon_.nodes.clear();
  v1::Node& node = daemon_.nodes.emplace_back();
  node.set_id("n1");
  node.mutable_description()->mutable_tls()->set_not_after_ns(kNow);
  daemon_.nodes.emplace_back().set_id("n2");
  daemon_.nodes.emplace_back().set_id("n3");
  daemon_.renewals = {{"n3"}};
  EXPECT_EQ(run({"node", "ls", "--format", "{{.ID}} {{.TLSStatus}}"}).out,
            "n1 Ready\nn2 Unknown\nn3 Needs Rotation\n");
}

TEST_F(SwarmCommands, InfoOfALockedManagerSaysSoAndNoMore) {
  daemon_.info.set_local_state("locked");
  daemon_.info.set_node_id("n1");
  const std::string text = run({"info"}).out;
  EXPECT_NE(text.find(" Swarm: locked\n Kernel"), std::string::npos) << text;
}

TEST(Endpoint, RemoteAddressesNeedCertificates) {
  EndpointOptions options;
  options.host = "tcp://10.0.0.1";
  EXPECT_NE(resolve_endpoint(options, "/").error().message().find("--tlscacert"),
            std::string::npos);
  options.ca_file = options.certificate_file = options.key_file = "/dev/null";
  EXPECT_EQ(resolve_endpoint(options, "/")->address, "tcp://10.0.0.1:2377");
  options.host = "tcp://[::1]:99";
  EXPECT_EQ(resolve_endpoint(options, "/")->address, "tcp://[::1]:99");
  options.host = "http://x";
  EXPECT_FALSE(resolve_endpoint(options, "/"));
  options.host = "rel.sock";
  EXPECT_EQ(resolve_endpoint(options, "/dir")->address, "unix:///dir/rel.sock");
}

TEST(Endpoint, TheEnvironmentNamesADirectory) {
  const auto options =
      endpoint_of_environment({{"MUSTER_HOST", "tcp://m:1"}, {"MUSTER_CERT_PATH", "/certs"}});
  EXPECT_EQ(options.host, "tcp://m:1");
  EXPECT_EQ(options.ca_file, "/certs/ca.pem");
  EXPECT_EQ(options.key_file, "/certs/key.pem");
}

}  // namespace
}  // namespace muster::deploy::cli
