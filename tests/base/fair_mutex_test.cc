#include "base/fair_mutex.h"

#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <thread>

namespace muster {
namespace {

TEST(FairMutex, WhoTakesItAgainComesAfterThoseThatWait) {
  FairMutex mutex;
  std::string order;
  mutex.lock();
  std::thread other([&] {
    std::lock_guard lock(mutex);
    order += "other ";
  });
  while (mutex.asked() < 2) std::this_thread::yield();
  for (int i = 0; i < 2; ++i) {
    order += "step ";
    mutex.unlock();
    mutex.lock();
  }
  mutex.unlock();
  other.join();
  EXPECT_EQ(order, "step other step ");
  EXPECT_EQ(mutex.asked(), 0u);
}

}  // namespace
}  // namespace muster
