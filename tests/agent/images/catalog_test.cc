#include "agent/images/catalog.h"

#include <gtest/gtest.h>

#include "agent/images/digest.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

std::string digest(char c) {
  return "sha256:" + std::string(64, c);
}

CatalogEntry entry(char c, std::set<std::string> tags) {
  CatalogEntry out;
  out.record.digest = digest(c);
  out.record.manifest_digest = digest(c);
  out.record.config_id = digest_of("{}");
  out.record.tags = std::move(tags);
  return out;
}

class CatalogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-catalog-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    dir_ = path;
    content_ = std::make_unique<ContentStore>(dir_ / "content", null_log());
    ASSERT_TRUE(content_->open().ok());
    ASSERT_TRUE(content_->add_blob("{}", digest_of("{}")).ok());
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(dir_.string()).ok()); }

  Catalog load() {
    Catalog catalog(dir_ / "catalog.json");
    dropped_.clear();
    EXPECT_TRUE(catalog.load(*content_, dropped_).ok());
    return catalog;
  }
  static std::string found(const Catalog& catalog, const std::string& text) {
    const auto entry = catalog.find_by_text(text);
    if (!entry) return entry.error().message();
    return *entry == nullptr ? "none" : (*entry)->record.digest.substr(7, 1);
  }

  std::filesystem::path dir_;
  std::unique_ptr<ContentStore> content_;
  std::vector<std::string> dropped_;
};

TEST_F(CatalogTest, ATagMovesToTheImageThatWasPulledLast) {
  Catalog catalog = load();
  ASSERT_TRUE(catalog.put(entry('a', {"docker.io/library/web:1"})).ok());
  ASSERT_TRUE(catalog.put(entry('b', {"docker.io/library/web:1"})).ok());
  EXPECT_EQ(found(catalog, "web:1"), "b");
  EXPECT_EQ(found(catalog, digest('a')), "a") << "it stays, without a name";
  EXPECT_EQ(catalog.all().size(), 2U);
}

TEST_F(CatalogTest, WhatWasSavedIsThereAfterARestart) {
  {
    Catalog catalog = load();
    CatalogEntry one = entry('a', {"docker.io/library/web:1", "h.x/web:1"});
    one.record.digests = {"docker.io/library/web@" + digest('a')};
    ASSERT_TRUE(catalog.put(one).ok());
    ASSERT_TRUE(catalog.put(entry('b', {"docker.io/library/b:1"})).ok());
    ASSERT_TRUE(catalog.untag(digest('a'), {"h.x/web:1"}).ok());
    ASSERT_TRUE(catalog.erase({digest('b')}).ok());
  }
  const Catalog catalog = load();
  EXPECT_TRUE(dropped_.empty());
  EXPECT_EQ(found(catalog, "web:1"), "a");
  EXPECT_EQ(found(catalog, "anything@" + digest('a')), "a");
  EXPECT_EQ(found(catalog, "h.x/web:1"), "none");
  EXPECT_EQ(found(catalog, "b:1"), "none");
  EXPECT_EQ(found(catalog, hex_of(digest_of("{}")).substr(0, 12)), "a");
}

TEST_F(CatalogTest, AnImageWithoutItsPartsIsForgottenAndNamed) {
  {
    Catalog catalog = load();
    CatalogEntry gone = entry('a', {"docker.io/library/web:1"});
    gone.record.layers = {{digest('1'), digest('2')}};
    ASSERT_TRUE(catalog.put(gone).ok());
    ASSERT_TRUE(catalog.put(entry('b', {"docker.io/library/b:1"})).ok());
  }
  const Catalog catalog = load();
  ASSERT_EQ(dropped_.size(), 1U);
  EXPECT_EQ(dropped_[0], "web:1 (layer " + digest('2') + " is missing)");
  EXPECT_EQ(found(catalog, "b:1"), "b");
}

TEST_F(CatalogTest, AnIdThatSuitsSeveralImagesIsRefused) {
  Catalog catalog = load();
  CatalogEntry one = entry('a', {});
  one.record.config_id = digest('c');
  CatalogEntry other = entry('b', {});
  other.record.config_id = "sha256:cccc" + std::string(60, 'd');
  ASSERT_TRUE(catalog.put(one).ok());
  ASSERT_TRUE(catalog.put(other).ok());
  EXPECT_NE(found(catalog, "cccc").find("suits several images"), std::string::npos);
  EXPECT_EQ(found(catalog, "ccccd"), "b");
}

TEST_F(CatalogTest, ANewerFormatIsNotTouched) {
  const std::string text = R"({"version":2,"images":[]})";
  ASSERT_TRUE(write_file_atomic(dir_ / "catalog.json", text, 0600, Durability::kNone).ok());
  Catalog catalog(dir_ / "catalog.json");
  const Status status = catalog.load(*content_, dropped_);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(*read_file(dir_ / "catalog.json"), text);
}

}  // namespace
}  // namespace muster::agent
