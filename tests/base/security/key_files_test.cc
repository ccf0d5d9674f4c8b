#include "base/security/key_files.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "base/security/key_wrap.h"
#include "base/security/tls_identity.h"

namespace muster::security {
namespace {

constexpr WallTime kNow{1'790'000'000'000'000'000};

class KeyFiles : public testing::Test {
 protected:
  ~KeyFiles() override { std::filesystem::remove_all(dir_); }

  NodeCredentials credentials(const std::string& node_id = "n1",
                              CertificateRole role = CertificateRole::kManager,
                              const std::string& cluster_id = "c1") {
    NodeCredentials made{root_.certificate_pem, {{}, *generate_key()}};
    made.node.certificate_pem = *sign_request(root_, *create_signing_request(made.node.key_pem),
                                              {node_id, role, cluster_id}, kNow, 24h);
    return made;
  }
  std::string key_on_disk() const { return *read_file(dir_ / "current/node.key"); }
  long entries() const {
    return std::distance(std::filesystem::directory_iterator(dir_),
                         std::filesystem::directory_iterator());
  }

  const std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / ("muster-keys-" + SystemRng().id());
  const CertificateAndKey root_ = *create_root(kNow);
};

TEST_F(KeyFiles, CredentialsAreSwappedAsAPairAndTheKeyIsPrivate) {
  EXPECT_EQ(load_credentials(dir_).error().code(), StatusCode::kNotFound);
  for (int round = 0; round < 2; ++round) {
    const NodeCredentials saved = credentials();
    ASSERT_TRUE(save_credentials(dir_, saved).ok());
    const auto loaded = load_credentials(dir_);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->node.certificate_pem, saved.node.certificate_pem);
    EXPECT_EQ(loaded->node.key_pem, saved.node.key_pem);
  }
  struct stat info {};
  ASSERT_EQ(stat((dir_ / "current/node.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(entries(), 2);  // the link and the generation it names
}

TEST_F(KeyFiles, WhatAKilledWriterLeftGoesWithTheNextSaveOrLoad) {
  ASSERT_TRUE(save_credentials(dir_, credentials()).ok());
  const auto leave_behind = [&] {
    ASSERT_TRUE(make_directory(dir_ / "halfway", 0700).ok());
    ASSERT_TRUE(write_file_atomic(dir_ / "halfway/node.key", "x", 0600, Durability::kNone).ok());
    std::filesystem::create_symlink("halfway", dir_ / "current.halfway");
  };
  leave_behind();
  ASSERT_TRUE(save_credentials(dir_, credentials()).ok());
  EXPECT_EQ(entries(), 2);
  leave_behind();
  ASSERT_TRUE(load_credentials(dir_));
  EXPECT_EQ(entries(), 2);
}

// A writer that was killed after the rename: the key of before lies beside the wrapped one.
TEST_F(KeyFiles, APlainKeyOfBeforeIsGoneOnceTheWrappedOneIsRead) {
  const NodeCredentials saved = credentials();
  const UnlockKey key = UnlockKey::generate();
  ASSERT_TRUE(save_credentials(dir_, saved).ok());
  const std::filesystem::path plain =
      dir_ / std::filesystem::read_symlink(dir_ / "current") / "node.key";
  const std::filesystem::path kept = dir_.string() + ".kept";
  std::filesystem::copy(plain.parent_path(), kept, std::filesystem::copy_options::recursive);
  ASSERT_TRUE(save_credentials(dir_, saved, key).ok());
  EXPECT_FALSE(std::filesystem::exists(plain));
  std::filesystem::rename(kept, plain.parent_path());
  // Also while nobody has unlocked it.
  EXPECT_EQ(load_credentials(dir_).error().reason(), "locked");
  EXPECT_FALSE(std::filesystem::exists(plain));
  EXPECT_EQ(load_credentials(dir_, key)->node.key_pem, saved.node.key_pem);
}

// It cannot be said that a swarm is locked while a key lies there as it is.
TEST_F(KeyFiles, AnEarlierKeyThatCannotBeRemovedIsAnError) {
  ASSERT_TRUE(save_credentials(dir_, credentials()).ok());
  ASSERT_TRUE(make_directory(dir_ / "earlier", 0700).ok());
  // A mount point cannot be removed, by root neither.
  ASSERT_EQ(::mount("none", (dir_ / "earlier").c_str(), "tmpfs", 0, nullptr), 0)
      << std::strerror(errno) << "; tests run as root";
  const Status saved = save_credentials(dir_, credentials(), UnlockKey::generate());
  const auto loaded = load_credentials(dir_);
  EXPECT_EQ(::umount((dir_ / "earlier").c_str()), 0);
  EXPECT_NE(saved.message().find("cannot remove earlier keys"), std::string::npos)
      << saved.to_string();
  EXPECT_FALSE(loaded);
}

TEST_F(KeyFiles, ALockedKeyIsNeverOnDiskAsItIs) {
  const NodeCredentials saved = credentials();
  const UnlockKey key = UnlockKey::generate();
  ASSERT_TRUE(save_credentials(dir_, saved, key).ok());
  EXPECT_TRUE(is_wrapped(key_on_disk()));
  EXPECT_EQ(key_on_disk().find("PRIVATE KEY"), std::string::npos);

  const auto locked = load_credentials(dir_);
  ASSERT_FALSE(locked);
  EXPECT_EQ(locked.error().reason(), "locked");
  EXPECT_EQ(load_credentials(dir_, UnlockKey::generate()).error().reason(), "wrong-unlock-key");
  EXPECT_EQ(load_credentials(dir_, key)->node.key_pem, saved.node.key_pem);
}

TEST_F(KeyFiles, LocksAreChangedInPlace) {
  const NodeCredentials saved = credentials();
  const UnlockKey first = UnlockKey::generate();
  const UnlockKey second = UnlockKey::generate();
  ASSERT_TRUE(save_credentials(dir_, saved).ok());
  ASSERT_TRUE(rewrap_credentials(dir_, {}, first).ok());
  ASSERT_TRUE(rewrap_credentials(dir_, first, second).ok());
  EXPECT_FALSE(load_credentials(dir_, first));
  // With the wrong key nothing changes.
  EXPECT_FALSE(rewrap_credentials(dir_, first, {}).ok());
  EXPECT_FALSE(rewrap_credentials(dir_, {}, {}).ok());
  EXPECT_TRUE(is_wrapped(key_on_disk()));
  ASSERT_TRUE(rewrap_credentials(dir_, second, {}).ok());
  EXPECT_FALSE(is_wrapped(key_on_disk()));
  EXPECT_EQ(load_credentials(dir_)->node.key_pem, saved.node.key_pem);
  EXPECT_EQ(entries(), 2);
}

TEST(UnlockKey, HasOneTextInSwarmsForm) {
  const UnlockKey key = UnlockKey::generate();
  const std::string text = key.str();
  EXPECT_EQ(text.size(), 52u);
  EXPECT_TRUE(text.starts_with("SWMKEY-1-"));
  const auto parsed = UnlockKey::parse(text);
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(*parsed == key);
  EXPECT_FALSE(UnlockKey::generate() == key);
  EXPECT_EQ(UnlockKey::parse("SWMKEY-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
                ->bytes()
                .substr(0, 4),
            std::string_view("\0\1\2\3", 4));
}

TEST(UnlockKey, AnythingElseIsAWrongKeyAndNotRepeated) {
  const std::string good = "SWMKEY-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
  for (const std::string& bad :
       {std::string(), good + "=", good + "A", good.substr(0, 51), "SWMKEY-2-" + good.substr(9),
        good.substr(0, 51) + "9",  // the same bytes, and a bit beyond them
        good.substr(0, 20) + " " + good.substr(21), good.substr(0, 20) + "=" + good.substr(21),
        " " + good, good.substr(0, 20) + "-" + good.substr(21)}) {
    const auto parsed = UnlockKey::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code(), StatusCode::kUnauthenticated);
    EXPECT_EQ(parsed.error().message(), "swarm could not be unlocked: invalid key provided");
  }
}

TEST(KeyWrap, OnlyTheKeyAndThePurposeOpenIt) {
  const UnlockKey key = UnlockKey::generate();
  for (const std::string& plain :
       {std::string(32, 'k'), std::string("-----BEGIN\n"), std::string()}) {
    const std::string wrapped = wrap_key(plain, key, "raft.key");
    EXPECT_TRUE(is_wrapped(wrapped));
    EXPECT_FALSE(is_wrapped(plain));
    EXPECT_EQ(*unwrap_key(wrapped, key, "raft.key"), plain);
    EXPECT_EQ(unwrap_key(wrapped, key, "node.key").error(), wrong_unlock_key());
    EXPECT_EQ(unwrap_key(wrapped, UnlockKey::generate(), "raft.key").error(), wrong_unlock_key());
    for (size_t size = 0; size < wrapped.size(); ++size) {
      EXPECT_FALSE(unwrap_key(wrapped.substr(0, size), key, "raft.key")) << size;
    }
  }
}

TEST_F(KeyFiles, AnIdentityChangesOnlyToOneOfTheSameNode) {
  const NodeCredentials first = credentials();
  auto identity = *TlsIdentity::create(first);
  EXPECT_EQ(identity->current()->generation, 1u);
  EXPECT_EQ(identity->current()->facts.identity.node_id, "n1");

  EXPECT_TRUE(identity->replace(credentials("n1", CertificateRole::kWorker)).ok());
  EXPECT_EQ(identity->current()->generation, 2u);
  EXPECT_EQ(identity->current()->facts.identity.role, CertificateRole::kWorker);

  NodeCredentials mixed = credentials();
  mixed.node.key_pem = first.node.key_pem;
  EXPECT_FALSE(identity->replace(mixed).ok());
  EXPECT_FALSE(identity->replace(credentials("n2")).ok());
  EXPECT_FALSE(identity->replace(credentials("n1", CertificateRole::kManager, "c2")).ok());
  NodeCredentials untrusted = credentials();
  untrusted.root_pem = create_root(kNow)->certificate_pem;
  EXPECT_FALSE(identity->replace(untrusted).ok());
  EXPECT_FALSE(identity->replace({}).ok());
  EXPECT_EQ(identity->current()->generation, 2u);
}

}  // namespace
}  // namespace muster::security
