#include "manager/network_keys/key_ring.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace muster::manager::network_keys {
namespace {

constexpr Duration kRotation = 12h;
const WallTime kStart{1'700'000'000'000'000'000};
const std::string kSecret(kSecretBytes, 's');

WallTime at(Duration d) {
  return kStart + d;
}

struct Key {
  Duration made;
  bool used;
};
v1::Cluster cluster_of(const std::vector<Key>& keys) {
  v1::Cluster out;
  for (size_t i = 0; i < keys.size(); ++i) {
    v1::NetworkKey& key = *out.add_network_keys();
    key.set_number(i + 1);
    key.set_made_at_ns(at(keys[i].made).unix_ns);
    if (keys[i].used) key.set_used_from_ns(at(keys[i].made).unix_ns);
  }
  return out;
}

TEST(KeyRingTest, WhenSomethingIsDue) {
  struct {
    const char* name;
    std::vector<Key> keys;
    RingView view;
    RingStep step;
    std::optional<Duration> due;
  } const kCases[] = {
      {"nothing is encrypted", {}, {at(0h), kRotation, false, false, {}}, RingStep::kNothing, {}},
      {"not any more", {{0h, true}}, {at(99h), kRotation, false, true, {}}, RingStep::kNothing, {}},
      {"the first", {}, {at(0h), kRotation, true, false, {}}, RingStep::kMake, 0h},
      {"young", {{0h, true}}, {at(11h), kRotation, true, false, {}}, RingStep::kNothing, 1h},
      {"old", {{0h, true}}, {at(12h), kRotation, true, false, {}}, RingStep::kMake, 0h},
      {"not everybody has it",
       {{0h, true}, {12h, false}},
       {at(13h), kRotation, true, false, 1h},
       RingStep::kNothing,
       5h},
      {"everybody has it",
       {{0h, true}, {12h, false}},
       {at(12h), kRotation, true, true, 0h},
       RingStep::kUse,
       6h},
      {"somebody does not come",
       {{0h, true}, {12h, false}},
       {at(18h), kRotation, true, false, 6h},
       RingStep::kUse,
       0h},
      {"no third before the second is used",
       {{0h, true}, {12h, false}},
       {at(90h), kRotation, true, false, 1h},
       RingStep::kNothing,
       5h},
      {"the clock was set back a little",
       {{3h, true}},
       {at(0h), kRotation, true, false, {}},
       RingStep::kNothing,
       15h},
      {"the clock was set back a lot",
       {{13h, true}},
       {at(0h), kRotation, true, false, {}},
       RingStep::kMake,
       0h},
  };
  for (const auto& c : kCases) {
    const v1::Cluster cluster = cluster_of(c.keys);
    EXPECT_EQ(next_step(cluster, c.view), c.step) << c.name;
    EXPECT_EQ(due_in(cluster, c.view), c.due) << c.name;
  }
}

TEST(KeyRingTest, TheFirstIsUsedAtOnceOthersWhenItIsSaid) {
  v1::Cluster cluster;
  take_step(cluster, RingStep::kMake, kSecret, at(0h));
  ASSERT_EQ(cluster.network_keys_size(), 1);
  EXPECT_EQ(cluster.network_keys(0).number(), 1u);
  EXPECT_EQ(cluster.network_keys(0).secret(), kSecret);
  EXPECT_EQ(cluster.network_keys(0).used_from_ns(), at(0h).unix_ns);
  take_step(cluster, RingStep::kMake, kSecret, at(12h));
  EXPECT_EQ(cluster.network_keys(1).number(), 2u);
  EXPECT_EQ(cluster.network_keys(1).used_from_ns(), 0);
  take_step(cluster, RingStep::kNothing, "", at(12h));
  EXPECT_EQ(cluster.network_keys(1).used_from_ns(), 0);
  take_step(cluster, RingStep::kUse, "", at(13h));
  EXPECT_EQ(cluster.network_keys(1).used_from_ns(), at(13h).unix_ns);
}

TEST(KeyRingTest, ThreeAreKeptAndTheOldestLeaves) {
  v1::Cluster cluster;
  for (int i = 0; i < 6; ++i) {
    take_step(cluster, RingStep::kMake, kSecret, at(12h * i));
    take_step(cluster, RingStep::kUse, "", at(12h * i));
  }
  ASSERT_EQ(cluster.network_keys_size(), 3);
  EXPECT_EQ(cluster.network_keys(0).number(), 4u);
  EXPECT_EQ(cluster.network_keys(2).number(), 6u);
}

TEST(KeyRingTest, TheRotationIsSettable) {
  v1::Cluster cluster;
  EXPECT_EQ(rotation_of(cluster), 12h);
  cluster.mutable_spec()->mutable_encryption()->set_key_rotation_ns(Duration(1h).count());
  EXPECT_EQ(rotation_of(cluster), 1h);
}

}  // namespace
}  // namespace muster::manager::network_keys
