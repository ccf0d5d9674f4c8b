// Needs root and mount(2).
#include "agent/secrets/memory_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

class MemoryFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "this test needs root";
    char path[] = "/tmp/muster-secrets-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    root_ = path;
    files_ = MemoryFiles(root_ + "/secrets");
  }
  void TearDown() override {
    for (const std::string& id : files_.list()) EXPECT_TRUE(files_.remove(id).ok());
    fs::remove_all(root_);
  }
  static bool mounted(const std::string& path) {
    const auto text = read_file("/proc/self/mountinfo");
    return text && text->find(" " + path + " ") != std::string::npos;
  }

  std::string root_;
  MemoryFiles files_{""};
};

TEST_F(MemoryFilesTest, FilesAreInMemoryWithOwnerAndMode) {
  const auto paths =
      files_.write("c1", {{"one", 0, 0, 0444}, {"two", 1000, 2000, 0400}, {"", 7, 8, 0}});
  ASSERT_TRUE(paths) << paths.error().to_string();
  ASSERT_EQ(paths->size(), 3u);
  EXPECT_EQ(*read_file((*paths)[0]), "one");
  EXPECT_EQ(*read_file((*paths)[1]), "two");
  struct stat about {};
  ASSERT_EQ(::stat((*paths)[1].c_str(), &about), 0);
  EXPECT_EQ(about.st_uid, 1000u);
  EXPECT_EQ(about.st_gid, 2000u);
  EXPECT_EQ(about.st_mode & 07777, 0400u);
  ASSERT_EQ(::stat((*paths)[2].c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0u);
  const std::string directory = root_ + "/secrets/c1";
  ASSERT_EQ(::stat(directory.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0700u);
  struct statfs kind {};
  ASSERT_EQ(::statfs(directory.c_str(), &kind), 0);
  EXPECT_TRUE(kind.f_type == 0x01021994 || kind.f_type == static_cast<long>(0x858458f6));
  struct statvfs flags {};
  ASSERT_EQ(::statvfs(directory.c_str(), &flags), 0);
  constexpr unsigned long kWanted = ST_NOSUID | ST_NODEV | ST_NOEXEC;
  EXPECT_EQ(flags.f_flag & kWanted, kWanted);
}

TEST_F(MemoryFilesTest, TheLargestPayloadsFit) {
  std::vector<MemoryFile> many(30);
  for (MemoryFile& file : many) file.data.assign(1'023'999, 'x');
  EXPECT_TRUE(files_.write("c1", many));
  std::vector<MemoryFile> too_many(270);
  for (MemoryFile& file : too_many) file.data.assign(1'023'999, 'x');
  EXPECT_EQ(files_.write("c1", too_many).error().code(), StatusCode::kResourceExhausted);
}

TEST_F(MemoryFilesTest, RemovalLeavesNothingEvenToWhoHoldsAFile) {
  const auto paths = files_.write("c1", {{std::string(100'000, 's'), 0, 0, 0444}});
  ASSERT_TRUE(paths);
  const UniqueFd held(::open((*paths)[0].c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(files_.remove("c1").ok());
  EXPECT_FALSE(fs::exists(root_ + "/secrets/c1"));
  EXPECT_FALSE(mounted(root_ + "/secrets/c1"));
  struct stat about {};
  ASSERT_EQ(::fstat(held.get(), &about), 0);
  EXPECT_EQ(about.st_size, 0);
  EXPECT_TRUE(files_.remove("c1").ok()) << "nothing is fine";
  EXPECT_TRUE(files_.list().empty());
}

TEST_F(MemoryFilesTest, WhatACrashLeftIsReplaced) {
  ASSERT_TRUE(files_.write("c1", {{"old", 0, 0, 0444}, {"older", 0, 0, 0444}}));
  const auto paths = files_.write("c1", {{"new", 0, 0, 0444}});
  ASSERT_TRUE(paths) << paths.error().to_string();
  EXPECT_EQ(*read_file((*paths)[0]), "new");
  EXPECT_FALSE(fs::exists(root_ + "/secrets/c1/1"));
  // Killed between the directory and the mount.
  ASSERT_TRUE(make_directory(root_ + "/secrets/c2", 0700).ok());
  EXPECT_EQ(files_.list(), (std::vector<std::string>{"c1", "c2"}));
  EXPECT_TRUE(files_.remove("c2").ok());
  EXPECT_EQ(files_.list(), (std::vector<std::string>{"c1"}));
}

}  // namespace
}  // namespace muster::agent
