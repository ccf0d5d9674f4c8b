#include "base/descriptor_messages.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace muster {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr MessageLimits kLimits{64, 4};

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

UniqueFd some_file() {
  return UniqueFd(::memfd_create("a file", MFD_CLOEXEC));
}

std::pair<dev_t, ino_t> identity(int fd) {
  struct stat found {};
  EXPECT_EQ(::fstat(fd, &found), 0);
  return {found.st_dev, found.st_ino};
}

class DescriptorMessagesTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, GetParam() | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    here_.reset(ends[0]);
    there_.reset(ends[1]);
    for (UniqueFd& file : files_) file = some_file();
  }
  std::vector<int> first(size_t count) const {
    std::vector<int> out;
    for (size_t i = 0; i < count; ++i) out.push_back(files_[i].get());
    return out;
  }

  UniqueFd here_;
  UniqueFd there_;
  UniqueFd files_[6];
};

INSTANTIATE_TEST_SUITE_P(Sockets, DescriptorMessagesTest,
                         ::testing::Values(SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM),
                         [](const auto& info) -> std::string {
                           if (info.param == SOCK_STREAM) return "Stream";
                           return info.param == SOCK_DGRAM ? "Datagrams" : "Messages";
                         });

TEST_P(DescriptorMessagesTest, DescriptorsArriveInOrderWithTheirBytesAndAreClosedByExec) {
  ASSERT_EQ(send_descriptors(here_.get(), "three", first(3)), 0);
  ASSERT_EQ(send_descriptors(here_.get(), "none", {}), 0);
  ASSERT_EQ(send_descriptors(here_.get(), "as many as may come", first(4)), 0);
  DescriptorMessage got;
  ASSERT_EQ(receive_descriptors(there_.get(), kLimits, got), 0);
  EXPECT_EQ(got.bytes, "three");
  ASSERT_THAT(got.descriptors, SizeIs(3));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(identity(got.descriptors[i].get()), identity(files_[i].get())) << i;
    EXPECT_NE(got.descriptors[i].get(), files_[i].get()) << "a duplicate";
    EXPECT_EQ(::fcntl(got.descriptors[i].get(), F_GETFD), FD_CLOEXEC);
  }
  ASSERT_EQ(receive_descriptors(there_.get(), {4, 4}, got), 0);
  EXPECT_EQ(got.bytes, "none");
  EXPECT_THAT(got.descriptors, IsEmpty()) << "what was there before is gone";
  ASSERT_EQ(receive_descriptors(there_.get(), kLimits, got), 0);
  EXPECT_EQ(got.bytes, "as many as may come");
  EXPECT_THAT(got.descriptors, SizeIs(4));
}

// There would be room for one more beside three: what the kernel writes is aligned.
TEST_P(DescriptorMessagesTest, MoreThanMayComeIsAnErrorAndNothingStaysOpen) {
  for (const size_t most : {0, 1, 2, 3, 4, 5}) {
    const size_t before = open_descriptors();
    ASSERT_EQ(send_descriptors(here_.get(), "x", first(most + 1)), 0);
    DescriptorMessage got;
    EXPECT_EQ(receive_descriptors(there_.get(), {64, most}, got), EMSGSIZE) << most;
    EXPECT_EQ(got.bytes, "");
    EXPECT_THAT(got.descriptors, IsEmpty());
    EXPECT_EQ(open_descriptors(), before) << most;
  }
}

TEST_P(DescriptorMessagesTest, NoRoomForThemInThisProcessIsAnErrorAndNothingStaysOpen) {
  ASSERT_EQ(send_descriptors(here_.get(), "x", first(4)), 0);
  UniqueFd next(::fcntl(here_.get(), F_DUPFD_CLOEXEC, 0));
  const int number = next.get();
  next.reset();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // All numbers below it are taken: one of four gets in.
  const rlimit narrow{static_cast<rlim_t>(number) + 1, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &narrow), 0);
  DescriptorMessage got;
  const int error = receive_descriptors(there_.get(), kLimits, got);
  const bool closed = ::fcntl(number, F_GETFD) < 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(error, EMSGSIZE);
  EXPECT_THAT(got.descriptors, IsEmpty());
  EXPECT_TRUE(closed);
}

TEST_P(DescriptorMessagesTest, WhatIsTooLongIsNotTakenForAPart) {
  const size_t before = open_descriptors();
  ASSERT_EQ(send_descriptors(here_.get(), std::string(65, 'x'), first(2)), 0);
  DescriptorMessage got;
  if (GetParam() == SOCK_STREAM) {
    // It has no messages: the rest comes next, without them.
    ASSERT_EQ(receive_descriptors(there_.get(), kLimits, got), 0);
    EXPECT_EQ(got.bytes, std::string(64, 'x'));
    EXPECT_THAT(got.descriptors, SizeIs(2));
    ASSERT_EQ(receive_descriptors(there_.get(), kLimits, got), 0);
    EXPECT_EQ(got.bytes, "x");
    EXPECT_THAT(got.descriptors, IsEmpty());
  } else {
    EXPECT_EQ(receive_descriptors(there_.get(), kLimits, got), EMSGSIZE);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(DescriptorMessagesTest, ASocketWithoutRoomOrWithoutAnythingSaysSo) {
  DescriptorMessage got;
  EXPECT_EQ(receive_descriptors(there_.get(), kLimits, got), EAGAIN);
  int error = 0;
  for (int i = 0; i < 1'000'000 && error == 0; ++i) {
    error = send_descriptors(here_.get(), std::string(4096, 'x'), {});
  }
  EXPECT_EQ(error, EAGAIN);
}

TEST_P(DescriptorMessagesTest, TheEndIsToldAndNobodyIsKilledByIt) {
  here_.reset();
  DescriptorMessage got;
  EXPECT_EQ(receive_descriptors(there_.get(), kLimits, got),
            GetParam() == SOCK_DGRAM ? EAGAIN : ECONNRESET);
  EXPECT_EQ(send_descriptors(there_.get(), "x", first(1)),
            GetParam() == SOCK_DGRAM ? ECONNREFUSED : EPIPE);
}

TEST_P(DescriptorMessagesTest, TheKernelsOwnLimitIsTheLast) {
  const size_t before = open_descriptors();
  const std::vector<int> most(kDescriptorsMax, files_[0].get());
  ASSERT_EQ(send_descriptors(here_.get(), "x", most), 0);
  {
    DescriptorMessage got;
    ASSERT_EQ(receive_descriptors(there_.get(), {1, kDescriptorsMax}, got), 0);
    EXPECT_THAT(got.descriptors, SizeIs(kDescriptorsMax));
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(
      send_descriptors(here_.get(), "x", std::vector<int>(kDescriptorsMax + 1, files_[0].get())),
      EINVAL);
}

// A sender's buffer takes less than all of it at once.
TEST(DescriptorMessages, AStreamThatBlocksTakesAllOfIt) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd here(ends[0]);
  const UniqueFd there(ends[1]);
  const UniqueFd file = some_file();
  const std::string bytes(4'000'000, 'x');
  int sent = -1;
  std::thread sender([&] { sent = send_descriptors(here.get(), bytes, {file.get()}); });
  size_t received = 0;
  size_t descriptors = 0;
  while (received < bytes.size()) {
    DescriptorMessage got;
    const int error = receive_descriptors(there.get(), {100'000, 4}, got);
    EXPECT_EQ(error, 0);
    if (error != 0) break;
    received += got.bytes.size();
    descriptors += got.descriptors.size();
  }
  sender.join();
  EXPECT_EQ(sent, 0);
  EXPECT_EQ(received, bytes.size());
  EXPECT_EQ(descriptors, 1u);
}

// What is sent to journald: the file is all of it.
TEST(DescriptorMessages, AMessageMayBeDescriptorsAlone) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd here(ends[0]);
  const UniqueFd there(ends[1]);
  const UniqueFd file = some_file();
  ASSERT_EQ(send_descriptors(here.get(), "", {file.get()}), 0);
  DescriptorMessage got;
  ASSERT_EQ(receive_descriptors(there.get(), kLimits, got), 0);
  EXPECT_EQ(got.bytes, "");
  EXPECT_THAT(got.descriptors, SizeIs(1));
}

}  // namespace
}  // namespace muster
