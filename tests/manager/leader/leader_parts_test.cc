#include "manager/leader/leader_parts.h"

#include <gtest/gtest.h>

namespace muster::manager::leader {
namespace {

TEST(LeaderParts, StartInOrderAndStopInReverseOnce) {
  std::string log;
  LeaderParts parts(null_log());
  for (const char* name : {"a", "b"}) {
    parts.add(name, make_part([&log, name] { log += std::string("+") + name; },
                              [&log, name] { log += std::string("-") + name; }));
  }
  parts.stop();
  parts.start();
  parts.start();
  parts.stop();
  parts.stop();
  EXPECT_EQ(log, "+a+b-b-a");
}

}  // namespace
}  // namespace muster::manager::leader
