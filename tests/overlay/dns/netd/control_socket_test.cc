// netd's Unix sockets while there is no descriptor for who connects.
#include "overlay/dns/netd/control_socket.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

namespace muster::overlay::dns {
namespace {

// As many descriptors as there are now, until it is destroyed.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const UniqueFd next(dup(0));
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next.get());
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoMoreDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// What this thread has used of a processor.
Duration processor_time() {
  timespec used{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

class RootListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / "muster-root-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ASSERT_TRUE(loop_.open().ok());
    ASSERT_TRUE(listener_.listen(path(), SOCK_STREAM).ok());
    const Status started = listener_.start([this](UniqueFd fd) {
      accepted_.push_back(std::move(fd));
      loop_.stop();
    });
    ASSERT_TRUE(started.ok()) << started.message();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ + "/s"; }
  UniqueFd connect_one() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  void run(Duration longest) {
    const EventLoop::TimerId end = loop_.after(longest, [this] { loop_.stop(); });
    ASSERT_TRUE(loop_.run().ok());
    loop_.cancel(end);
  }

  std::string directory_;
  EventLoop loop_;
  RootListener listener_{loop_, null_log()};
  std::vector<UniqueFd> accepted_;
};

TEST_F(RootListenerTest, WithoutDescriptorsItWaitsForThemAtRest) {
  const UniqueFd first = connect_one();
  {
    const NoMoreDescriptors none;
    const Duration before = processor_time();
    run(400ms);
    // A loop that is woken by who waits takes all of that time.
    EXPECT_LT(processor_time() - before, 100ms);
    // Between two tries there is a moment in which it is not.
    for (int i = 0; i < 1000 && !listener_.paused(); ++i) run(1ms);
    EXPECT_TRUE(listener_.paused());
    EXPECT_TRUE(accepted_.empty());
  }
  run(20s);
  EXPECT_EQ(accepted_.size(), 1u);
  EXPECT_FALSE(listener_.paused());
  const UniqueFd second = connect_one();
  run(20s);
  EXPECT_EQ(accepted_.size(), 2u);
}

}  // namespace
}  // namespace muster::overlay::dns
