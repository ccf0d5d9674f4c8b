#include "manager/store/tree.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "manager/store/state.h"

namespace muster::manager::store {
namespace {

using TaskTree = IdTree<v1::Task>;
using Model = std::map<std::string, std::string>;

Ptr<v1::Task> task(const std::string& id, const std::string& name) {
  auto t = std::make_shared<v1::Task>();
  t->set_id(id);
  t->set_name(name);
  return t;
}

TaskTree::Key key(const std::string& id) {
  return {order_prefix(id), order_second(id), id};
}

void put(TaskTree& tree, uint64_t owner, const std::string& id, const std::string& name) {
  tree.set(owner, {order_prefix(id), order_second(id), task(id, name)});
}

Model contents(const TaskTree& tree) {
  Model out;
  std::string last;
  tree.visit_all([&](const auto& entry) {
    EXPECT_LT(last, entry.value->id()) << "entries must come in the order of ids";
    last = entry.value->id();
    out[last] = entry.value->name();
    return true;
  });
  return out;
}

TEST(Tree, EmptyTreeHasNothing) {
  TaskTree tree;
  EXPECT_EQ(tree.find(key("a")), nullptr);
  EXPECT_EQ(tree.size(), 0U);
  EXPECT_FALSE(tree.erase(1, key("a")));
}

TEST(Tree, OrderIsThatOfTheWholeIdBeyondSixteenBytes) {
  TaskTree tree;
  const std::string stem = "0123456789abcdef";
  for (const char* tail : {"b", "", "ab", "a", "zz"}) put(tree, 1, stem + tail, tail);
  std::vector<std::string> seen;
  tree.visit_all([&](const auto& entry) {
    seen.push_back(entry.value->name());
    return true;
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"", "a", "ab", "b", "zz"}));
}

// Random edits under changing owners against std::map; copies taken on the way must stay as they
// were whatever happens to the tree later.
class TreeModel : public testing::TestWithParam<int> {};

TEST_P(TreeModel, AgreesWithMapAndKeepsItsCopies) {
  SeededRng rng(static_cast<uint64_t>(GetParam()));
  const uint64_t id_space = GetParam() % 2 == 0 ? 300 : 5'000;
  TaskTree tree;
  Model model;
  std::vector<std::pair<TaskTree, Model>> copies;
  uint64_t owner = 1;
  for (int step = 0; step < 12'000; ++step) {
    const std::string id = fmt::format("task-{:05}", rng.below(id_space));
    // Grows for a while, then shrinks to nothing.
    const bool erase = rng.below(100) < (step < 6'000 ? 25U : 80U);
    if (erase) {
      ASSERT_EQ(tree.erase(owner, key(id)), model.erase(id) == 1);
    } else {
      const std::string name = fmt::format("{}", step);
      put(tree, owner, id, name);
      model[id] = name;
    }
    ASSERT_EQ(tree.size(), model.size());
    const auto* found = tree.find(key(id));
    ASSERT_EQ(found != nullptr, model.contains(id));
    if (rng.below(600) == 0) {
      copies.emplace_back(tree, model);
      ++owner;
    }
  }
  EXPECT_EQ(contents(tree), model);
  for (const auto& [copy, then] : copies) {
    EXPECT_EQ(contents(copy), then);
    EXPECT_EQ(copy.size(), then.size());
  }
  for (const std::string from : {"task-00000", "task-00123", "task-00299x", "zzz", ""}) {
    std::vector<std::string> seen;
    tree.visit_from(key(from), [&](const auto& entry) {
      seen.push_back(entry.value->id());
      return seen.size() < 5;
    });
    std::vector<std::string> expected;
    for (auto it = model.lower_bound(from); it != model.end() && expected.size() < 5; ++it) {
      expected.push_back(it->first);
    }
    EXPECT_EQ(seen, expected) << "from " << from;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, TreeModel, testing::Range(1, 13));

TEST(Tree, ErasingEverythingInOrderFreesTheTree) {
  for (const bool forward : {true, false}) {
    TaskTree tree;
    std::weak_ptr<const v1::Task> watched;
    for (int i = 0; i < 5'000; ++i) put(tree, 1, fmt::format("{:06}", i), "");
    watched = *tree.find(key("002500"));
    for (int i = 0; i < 5'000; ++i) {
      ASSERT_TRUE(tree.erase(1, key(fmt::format("{:06}", forward ? i : 4'999 - i))));
    }
    EXPECT_EQ(tree.size(), 0U);
    EXPECT_TRUE(watched.expired());
  }
}

}  // namespace
}  // namespace muster::manager::store
