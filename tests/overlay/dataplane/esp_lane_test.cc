#include "overlay/dataplane/esp/esp_lane.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>

#include "base/file.h"
#include "overlay/dataplane/esp/esp_plan.h"

namespace muster::overlay {
namespace {

TEST(EspLaneTest, IsAnotherOneAfterEachStartOfTheHost) {
  const struct {
    const char* what;
    std::optional<EspLane> known;
    const char* boot_id;
    uint32_t lane;
  } cases[] = {
      {"the host runs on", EspLane{"a", 2}, "a", 2},
      {"it was started anew", EspLane{"a", 2}, "b", 3},
      {"after the last comes the first", EspLane{"a", kEspLanes - 1}, "b", 0},
      {"its kernel does not tell", EspLane{"", 1}, "", 2},
      {"its kernel tells no more", EspLane{"a", 1}, "", 2},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(lane_since(c.known, c.boot_id), (EspLane{c.boot_id, c.lane})) << c.what;
  }
  // Where nothing is known any one does, but the same for a musterd that is started anew.
  EXPECT_EQ(lane_since({}, "a"), lane_since({}, "a"));
  std::set<uint32_t> seen;
  for (char c = 'a'; c <= 'z'; ++c) seen.insert(lane_since({}, std::string(1, c)).lane);
  EXPECT_GT(seen.size(), 1u);
  EXPECT_LT(*seen.rbegin(), kEspLanes);
}

TEST(EspLaneTest, WhatIsMadeLaterBeginsWithAHigherNumberUntilTheCountBeginsAgain) {
  using namespace std::chrono_literals;
  const uint64_t second = 4096;
  const uint64_t below = uint64_t{1} << 30;
  const Duration period = 262'144s;
  const WallTime begin = WallTime{0} + 6500 * period;  // in 2023
  EXPECT_EQ(first_number(begin), 0u);
  EXPECT_EQ(first_number(begin + 1s), second);
  EXPECT_EQ(first_number(begin + 12h), 12 * 3600 * second);
  EXPECT_EQ(first_number(begin + period - 1ms), below - 5);
  EXPECT_EQ(first_number(begin + period), 0u);
  EXPECT_LT(first_number({INT64_MAX}), below);
  EXPECT_EQ(first_number({-1}), 0u);
}

TEST(EspLaneTest, WhatTheFileMaySay) {
  const EspLane lane{"7b1f2c3d-0000-4000-8000-000000000001", 3};
  EXPECT_EQ(parse_esp_lane(format_esp_lane(lane)), lane);
  EXPECT_EQ(parse_esp_lane("a 1"), (EspLane{"a", 1}));
  for (const char* text : {"", "\n", "a", "a ", "a x", "a 4", "a -1", "a 1 2", "a 1\n\n", "1"}) {
    EXPECT_EQ(parse_esp_lane(text), std::nullopt) << '"' << text << '"';
  }
}

class EspLaneFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / "muster-lane-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/lane";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  EspLaneFile file(const std::string& boot_id) { return {path_, boot_id, null_log()}; }

  std::string directory_, path_;
};

TEST_F(EspLaneFileTest, IsWrittenWhenItIsAskedForAndGoesOnFromThere) {
  EspLaneFile unused = file("a");
  EXPECT_FALSE(std::filesystem::exists(path_)) << "a node that encrypts nothing has none";
  const uint32_t first = file("a").lane();
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_EQ(file("a").lane(), first) << "musterd was started anew";
  EXPECT_EQ(file("b").lane(), (first + 1) % kEspLanes);
  EXPECT_EQ(file("b").lane(), (first + 1) % kEspLanes);
  EXPECT_EQ(file("c").lane(), (first + 2) % kEspLanes);
}

TEST_F(EspLaneFileTest, IsPassedOnWhenTheKernelForgets) {
  EspLaneFile lanes = file("a");
  const uint32_t first = lanes.lane();
  lanes.pass_on();
  EXPECT_EQ(lanes.lane(), (first + 1) % kEspLanes);
  EXPECT_EQ(file("a").lane(), (first + 1) % kEspLanes);
}

TEST_F(EspLaneFileTest, OneThatCannotBeReadIsMadeAnew) {
  ASSERT_TRUE(write_file_atomic(path_, "nonsense", 0600, Durability::kNone).ok());
  const uint32_t lane = file("a").lane();
  EXPECT_EQ(lane, lane_since({}, "a").lane);
  EXPECT_EQ(file("b").lane(), (lane + 1) % kEspLanes);
}

}  // namespace
}  // namespace muster::overlay
