#include "raft/storage/disk_reserve.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace muster::raft {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// On a disk of 8 MiB.
class DiskReserveTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/muster-reserve-XXXXXX";
    dir_ = mkdtemp(name);
    ASSERT_EQ(::mount("none", dir_.c_str(), "tmpfs", 0, "size=8m"), 0)
        << std::strerror(errno) << "; tests run as root";
  }
  void TearDown() override {
    ::umount2(dir_.c_str(), MNT_DETACH);
    std::filesystem::remove(dir_);
  }

  uint64_t free_now() const {
    struct statvfs fs = {};
    return ::statvfs(dir_.c_str(), &fs) == 0 ? uint64_t{fs.f_bavail} * fs.f_frsize : 0;
  }
  // Others leave so much.
  void fill_to(uint64_t free) {
    std::ofstream(dir_ / "others") << std::string(free_now() - free, 'x');
  }
  bool set_aside() const { return std::filesystem::exists(dir_ / "reserve"); }

  std::filesystem::path dir_;
};

TEST_F(DiskReserveTest, ADiskIsFullUntilOthersMakeRoom) {
  DiskReserve reserve(dir_, {.full_bytes = kMiB, .reserve_bytes = 4 * kMiB}, null_log());
  reserve.keep();
  EXPECT_TRUE(set_aside());
  EXPECT_EQ(reserve.room(), DiskRoom::kPlenty);
  fill_to(kMiB / 4);
  EXPECT_EQ(reserve.room(), DiskRoom::kFull);
  reserve.keep();
  EXPECT_FALSE(set_aside());
  EXPECT_EQ(reserve.room(), DiskRoom::kFull) << "what was given up is for term and vote";
  EXPECT_TRUE(reserve.check_accepted().ok());
}

// The disk is looked at only now and then: the room may be set aside again before anybody has seen
// that it was there, and what is left after that may be less than the mark of before.
TEST_F(DiskReserveTest, ADiskWithItsReserveSetAsideAgainIsNotFullAnyMore) {
  DiskReserve reserve(dir_, {.full_bytes = kMiB, .reserve_bytes = 4 * kMiB}, null_log());
  reserve.keep();
  fill_to(kMiB / 4);
  reserve.keep();
  ASSERT_FALSE(set_aside());
  std::filesystem::remove(dir_ / "others");
  reserve.keep();
  EXPECT_TRUE(set_aside());
  EXPECT_EQ(reserve.room(), DiskRoom::kPlenty);
}

}  // namespace
}  // namespace muster::raft
