#include "deploy/daemon/backup.h"

#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

std::string make_backup(const std::string& passphrase, const std::vector<std::string>& chunks) {
  auto writer = BackupWriter::create(passphrase, "cluster1", 77);
  EXPECT_TRUE(writer);
  std::string out = writer->beginning();
  for (const std::string& chunk : chunks) out += *writer->chunk(chunk);
  return out + *writer->end();
}

Result<BackupState> read(const std::string& passphrase, const std::string& bytes,
                         size_t piece = 1000) {
  BackupReader reader(passphrase);
  for (size_t at = 0; at < bytes.size(); at += piece) {
    MUSTER_TRY(reader.add(std::string_view(bytes).substr(at, piece)));
  }
  return reader.finish();
}

// scrypt is slow on purpose: one file for all tests.
const std::string& sample() {
  static const std::string kBytes = make_backup("tell nobody", {std::string(5000, 'a'), "b", ""});
  return kBytes;
}

TEST(Backup, ComesBackInPiecesOfAnySize) {
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{100'000}}) {
    const auto state = read("tell nobody", sample(), piece);
    ASSERT_TRUE(state) << state.error().message();
    EXPECT_EQ(state->cluster_id, "cluster1");
    EXPECT_EQ(state->version, 77u);
    EXPECT_EQ(state->chunks, (std::vector<std::string>{std::string(5000, 'a'), "b", ""}));
  }
}

TEST(Backup, OpensWithItsPassphraseAlone) {
  const auto state = read("tell everybody", sample());
  EXPECT_EQ(state.error().reason(), "wrong-passphrase");
  EXPECT_FALSE(BackupWriter::create("", "cluster1", 1));
}

TEST(Backup, HoldsNothingReadable) {
  EXPECT_EQ(sample().find("cluster1"), std::string::npos);
  EXPECT_EQ(sample().find("aaaa"), std::string::npos);
}

TEST(Backup, CutOffIsNotTakenForWhole) {
  for (const size_t cut : {size_t{1}, size_t{30}, size_t{100}}) {
    const auto state = read("tell nobody", sample().substr(0, sample().size() - cut));
    ASSERT_FALSE(state);
    EXPECT_EQ(state.error().code(), StatusCode::kDataLoss);
  }
  EXPECT_EQ(read("tell nobody", sample().substr(0, 5)).error().code(),
            StatusCode::kInvalidArgument);
}

TEST(Backup, ChangedBytesAreFound) {
  for (const size_t at : {sample().size() - 5, sample().size() / 2, size_t{40}}) {
    std::string bytes = sample();
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    EXPECT_FALSE(read("tell nobody", bytes)) << at;
  }
}

TEST(Backup, NothingFollowsTheEnd) {
  EXPECT_EQ(read("tell nobody", sample() + "more").error().code(), StatusCode::kDataLoss);
}

TEST(Backup, OtherFilesAreNoBackups) {
  EXPECT_EQ(read("x", std::string(100, 'z')).error().message(), "this is no backup of a swarm");
  std::string newer = sample();
  newer[8] = 9;
  EXPECT_NE(read("tell nobody", newer).error().message().find("newer muster"), std::string::npos);
}

}  // namespace
}  // namespace muster::daemon
