#include "manager/drainer/drain_book.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace muster::manager::drainer {
namespace {

constexpr TimePoint kStart{};
using Strings = std::vector<std::string>;

class DrainBookTest : public ::testing::Test {
 protected:
  void add(const std::string& task, uint64_t version, const Strings& networks = {"net"},
           Duration limit = 2s) {
    book_.add(task, version, networks, kStart + limit, [this](const std::string& network) {
      ++asked_;
      return routers_[network];
    });
  }
  // "t1", or "t1 without n1,n2".
  Strings released(Duration after = Duration(0)) {
    Strings out;
    for (const auto& each : book_.take_released(kStart + after)) {
      std::string text = each.task_id;
      for (const std::string& node : each.missing) {
        text += (text == each.task_id ? " without " : ",") + node;
      }
      out.push_back(text);
    }
    return out;
  }

  DrainBook book_;
  std::map<std::string, DrainBook::Routers> routers_;
  int asked_ = 0;
};

TEST_F(DrainBookTest, EveryNodeOfTheNetworkHasToSayIt) {
  routers_["net"] = {{"n1", 0}, {"n2", 9}, {"n3", 10}};
  add("t1", 10);
  EXPECT_EQ(released(), Strings());
  book_.routes("n1", "net", 10);
  EXPECT_EQ(released(), Strings());
  book_.routes("n2", "net", 9);
  EXPECT_EQ(released(), Strings()) << "of a version before";
  book_.routes("n2", "other", 11);
  EXPECT_EQ(released(), Strings()) << "of another network";
  book_.routes("n2", "net", 11);
  EXPECT_EQ(released(), Strings{"t1"});
  EXPECT_EQ(released(5s), Strings()) << "once";
  EXPECT_EQ(book_.size(), 0u);
}

TEST_F(DrainBookTest, NobodyToAskIsNobodyToWaitFor) {
  add("t1", 10);
  add("t2", 10, {});
  EXPECT_EQ(released(), (Strings{"t2", "t1"}));
}

TEST_F(DrainBookTest, AllNetworksOfATaskCount) {
  routers_ = {{"a", {{"n1", 0}}}, {"b", {{"n1", 0}, {"n2", 0}}}};
  add("t1", 10, {"b", "a"});
  book_.routes("n1", "b", 10);
  book_.routes("n2", "b", 10);
  EXPECT_EQ(released(), Strings());
  book_.routes("n1", "a", 12);
  EXPECT_EQ(released(), Strings{"t1"});
}

TEST_F(DrainBookTest, TheLimitNamesWhoIsMissing) {
  routers_ = {{"a", {{"n1", 0}, {"n2", 0}}}, {"b", {{"n1", 0}, {"n3", 0}}}};
  add("t1", 10, {"a", "b"});
  book_.routes("n3", "b", 10);
  EXPECT_EQ(*book_.next_deadline(), kStart + Duration(2s));
  EXPECT_EQ(released(1999ms), Strings());
  EXPECT_EQ(released(2s), Strings{"t1 without n1,n2"});
  EXPECT_FALSE(book_.next_deadline());
}

TEST_F(DrainBookTest, WhatLeftByOneCommitIsAskedForOnceAndReleasedTogether) {
  routers_["net"] = {{"n1", 0}};
  add("t1", 10);
  add("t2", 10);
  EXPECT_EQ(asked_, 1);
  add("t3", 11, {"net"}, 3s);
  EXPECT_EQ(asked_, 2);
  book_.routes("n1", "net", 10);
  EXPECT_EQ(released(), (Strings{"t1", "t2"}));
  EXPECT_EQ(*book_.next_deadline(), kStart + Duration(3s));
  book_.routes("n1", "net", 11);
  EXPECT_EQ(released(), Strings{"t3"});
}

TEST_F(DrainBookTest, OnlyNodesWithASessionAreWaitedFor) {
  routers_["net"] = {{"n1", 0}, {"n2", 0}};
  add("t1", 10);
  book_.gone("n1");
  book_.leaves("n2", "net");
  EXPECT_EQ(released(), Strings{"t1"});
  // One that comes while others are waited for may lead there, too.
  routers_["net"] = {{"n1", 0}};
  add("t2", 20);
  book_.routes("n3", "net", 19);
  book_.routes("n1", "net", 20);
  EXPECT_EQ(released(), Strings());
  book_.routes("n3", "net", 20);
  EXPECT_EQ(released(), Strings{"t2"});
}

TEST_F(DrainBookTest, WhatHasEndedIsForgotten) {
  routers_["net"] = {{"n1", 0}};
  add("t1", 10);
  add("t2", 10);
  add("t1", 12);
  EXPECT_EQ(book_.size(), 2u) << "known already";
  book_.remove("t1");
  book_.remove("t1");
  book_.remove("never there");
  EXPECT_EQ(released(2s), Strings{"t2 without n1"});
}

}  // namespace
}  // namespace muster::manager::drainer
