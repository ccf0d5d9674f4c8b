#include "base/crash_report.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <stdexcept>

namespace muster {
namespace {

class CrashSignalTest : public testing::TestWithParam<int> {};

TEST_P(CrashSignalTest, SaysTheStackAndEndsByTheSignal) {
  EXPECT_EXIT(
      {
        report_crashes("thing");
        raise(GetParam());
      },
      testing::KilledBySignal(GetParam()),
      "thing: ended by SIG[A-Z]+ in thread .+; stack:\n.*muster_base_test\\(.*\\+0x");
}

INSTANTIATE_TEST_SUITE_P(Signals, CrashSignalTest,
                         testing::Values(SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE));

// As it would be on a thread that nobody catches anything on.
void fails() noexcept {
  const auto why = [] { throw std::runtime_error("why"); };
  why();
}

TEST(CrashReportTest, AnExceptionThatNobodyCatchesIsSaid) {
  EXPECT_EXIT(
      {
        report_crashes("thing");
        fails();
      },
      testing::KilledBySignal(SIGABRT), "why(.|\n)*thing: ended by SIGABRT");
}

}  // namespace
}  // namespace muster
