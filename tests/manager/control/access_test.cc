#include "base/security/access.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "muster/v1/agent.pb.h"
#include "muster/v1/ca.pb.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/local.pb.h"
#include "muster/v1/log.pb.h"
#include "muster/v1/logs.pb.h"
#include "muster/v1/netd.pb.h"
#include "muster/v1/raft.pb.h"

namespace muster::security {
namespace {

// Linked in, so that the pool has them. A proto file that is missing here fails the test below.
const google::protobuf::Descriptor* const kLinked[] = {
    v1::CreateServiceRequest::descriptor(),
    v1::AgentMessage::descriptor(),
    v1::LogPublish::descriptor(),
    v1::ListImagesRequest::descriptor(),
    v1::RaftFrame::descriptor(),
    v1::IssueCertificateRequest::descriptor(),
    v1::AppliedRequest::descriptor(),
    v1::LocalTask::descriptor(),
    v1::NetdEndpoint::descriptor(),
};

TEST(Access, EveryMethodOfEveryServiceIsListedOnceAndNothingElse) {
  ASSERT_NE(kLinked[0], nullptr);
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  std::set<std::string> methods;
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("proto/muster/v1")) {
    if (entry.path().extension() != ".proto") continue;
    ++files;
    const std::string name = "muster/v1/" + entry.path().filename().string();
    const auto* file = pool->FindFileByName(name);
    ASSERT_NE(file, nullptr) << name << " is not linked into this test: add a message of it";
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods.insert(file->service(s)->method(m)->full_name());
      }
    }
  }
  EXPECT_GE(files, 11u);
  std::set<std::string> listed;
  for (const AccessRule& rule : access_table()) {
    EXPECT_TRUE(listed.insert(std::string(rule.method)).second) << rule.method;
  }
  EXPECT_EQ(listed, methods);
  EXPECT_TRUE(std::is_sorted(access_table().begin(), access_table().end(),
                             [](const auto& a, const auto& b) { return a.method < b.method; }));
}

TEST(Access, WhoMayCallWhat) {
  Principal user;
  user.kind = Principal::Kind::kLocalUser;
  Principal worker;
  worker.kind = Principal::Kind::kNode;
  Principal manager = worker;
  manager.manager = true;
  Principal client;
  client.kind = Principal::Kind::kClient;
  // What a certificate might claim beside its role.
  client.manager = true;
  struct Case {
    const char* method;
    bool user, worker, manager, client, nobody;
  };
  const Case cases[] = {
      {"muster.v1.Control.CreateService", true, false, true, true, false},
      {"muster.v1.Control.GetUnlockKey", true, false, true, true, false},
      {"muster.v1.Control.BackupSwarm", true, false, true, false, false},
      {"muster.v1.Control.IssueClientCertificate", true, false, true, false, false},
      {"muster.v1.Control.InitSwarm", true, false, false, false, false},
      {"muster.v1.Control.UnlockSwarm", true, false, false, false, false},
      {"muster.v1.Dispatcher.Session", false, true, true, false, false},
      {"muster.v1.Raft.Lane", false, false, true, false, false},
      {"muster.v1.Membership.Join", false, false, true, false, false},
      {"muster.v1.Ca.GetRootCertificate", true, true, true, true, true},
      {"muster.v1.Ca.IssueCertificate", true, true, true, true, true},
      {"muster.v1.Local.Exec", true, false, false, false, false},
      {"muster.v1.Control.Unheard", false, false, false, false, false},
      {"", false, false, false, false, false}};
  for (const Case& c : cases) {
    EXPECT_EQ(check_access(c.method, user).ok(), c.user) << c.method;
    EXPECT_EQ(check_access(c.method, worker).ok(), c.worker) << c.method;
    EXPECT_EQ(check_access(c.method, manager).ok(), c.manager) << c.method;
    EXPECT_EQ(check_access(c.method, client).ok(), c.client) << c.method;
    EXPECT_EQ(check_access(c.method, Principal()).ok(), c.nobody) << c.method;
  }
  EXPECT_EQ(check_access("muster.v1.Raft.Lane", Principal()).code(), StatusCode::kUnauthenticated);
}

// Whoever is elsewhere has the control API, as far as it is the swarm's and not one host's; of what
// nodes say to each other nothing.
TEST(Access, ClientsHaveTheControlApiAndNothingElse) {
  Principal client;
  client.kind = Principal::Kind::kClient;
  const std::set<std::string_view> kept_from = {"muster.v1.Control.BackupSwarm",
                                                "muster.v1.Control.InitSwarm",
                                                "muster.v1.Control.IssueClientCertificate",
                                                "muster.v1.Control.JoinSwarm",
                                                "muster.v1.Control.LeaveSwarm",
                                                "muster.v1.Control.RestoreSwarm",
                                                "muster.v1.Control.UnlockSwarm"};
  for (const AccessRule& rule : access_table()) {
    const bool control = rule.method.starts_with("muster.v1.Control.");
    const bool open = rule.access == Access::kAnyone;
    EXPECT_EQ(check_access(rule.method, client).ok(),
              open || (control && !kept_from.contains(rule.method)))
        << rule.method;
  }
}

// Joiners get in without a certificate by these two methods alone.
TEST(Access, OnlyTheCaIsOpenToAnyone) {
  std::set<std::string_view> open;
  for (const AccessRule& rule : access_table()) {
    if (rule.access == Access::kAnyone) open.insert(rule.method);
  }
  EXPECT_EQ(open, (std::set<std::string_view>{"muster.v1.Ca.GetRootCertificate",
                                              "muster.v1.Ca.IssueCertificate"}));
}

TEST(Access, MethodOfAPath) {
  EXPECT_EQ(method_of_path("/muster.v1.Control/InitSwarm"), "muster.v1.Control.InitSwarm");
  for (const char* bad : {"", "/", "x", "/a", "/a/", "//b", "/a/b/c", "muster.v1.Control/X"}) {
    EXPECT_EQ(method_of_path(bad), "") << bad;
  }
}

}  // namespace
}  // namespace muster::security
