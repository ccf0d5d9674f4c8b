// Data keys: bound records, rotation without a rewrite, the unlock key.
#include "raft/storage/key_ring.h"

#include <sys/stat.h>

#include "raft/storage/record.h"
#include "tests/raft/storage/store_fixture.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class KeyRingTest : public StoreFixture {
 protected:
  fs::path key_file() const { return dir / "raft/log.key"; }
  static std::string unlock_key(char c) { return std::string(32, c); }
};

TEST_F(KeyRingTest, TheFileIsTheOwnersAlone) {
  ASSERT_TRUE(add(*open(), 1, 1, {"a"}).ok());
  struct stat info {};
  ASSERT_EQ(stat(key_file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  fs::permissions(key_file(), fs::perms::others_read, fs::perm_options::add);
  EXPECT_EQ(refused().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused().message(), HasSubstr("readable by others"));
}

TEST_F(KeyRingTest, DamageIsToldFromAWrongKey) {
  options.unlock_key = unlock_key('u');
  open();
  const std::string good = *read_file(key_file());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    std::ofstream(key_file(), std::ios::binary | std::ios::trunc) << bad;
    const auto ring = KeyRing::load(key_file(), options.unlock_key);
    ASSERT_FALSE(ring.has_value()) << "byte " << at;
    ASSERT_NE(ring.error().code(), StatusCode::kUnauthenticated) << "byte " << at;
    ASSERT_THAT(ring.error().message(), Not(HasSubstr(good.substr(good.find("key 1"), 20))));
  }
  for (size_t size = 0; size < good.size(); ++size) {
    std::ofstream(key_file(), std::ios::binary | std::ios::trunc) << good.substr(0, size);
    ASSERT_FALSE(KeyRing::load(key_file(), options.unlock_key).has_value()) << size;
  }
}

TEST_F(KeyRingTest, AnUnlockKeyGuardsTheLog) {
  ASSERT_TRUE(add(*open(), 1, 1, {"a"}).ok());
  const std::string open_file = *read_file(key_file());
  const std::string key_digits = open_file.substr(open_file.find("key 1 0 ") + 8, 64);
  {
    auto store = open();
    EXPECT_EQ(store->rewrap("short").code(), StatusCode::kInvalidArgument);
    ASSERT_TRUE(store->rewrap(unlock_key('u')).ok());
    ASSERT_TRUE(add(*store, 2, 1, {"b"}).ok());
  }
  EXPECT_THAT(*read_file(key_file()), Not(HasSubstr(key_digits)));
  EXPECT_EQ(refused().reason(), "locked");
  EXPECT_THAT(refused().message(), HasSubstr("muster swarm unlock"));
  EXPECT_EQ(refused().code(), StatusCode::kUnavailable);
  options.unlock_key = unlock_key('x');
  EXPECT_EQ(refused().code(), StatusCode::kUnauthenticated);
  EXPECT_EQ(refused().reason(), "wrong-unlock-key");
  EXPECT_THAT(refused().message(), HasSubstr("invalid key provided"));
  options.unlock_key = unlock_key('u');
  {
    auto store = open();
    EXPECT_THAT(texts(*store), ElementsAre("1:1:a", "2:1:b"));
    // Changed, and with new data keys while it is wrapped.
    ASSERT_TRUE(store->rewrap(unlock_key('v')).ok());
    ASSERT_TRUE(store->rotate_data_key().ok());
    ASSERT_TRUE(add(*store, 3, 1, {"c"}).ok());
  }
  EXPECT_EQ(refused().reason(), "wrong-unlock-key");
  options.unlock_key = unlock_key('v');
  ASSERT_TRUE(open()->rewrap(std::nullopt).ok());
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:1:b", "3:1:c")) << "one not needed is fine";
  options.unlock_key.reset();
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:1:b", "3:1:c"));
}

// swarmkit's rule: a new key for new records; the old one goes with the last that needs it.
TEST_F(KeyRingTest, RotationKeepsTheOldKeyAsLongAsItIsNeeded) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
    ASSERT_TRUE(snapshot(*store, 1, 1, 1).ok());
    ASSERT_TRUE(store->rotate_data_key().ok());
    EXPECT_EQ(store->data_keys(), 2U);
    ASSERT_TRUE(add(*store, 3, 1, {"c", "d"}).ok());
  }
  {
    auto store = open();
    EXPECT_EQ(store->data_keys(), 2U);
    EXPECT_THAT(texts(*store), ElementsAre("1:1:a", "2:1:b", "3:1:c", "4:1:d"));
    EXPECT_EQ(state_of(*store), "state");
    ASSERT_TRUE(snapshot(*store, 3, 1, 2).ok());
    EXPECT_EQ(store->data_keys(), 2U) << "entry 2 is kept";
    ASSERT_TRUE(snapshot(*store, 4, 1, 3).ok());
    EXPECT_EQ(store->data_keys(), 1U);
  }
  auto store = open();
  EXPECT_EQ(store->data_keys(), 1U);
  EXPECT_THAT(texts(*store), ElementsAre("3:1:c", "4:1:d"));
  EXPECT_EQ(state_of(*store), "state");
}

TEST_F(KeyRingTest, ASnapshotUnderWayKeepsItsKey) {
  auto store = open();
  ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
  auto received = *store->create_snapshot(50, 1);
  ASSERT_TRUE(received->add("fifty").ok());
  ASSERT_TRUE(store->rotate_data_key().ok());
  ASSERT_TRUE(snapshot(*store, 2, 1, 3).ok());
  EXPECT_EQ(store->data_keys(), 2U);
  ASSERT_TRUE(received->finish().ok());
  received.reset();
  ASSERT_TRUE(add(*store, 3, 1, {"c"}).ok());
  ASSERT_TRUE(snapshot(*store, 3, 1, 4).ok());
  EXPECT_EQ(store->data_keys(), 2U) << "complete, and to be named by the next step";
  ASSERT_TRUE(install(*store, {50, 1, group_of({1})}, 1).ok());
  EXPECT_EQ(state_of(*store), "fifty");
  EXPECT_EQ(store->data_keys(), 2U);
  ASSERT_TRUE(add(*store, 51, 1, {"d"}).ok());
  ASSERT_TRUE(snapshot(*store, 51, 1, 52).ok());
  EXPECT_EQ(store->data_keys(), 1U);
}

TEST_F(KeyRingTest, ManyRotationsNeedASnapshotSometimes) {
  auto store = open();
  std::vector<std::string> expected;
  for (Index i = 1; i <= 15; ++i) {
    ASSERT_TRUE(add(*store, i, 1, {"x"}).ok());
    ASSERT_TRUE(store->rotate_data_key().ok());
    expected.push_back(fmt::format("{}:1:x", i));
  }
  EXPECT_EQ(store->rotate_data_key().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(texts(*store), expected);
  for (Index i = 16; i <= 30; ++i) {
    ASSERT_TRUE(add(*store, i, 1, {"x"}).ok());
    ASSERT_TRUE(snapshot(*store, i, 1, i).ok());
    ASSERT_TRUE(store->rotate_data_key().ok()) << i;
  }
  store.reset();
  EXPECT_THAT(texts(*open()), ElementsAre("30:1:x"));
}

TEST_F(KeyRingTest, NumbersBeginAgainAndPassOverKeysInUse) {
  const auto ring = *KeyRing::create(dir / "key", {}, {});
  std::set<uint8_t> seen;
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(ring->rotate(0).ok());
    const uint8_t id = ring->current()->id();
    EXPECT_NE(id, 0);
    EXPECT_NE(id, 1) << "the first one is needed all the time";
    seen.insert(id);
    ASSERT_TRUE(ring->retain({1}).ok());
    ASSERT_EQ(ring->size(), 2U);
  }
  EXPECT_EQ(seen.size(), 254U);
}

TEST_F(KeyRingTest, AKeyIsChangedByItselfLongBeforeItsLimit) {
  options.entries_per_key = 10;
  auto store = open();
  const auto key_of_file = [&] {
    const std::string text = *read_file(key_file());
    return text.substr(text.find("\nkey "), 12);
  };
  const std::string before = key_of_file();
  ASSERT_TRUE(add(*store, 1, 1, std::vector<std::string>(9, "x")).ok());
  ASSERT_TRUE(snapshot(*store, 9, 1, 10).ok());
  EXPECT_EQ(key_of_file(), before);
  ASSERT_TRUE(add(*store, 10, 1, {"x"}).ok());
  ASSERT_TRUE(snapshot(*store, 10, 1, 11).ok());
  EXPECT_EQ(store->data_keys(), 2U) << "the snapshot is of the old one still";
  ASSERT_TRUE(add(*store, 11, 1, {"x"}).ok());
  ASSERT_TRUE(snapshot(*store, 11, 1, 12).ok());
  EXPECT_EQ(store->data_keys(), 1U);
  EXPECT_NE(key_of_file(), before);
}

TEST_F(KeyRingTest, IdsAreWords) {
  options.identity.cluster_id = "two\nlines";
  EXPECT_EQ(refused().code(), StatusCode::kInvalidArgument);
}

// Cluster, node, log, kind, index, term and every byte of the head are authenticated.
TEST(Record, EveryFieldIsAuthenticated) {
  char name[] = "/tmp/muster-key-XXXXXX";
  const fs::path dir = mkdtemp(name);
  const auto ring = *KeyRing::create(dir / "key", {"c1", "n1", {1}}, {});
  const Chain before{'c'};
  const Record record = *encode_record(*ring, *ring->current(), entry(7, 3, "payload"), before);
  const std::string bytes = record.head + record.sealed;
  EXPECT_EQ(decode_record(*ring, 7, bytes, before)->bytes(), "payload");
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const auto decoded = decode_record(*ring, 7, bad, before);
    ASSERT_FALSE(decoded.has_value()) << "bit " << bit;
    ASSERT_EQ(decoded.error().code(), StatusCode::kDataLoss);
  }
  EXPECT_FALSE(decode_record(*ring, 8, bytes, before).has_value());
  EXPECT_FALSE(decode_record(*ring, 7, bytes, Chain{'d'}).has_value());
  EXPECT_FALSE(decode_record(*ring, 7, bytes.substr(0, 20), before).has_value());

  // The same key in the ring of another node, or of another log.
  std::string text = *read_file(dir / "key");
  const auto other = [&](const std::string& from, const std::string& to) {
    std::string changed = text.substr(0, text.rfind("sum "));
    changed.replace(changed.find(from), from.size(), to);
    ChainHash hash;
    std::string sum;
    const Chain chain = hash.next(kNoChain, {changed});
    for (size_t i = 0; i < 8; ++i) sum += fmt::format("{:02x}", static_cast<uint8_t>(chain[i]));
    EXPECT_TRUE(
        write_file_atomic(dir / "other", changed + "sum " + sum + "\n", 0600, Durability::kNone)
            .ok());
    return *KeyRing::load(dir / "other", {});
  };
  EXPECT_TRUE(decode_record(*other("lock no", "lock no"), 7, bytes, before).has_value());
  EXPECT_FALSE(decode_record(*other("node n1", "node n2"), 7, bytes, before).has_value());
  EXPECT_FALSE(decode_record(*other("cluster c1", "cluster c2"), 7, bytes, before).has_value());
  const std::string log = text.substr(text.find("log ", 17), 29);
  EXPECT_FALSE(
      decode_record(*other(log, "log " + std::string(25, 'z')), 7, bytes, before).has_value());
  fs::remove_all(dir);
}

TEST(Record, AKindOfALaterVersionStopsTheMember) {
  char name[] = "/tmp/muster-key-XXXXXX";
  const fs::path dir = mkdtemp(name);
  const auto ring = *KeyRing::create(dir / "key", {}, {});
  const Record record = *encode_record(*ring, *ring->current(),
                                       entry(1, 1, "x", static_cast<EntryKind>(9)), kNoChain);
  const auto decoded = decode_record(*ring, 1, record.head + record.sealed, kNoChain);
  EXPECT_EQ(decoded.error().reason(), "feature-level");
  fs::remove_all(dir);
}

}  // namespace
}  // namespace muster::raft
