#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/remove_tree.h"
#include "base/unique_fd.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-file-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    dir_ = path;
  }
  void TearDown() override { fs::remove_all(dir_); }
  void put(const std::string& name, const std::string& text = "x") {
    ASSERT_TRUE(write_file_atomic(dir_ / name, text, 0600, Durability::kNone).ok());
  }

  fs::path dir_;
};

TEST_F(FileTest, OnlyTemporariesOfKilledWritersAreRemoved) {
  for (const char* name : {"a", "a.tmp123", "a.tmp", "a.tmp12b", ".tmp7", "tmp7"}) put(name);
  remove_temporaries(dir_);
  EXPECT_FALSE(fs::exists(dir_ / "a.tmp123"));
  EXPECT_FALSE(fs::exists(dir_ / ".tmp7"));
  for (const char* name : {"a", "a.tmp", "a.tmp12b", "tmp7"}) EXPECT_TRUE(fs::exists(dir_ / name));
  remove_temporaries(dir_ / "missing");
}

TEST_F(FileTest, ATreeIsRemovedWithoutFollowingLinks) {
  put("kept");
  fs::create_directories(dir_ / "tree/a/b");
  fs::create_symlink(dir_, dir_ / "tree/up");
  fs::create_symlink(dir_ / "kept", dir_ / "tree/a/file");
  put("tree/a/b/c");
  ASSERT_EQ(chmod((dir_ / "tree/a").c_str(), 0500), 0);
  EXPECT_TRUE(remove_tree((dir_ / "tree").string()).ok());
  EXPECT_FALSE(fs::exists(dir_ / "tree"));
  EXPECT_TRUE(fs::exists(dir_ / "kept"));
  EXPECT_TRUE(remove_tree((dir_ / "tree").string()).ok()) << "nothing there is fine";
  fs::create_symlink(dir_ / "kept", dir_ / "link");
  EXPECT_TRUE(remove_tree((dir_ / "link").string()).ok());
  EXPECT_TRUE(fs::exists(dir_ / "kept"));
}

TEST_F(FileTest, ATreeDeeperThanDescriptorsGoesToo) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{200, before.rlim_max};
  // In memory where possible: disks take their time for directories.
  std::string top =
      access("/dev/shm", W_OK) == 0 ? "/dev/shm/muster-file-XXXXXX" : "/tmp/muster-file-XXXXXX";
  ASSERT_NE(mkdtemp(top.data()), nullptr);
  UniqueFd at(open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(mkdirat(at.get(), "d", 0700), 0);
    // Names that the removal may want for itself.
    ASSERT_EQ(mkdirat(at.get(), (".deep-" + std::to_string(i % 20)).c_str(), 0700), 0);
    at.reset(openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
  at.reset();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const Status removed = remove_tree(top);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(removed.ok()) << removed.message();
  EXPECT_FALSE(fs::exists(top));
}

}  // namespace
}  // namespace muster
