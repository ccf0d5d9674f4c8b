#include "manager/control/access.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "muster/v1/control.pb.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/local.pb.h"
#include "muster/v1/logs.pb.h"

namespace muster::manager::control {
namespace {

using security::Principal;

TEST(Access, EveryMethodOfEveryServiceIsListedOnceAndNothingElse) {
  std::set<std::string> methods;
  for (const auto* file :
       {v1::CreateServiceRequest::descriptor()->file(), v1::AgentMessage::descriptor()->file(),
        v1::LogPublish::descriptor()->file(), v1::ListImagesRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods.insert(file->service(s)->method(m)->full_name());
      }
    }
  }
  std::set<std::string> listed;
  for (const AccessRule& rule : access_table()) {
    EXPECT_TRUE(listed.insert(std::string(rule.method)).second) << rule.method;
  }
  EXPECT_EQ(listed, methods);
}

TEST(Access, WhoMayCallWhat) {
  Principal user;
  user.kind = Principal::Kind::kLocalUser;
  Principal worker;
  worker.kind = Principal::Kind::kNode;
  Principal manager = worker;
  manager.manager = true;
  struct Case {
    const char* method;
    bool user, worker, manager, nobody;
  };
  const Case cases[] = {{"muster.v1.Control.CreateService", true, false, true, false},
                        {"muster.v1.Control.InitSwarm", true, false, false, false},
                        {"muster.v1.Dispatcher.Session", false, true, true, false},
                        {"muster.v1.Local.Exec", true, false, false, false},
                        {"muster.v1.Control.Unheard", false, false, false, false}};
  for (const Case& c : cases) {
    EXPECT_EQ(check_access(c.method, user).ok(), c.user) << c.method;
    EXPECT_EQ(check_access(c.method, worker).ok(), c.worker) << c.method;
    EXPECT_EQ(check_access(c.method, manager).ok(), c.manager) << c.method;
    EXPECT_EQ(check_access(c.method, Principal()).ok(), c.nobody) << c.method;
  }
}

}  // namespace
}  // namespace muster::manager::control
