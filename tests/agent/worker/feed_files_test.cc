#include "agent/worker/feed_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/worker/disk_files.h"

namespace muster::agent {
namespace {

class FeedFilesTest : public ::testing::Test {
 protected:
  ~FeedFilesTest() override { std::filesystem::remove_all(dir_); }

  static overlay::NetworkStep step(const std::string& network, bool complete,
                                   const std::string& task) {
    overlay::NetworkStep out;
    out.network_id = network;
    out.complete = complete;
    out.feed.add_endpoints()->set_task_id(task);
    return out;
  }
  // What a successor finds: "net!task" for a complete step, "net+task" for an increment.
  std::vector<std::string> found() {
    FeedFiles again(files_, dir_);
    const auto steps = again.load();
    EXPECT_TRUE(steps);
    std::vector<std::string> out;
    for (const auto& s : *steps) {
      out.push_back(s.network_id + (s.complete ? "!" : "+") + s.feed.endpoints(0).task_id());
    }
    return out;
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(dir_), {}));
  }
  void damage(const std::string& name) {
    std::ofstream(dir_ + "/" + name, std::ios::trunc) << "muster-net";
  }

  static std::string make_directory() {
    std::string path = "/tmp/muster-feeds-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    return path;
  }

  const std::string dir_ = make_directory();
  DiskFiles files_;
  FeedFiles feeds_{files_, dir_};
};

TEST_F(FeedFilesTest, ASuccessorFindsWhatWasToldInItsOrder) {
  ASSERT_TRUE(feeds_.load());
  EXPECT_TRUE(feeds_.wants_whole("n"));
  EXPECT_TRUE(feeds_.save(step("n", false, "lost")).ok());  // nothing it could follow on
  for (const char* task : {"a", "b", "c"}) {
    EXPECT_TRUE(feeds_.save(step("n", *task == 'a', task)).ok());
  }
  EXPECT_TRUE(feeds_.save(step("m", true, "x")).ok());
  EXPECT_FALSE(feeds_.wants_whole("n"));
  EXPECT_EQ(found(), (std::vector<std::string>{"m!x", "n!a", "n+b", "n+c"}));
  // It goes on from there.
  FeedFiles successor(files_, dir_);
  ASSERT_TRUE(successor.load());
  EXPECT_TRUE(successor.save(step("n", false, "d")).ok());
  EXPECT_EQ(found(), (std::vector<std::string>{"m!x", "n!a", "n+b", "n+c", "n+d"}));
}

TEST_F(FeedFilesTest, AWholeReplacesWhatWasBefore) {
  ASSERT_TRUE(feeds_.load());
  EXPECT_TRUE(feeds_.save(step("n", true, "a")).ok());
  for (size_t i = 0; i < FeedFiles::kIncrementsMax; ++i) {
    EXPECT_FALSE(feeds_.wants_whole("n"));
    EXPECT_TRUE(feeds_.save(step("n", false, "b")).ok());
  }
  EXPECT_TRUE(feeds_.wants_whole("n"));
  EXPECT_TRUE(feeds_.save(step("n", true, "c")).ok());
  EXPECT_FALSE(feeds_.wants_whole("n"));
  EXPECT_EQ(files(), 1u);
  EXPECT_TRUE(feeds_.save(step("n", false, "d")).ok());
  EXPECT_EQ(found(), (std::vector<std::string>{"n!c", "n+d"}));
}

TEST_F(FeedFilesTest, WhatWasRemovedIsNotFoundNorWhatFollowedOnIt) {
  ASSERT_TRUE(feeds_.load());
  EXPECT_TRUE(feeds_.save(step("n", true, "a")).ok());
  EXPECT_TRUE(feeds_.save(step("n", false, "b")).ok());
  EXPECT_TRUE(feeds_.remove("n").ok());
  EXPECT_TRUE(feeds_.remove("n").ok());
  EXPECT_EQ(files(), 0u);
  EXPECT_TRUE(feeds_.save(step("n", false, "c")).ok());
  EXPECT_TRUE(found().empty());
  EXPECT_TRUE(feeds_.save(step("n", true, "d")).ok());
  EXPECT_EQ(found(), (std::vector<std::string>{"n!d"}));
}

TEST_F(FeedFilesTest, DamageEndsWhatIsFoundOfItsNetwork) {
  ASSERT_TRUE(feeds_.load());
  for (const char* task : {"a", "b", "c"}) {
    EXPECT_TRUE(feeds_.save(step("n", *task == 'a', task)).ok());
    EXPECT_TRUE(feeds_.save(step("m", *task == 'a', task)).ok());
  }
  damage("m");
  damage("n.2");
  EXPECT_EQ(found(), (std::vector<std::string>{"n!a"}));
  EXPECT_EQ(files(), 1u);  // the rest means nothing
}

}  // namespace
}  // namespace muster::agent
