// Layers as they are, and as somebody hostile would make them.
#include "agent/images/unpacker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>

#include "agent/images/digest.h"
#include "base/file.h"
#include "base/remove_tree.h"
#include "tests/agent/images/tar_builder.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

class UnpackerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-unpack-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    top_ = path;
    target_ = top_ / "layer";
    ASSERT_TRUE(make_directory(target_, 0755).ok());
    ASSERT_TRUE(write_file_atomic(top_ / "outside", "precious", 0600, Durability::kNone).ok());
    options_.ownership = Ownership::kIgnore;
    options_.whiteouts = Whiteouts::kNone;
  }
  void TearDown() override {
    EXPECT_EQ(*read_file(top_ / "outside"), "precious");
    struct stat st {};
    EXPECT_EQ(lstat((top_ / "outside").c_str(), &st), 0);
    EXPECT_EQ(st.st_nlink, 1U) << "linked into the layer";
    size_t names = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(top_)) ++names;
    EXPECT_EQ(names, 2U) << "something was made beside the layer";
    EXPECT_TRUE(remove_tree(top_.string()).ok());
  }

  Result<UnpackSummary> unpack(const std::string& bytes) {
    return unpack_layer_bytes(bytes, target_, options_);
  }
  // The failure's message, "" for success.
  std::string refusal(const std::string& bytes, StatusCode code = StatusCode::kDataLoss) {
    const auto result = unpack(bytes);
    if (result) return "";
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    return result.error().message();
  }
  std::string text(const std::string& name) { return read_file(target_ / name).value_or("?"); }
  struct stat facts(const std::string& name) {
    struct stat st {};
    EXPECT_EQ(lstat((target_ / name).c_str(), &st), 0) << name;
    return st;
  }

  fs::path top_;
  fs::path target_;
  UnpackOptions options_;
};

TEST_F(UnpackerTest, FilesFoldersAndLinksAppearWithModesAndTimes) {
  Tar tar;
  tar.directory("bin", 0751).file("bin/sh", "shell", 04755).symlink("sh", "bin/sh");
  tar.hard_link("bin/ash", "bin/sh").file("./etc//passwd", "root");
  const std::string bytes = tar.bytes();
  const auto summary = unpack(bytes);
  ASSERT_TRUE(summary.has_value()) << summary.error().message();
  EXPECT_EQ(summary->diff_id, digest_of(bytes));
  EXPECT_EQ(summary->entries, 5U);
  EXPECT_EQ(summary->bytes, 9U);
  EXPECT_EQ(text("bin/ash"), "shell");
  EXPECT_EQ(facts("bin/ash").st_ino, facts("bin/sh").st_ino);
  EXPECT_EQ(facts("bin/sh").st_mode, S_IFREG | 04755U);
  EXPECT_EQ(facts("bin").st_mode, S_IFDIR | 0751U);
  EXPECT_EQ(facts("bin").st_mtim.tv_sec, 1'700'000'000) << "its children came later";
  EXPECT_EQ(text("etc/passwd"), "root");
  EXPECT_EQ(fs::read_symlink(target_ / "sh"), "bin/sh");
}

TEST_F(UnpackerTest, CompressedLayersHashToWhatTheyHold) {
  Tar plain;
  plain.file("a", std::string(100'000, 'a'));
  const std::string diff_id = digest_of(plain.bytes());
  for (const auto compression : {Tar::Compression::kGzip, Tar::Compression::kZstd}) {
    Tar tar(compression);
    tar.file("a", std::string(100'000, 'a'));
    const auto summary = unpack(tar.bytes());
    ASSERT_TRUE(summary.has_value()) << summary.error().message();
    EXPECT_EQ(summary->diff_id, diff_id);
  }
}

TEST_F(UnpackerTest, TheLaterEntryOfANameWins) {
  Tar tar;
  tar.file("a", "1").file("a", "2").directory("b").file("b/x").file("b", "file now");
  tar.file("c").directory("c").file("c/y", "z").symlink("d", "a").file("d", "own");
  ASSERT_TRUE(unpack(tar.bytes()).has_value());
  EXPECT_EQ(text("a"), "2");
  EXPECT_EQ(text("b"), "file now");
  EXPECT_EQ(text("c/y"), "z");
  EXPECT_EQ(text("d"), "own");
}

TEST_F(UnpackerTest, NamesThatClimbOutAreRefused) {
  for (const char* name : {"../outside", "a/../../outside", "..", "a/..", "/../outside"}) {
    Tar tar;
    tar.file(name, "overwritten");
    EXPECT_NE(refusal(tar.bytes()).find("leaves the image through .."), std::string::npos) << name;
  }
}

TEST_F(UnpackerTest, AnAbsoluteNameStaysInside) {
  Tar tar;
  tar.file("/etc/muster-unpacker-test", "inside");
  ASSERT_TRUE(unpack(tar.bytes()).has_value());
  EXPECT_EQ(text("etc/muster-unpacker-test"), "inside");
  EXPECT_FALSE(fs::exists("/etc/muster-unpacker-test"));
}

TEST_F(UnpackerTest, NothingIsWrittenThroughALink) {
  for (const std::string& link : {top_.string(), std::string(".."), std::string(".")}) {
    Tar tar;
    tar.symlink("door", link).file("door/outside", "overwritten");
    EXPECT_NE(refusal(tar.bytes()).find("goes through \"door\""), std::string::npos) << link;
  }
  Tar file;
  file.symlink("f", (top_ / "outside").string()).file("f", "replaces the link");
  ASSERT_TRUE(unpack(file.bytes()).has_value());
  EXPECT_EQ(text("f"), "replaces the link");
  Tar directory;
  directory.symlink("g", top_.string()).directory("g", 0700);
  ASSERT_TRUE(unpack(directory.bytes()).has_value());
  EXPECT_TRUE(S_ISDIR(facts("g").st_mode));
}

TEST_F(UnpackerTest, HardLinksReachOnlyFilesOfTheLayer) {
  Tar climbing;
  climbing.hard_link("a", "../outside");
  EXPECT_NE(refusal(climbing.bytes()).find("leaves the image"), std::string::npos);
  Tar absolute;
  absolute.hard_link("a", (top_ / "outside").string());
  EXPECT_NE(refusal(absolute.bytes()).size(), 0U);
  Tar through;
  through.symlink("door", top_.string()).hard_link("a", "door/outside");
  EXPECT_NE(refusal(through.bytes()).find("goes through"), std::string::npos);
  // A link to a link is a link to the link itself, never to where it leads.
  Tar link;
  link.symlink("s", (top_ / "outside").string()).hard_link("t", "s");
  ASSERT_TRUE(unpack(link.bytes()).has_value());
  EXPECT_TRUE(S_ISLNK(facts("t").st_mode));
  Tar folder;
  folder.directory("d").hard_link("e", "d");
  EXPECT_NE(refusal(folder.bytes()).find("hard link to a directory"), std::string::npos);
  Tar missing;
  missing.hard_link("a", "nowhere");
  EXPECT_NE(refusal(missing.bytes()).find("which is missing"), std::string::npos);
  Tar self;
  self.file("me", "kept").hard_link("me", "me");
  ASSERT_TRUE(unpack(self.bytes()).has_value());
  EXPECT_EQ(text("me"), "kept");
}

TEST_F(UnpackerTest, DamagedAndCutOffLayersAreRefused) {
  Tar tar(Tar::Compression::kGzip);
  std::string noise;
  for (uint64_t i = 1, x = 1; i < 20'000; ++i) {
    x = x * 6364136223846793005U + 1442695040888963407U;
    noise.push_back(static_cast<char>(x >> 56));
  }
  tar.file("a", noise).file("b", "b");
  const std::string bytes = tar.bytes();
  const std::string diff_id = unpack(bytes)->diff_id;
  for (const size_t keep : {bytes.size() - 1, bytes.size() / 2, size_t{30}}) {
    EXPECT_NE(refusal(bytes.substr(0, keep)), "") << keep << " of " << bytes.size();
  }
  std::string flipped = bytes;
  flipped[bytes.size() / 2] = static_cast<char>(flipped[bytes.size() / 2] ^ 0x55);
  // Within incompressible data a change shows in the digest alone, by which layers are judged.
  const auto changed = unpack(flipped);
  if (changed) {
    EXPECT_NE(changed->diff_id, diff_id);
  }
  Tar plain;
  plain.file("a", noise);
  EXPECT_NE(refusal(plain.bytes().substr(0, 10'000)), "");
  EXPECT_NE(refusal("this is not an archive at all, but it is long enough to look at\n"), "");
}

TEST_F(UnpackerTest, AnEmptyLayerIsALayer) {
  const auto nothing = unpack("");
  ASSERT_TRUE(nothing.has_value()) << nothing.error().message();
  EXPECT_EQ(nothing->entries, 0U);
}

TEST_F(UnpackerTest, LimitsAreNamedWhenExceeded) {
  constexpr auto kExhausted = StatusCode::kResourceExhausted;
  options_.limits.bytes_max = 1000;
  Tar big;
  big.file("a", std::string(600, 'x')).file("b", std::string(600, 'x'));
  EXPECT_EQ(refusal(big.bytes(), kExhausted), "the layer is larger than 1000 bytes");
  options_.limits = {};
  options_.limits.entries_max = 3;
  Tar many;
  for (int i = 0; i < 4; ++i) many.file(std::to_string(i));
  EXPECT_EQ(refusal(many.bytes(), kExhausted), "the layer has more than 3 entries");
  options_.limits = {};
  options_.limits.path_bytes_max = 20;
  Tar wide;
  wide.file("aaaaaaaaaa/bbbbbbbbbb/c");
  EXPECT_EQ(refusal(wide.bytes(), kExhausted), "a name in the layer is longer than 20 bytes");
  options_.limits = {};
  options_.limits.depth_max = 3;
  Tar deep;
  deep.file("a/b/c/d");
  EXPECT_NE(refusal(deep.bytes()).find("nested too deep"), std::string::npos);
  options_.limits = {};
  options_.limits.xattr_bytes_max = 10;
  Tar attributes;
  attributes.file("a", "", 0644, {{"user.a", std::string(11, 'x')}});
  EXPECT_NE(refusal(attributes.bytes(), kExhausted).find("attributes exceed 10"),
            std::string::npos);
}

TEST_F(UnpackerTest, ABombEndsEarly) {
  options_.limits.ratio_floor_bytes = 1 << 20;
  options_.limits.ratio_max = 100;
  Tar bomb(Tar::Compression::kGzip);
  bomb.file("zeros", std::string(32 << 20, '\0'));
  const std::string bytes = bomb.bytes();
  ASSERT_LT(bytes.size(), 100'000U);
  EXPECT_NE(refusal(bytes, StatusCode::kResourceExhausted).find("compressed more than 100:1"),
            std::string::npos);
  EXPECT_LT(facts("zeros").st_size, 24 << 20);
}

TEST_F(UnpackerTest, ACancelledOneEnds) {
  const std::atomic<bool> cancelled{true};
  options_.cancelled = &cancelled;
  Tar tar;
  tar.file("a", "a");
  const auto result = unpack(tar.bytes());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), StatusCode::kCancelled);
}

TEST_F(UnpackerTest, OddNamesAreTakenAsTheyAre) {
  Tar tar;
  tar.file("caf\xc3\xa9", "u").file("white space\n\"", "w").file("-rf", "-");
  ASSERT_TRUE(unpack(tar.bytes()).has_value());
  EXPECT_EQ(text("caf\xc3\xa9"), "u");
  EXPECT_EQ(text("white space\n\""), "w");
  EXPECT_EQ(text("-rf"), "-");
  Tar long_name;
  long_name.file(std::string(300, 'n'));
  EXPECT_NE(refusal(long_name.bytes()).find("too long a name"), std::string::npos);
}

TEST_F(UnpackerTest, AWhiteoutOfNothingSensibleIsRefused) {
  options_.whiteouts = Whiteouts::kOverlay;
  for (const char* name : {".wh.", ".wh..", "a/.wh...", ".wh..."}) {
    Tar tar;
    tar.file(name);
    EXPECT_NE(refusal(tar.bytes()).find("deletes nothing sensible"), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace muster::agent
