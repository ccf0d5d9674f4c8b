#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::store {
namespace {

class BlobHistoryTest : public ::testing::Test {
 protected:
  BlobHistoryTest() { store_.lead(1); }
  void write(Store::Body body) {
    store_.update(std::move(body), [](const Commit& c) { EXPECT_TRUE(c.status.ok()); });
    world_.settle();
  }
  static Status create_both(Transaction& tx) {
    v1::Blob blob;
    blob.set_id("b");
    blob.set_data("payload");
    MUSTER_TRY(tx.create(blob));
    v1::Secret secret;
    secret.set_id("s");
    secret.mutable_spec()->mutable_annotations()->set_name("pw");
    secret.set_blob_id("b");
    return tx.create(secret);
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  InstantProposer proposer_{strand_};
  Store store_{strand_, &proposer_, null_log()};
};

TEST_F(BlobHistoryTest, ARemovedPayloadIsInMemoryNoMore) {
  write(create_both);
  std::weak_ptr<const v1::Blob> payload = store_.snapshot().get<v1::Blob>("b");
  EXPECT_FALSE(payload.expired());
  write([](Transaction& tx) -> Status {
    MUSTER_TRY(tx.remove<v1::Secret>("s"));
    return tx.remove<v1::Blob>("b");
  });
  EXPECT_TRUE(payload.expired());
}

TEST_F(BlobHistoryTest, WatchersThatResumeSeeAllButBlobs) {
  write(create_both);
  write([](Transaction& tx) -> Status {
    MUSTER_TRY(tx.remove<v1::Blob>("b"));
    return tx.remove<v1::Secret>("s");
  });
  std::vector<size_t> changes;
  std::vector<size_t> secrets;
  const auto subscription = store_.watch(0, [&](const CommitEvent& event) {
    changes.push_back(event.changes->size());
    secrets.push_back(event.after.count<v1::Secret>());
  });
  ASSERT_TRUE(subscription.has_value());
  world_.settle();
  EXPECT_EQ(changes, (std::vector<size_t>{1, 1}));
  EXPECT_EQ(secrets, (std::vector<size_t>{1, 0}));
}

TEST_F(BlobHistoryTest, LiveWatchersSeeThem) {
  size_t seen = 0;
  const auto subscription =
      store_.watch([&](const CommitEvent& event) { seen += event.changes->size(); });
  write(create_both);
  EXPECT_EQ(seen, 2u);
}

}  // namespace
}  // namespace muster::manager::store
