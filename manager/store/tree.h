#pragma once

#include <algorithm>
#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace muster::manager::store {

// A persistent ordered set of shared objects: a B+tree whose nodes are shared between versions.
// Copying a Tree shares everything and costs one reference count.
//
// Editing copies the nodes on the way from the root, but only once per `owner`: a node made under
// an owner token is changed in place while the same token edits. Whoever edits must take a fresh
// token after handing a copy of the tree out, else the copy would change.
//
// Order: by `a`, then `b`, then the tie text, which is read from the object (Tie::of(object)).
// Callers put into `a` and `b` what decides most comparisons without touching the object: the first
// 16 bytes of an id, a hash and a slot. No key is stored twice.
//
// What an entry holds of its object is `Held`: a shared pointer, or a plain one where another tree
// of the same version owns the object. Copying a node then costs no reference counts, which for
// shared pointers is two cache misses an entry; with random keys an edit copies a node for every
// object it touches.
//
// Threads: concurrent reads of any copies are safe; a Tree object itself is not shared between
// threads while one of them assigns to it or edits it.
template <class T, class Tie, class Held = std::shared_ptr<const T>>
class Tree {
 public:
  struct Key {
    uint64_t a = 0;
    uint64_t b = 0;
    std::string_view tie;
  };
  struct Entry {
    uint64_t a = 0;
    uint64_t b = 0;
    Held value{};
  };

  Tree() = default;
  Tree(const Tree& other) : root_(other.root_), size_(other.size_) { retain(root_); }
  Tree(Tree&& other) noexcept
      : root_(std::exchange(other.root_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Tree& operator=(Tree other) noexcept {
    std::swap(root_, other.root_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Tree() { release(root_); }

  size_t size() const { return size_; }

  // nullptr when there is none; valid while this tree is neither edited nor destroyed.
  const Held* find(const Key& key) const {
    const Node* node = root_;
    if (node == nullptr) return nullptr;
    while (!node->leaf) node = inner(node)->children[inner(node)->child_of(key)].node;
    const Leaf* l = leaf(node);
    const size_t i = l->lower_bound(key);
    return i < l->count && l->order(i, key) == 0 ? &l->entries[i].value : nullptr;
  }

  // Visits entries (const Entry&) from the first one not before `from`, in order, until `visit`
  // returns false.
  template <class Visit>
  void visit_from(const Key& from, const Visit& visit) const {
    if (root_ != nullptr) walk_from(root_, from, visit);
  }
  template <class Visit>
  void visit_all(const Visit& visit) const {
    if (root_ != nullptr) walk_all(root_, visit);
  }

  // Inserts, or replaces the entry of the same key.
  void set(uint64_t owner, Entry entry) {
    if (root_ == nullptr) root_ = new Leaf(owner);
    Node* sibling = insert(owner, root_, entry);
    if (sibling == nullptr) return;
    Inner* grown = new Inner(owner);
    grown->count = 2;
    grown->children[0] = child_info(root_);
    grown->children[1] = child_info(sibling);
    root_ = grown;
  }

  // False when there was none.
  bool erase(uint64_t owner, const Key& key) {
    if (find(key) == nullptr) return false;
    remove(owner, root_, key);
    --size_;
    while (root_ != nullptr && !root_->leaf && root_->count == 1) {
      Node* child = inner(root_)->children[0].node;
      retain(child);
      release(std::exchange(root_, child));
    }
    if (root_ != nullptr && root_->count == 0) release(std::exchange(root_, nullptr));
    return true;
  }

 private:
  static constexpr size_t kWidth = 32;

  struct Node {
    Node(uint64_t owner_token, bool is_leaf) : owner(owner_token), leaf(is_leaf) {}
    std::atomic<uint32_t> references{1};
    uint64_t owner;
    uint32_t count = 0;
    bool leaf;
  };

  static int compare(uint64_t a, uint64_t b, const T& object, const Key& key) {
    if (a != key.a) return a < key.a ? -1 : 1;
    if (b != key.b) return b < key.b ? -1 : 1;
    return Tie::of(object).compare(key.tie);
  }

  struct Leaf : Node {
    explicit Leaf(uint64_t owner_token) : Node(owner_token, true) {}
    Entry entries[kWidth];

    int order(size_t i, const Key& key) const {
      return compare(entries[i].a, entries[i].b, *entries[i].value, key);
    }
    size_t lower_bound(const Key& key) const {
      size_t low = 0;
      size_t high = this->count;
      while (low < high) {
        const size_t middle = (low + high) / 2;
        if (order(middle, key) < 0) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    }
  };

  // `a`, `b`, `min` are the first key below the child; `min` lives in the child's first leaf. Every
  // edit of that leaf rewrites the path above it, so the pointer never outlives what it points to.
  struct Child {
    uint64_t a = 0;
    uint64_t b = 0;
    const T* min = nullptr;
    Node* node = nullptr;
  };
  struct Inner : Node {
    explicit Inner(uint64_t owner_token) : Node(owner_token, false) {}
    Child children[kWidth];

    // The child whose range holds the key: the last one that does not begin after it, or the first.
    size_t child_of(const Key& key) const {
      size_t low = 1;
      size_t high = this->count;
      while (low < high) {
        const size_t middle = (low + high) / 2;
        const Child& c = children[middle];
        if (compare(c.a, c.b, *c.min, key) <= 0) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low - 1;
    }
  };

  static Leaf* leaf(Node* n) { return static_cast<Leaf*>(n); }
  static const Leaf* leaf(const Node* n) { return static_cast<const Leaf*>(n); }
  static Inner* inner(Node* n) { return static_cast<Inner*>(n); }
  static const Inner* inner(const Node* n) { return static_cast<const Inner*>(n); }

  static void retain(Node* n) {
    if (n != nullptr) n->references.fetch_add(1, std::memory_order_relaxed);
  }
  static void release(Node* n) {
    if (n == nullptr || n->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (n->leaf) {
      delete leaf(n);
      return;
    }
    for (size_t i = 0; i < n->count; ++i) release(inner(n)->children[i].node);
    delete inner(n);
  }

  static Child child_info(Node* n) {
    if (n->leaf) {
      const Entry& first = leaf(n)->entries[0];
      return {first.a, first.b, std::to_address(first.value), n};
    }
    Child info = inner(n)->children[0];
    info.node = n;
    return info;
  }

  // Makes the node in `slot` one that `owner` may change.
  static void own(uint64_t owner, Node*& slot) {
    if (slot->owner == owner) return;
    Node* copy = nullptr;
    if (slot->leaf) {
      Leaf* fresh = new Leaf(owner);
      std::copy_n(leaf(slot)->entries, slot->count, fresh->entries);
      copy = fresh;
    } else {
      Inner* fresh = new Inner(owner);
      std::copy_n(inner(slot)->children, slot->count, fresh->children);
      for (size_t i = 0; i < slot->count; ++i) retain(fresh->children[i].node);
      copy = fresh;
    }
    copy->count = slot->count;
    release(std::exchange(slot, copy));
  }

  // Where to split a full node that takes a new item at `at`: in the middle, or at the end when the
  // item comes last, so that loading in order fills nodes.
  static size_t split_point(size_t at) { return at == kWidth ? kWidth - 1 : kWidth / 2; }

  // The new right sibling when the node had to be split, else nullptr.
  Node* insert(uint64_t owner, Node*& slot, Entry& entry) {
    own(owner, slot);
    const Key key{entry.a, entry.b, Tie::of(*entry.value)};
    if (slot->leaf) return insert_into_leaf(owner, leaf(slot), key, entry);
    Inner* node = inner(slot);
    const size_t at = node->child_of(key);
    Node* sibling = insert(owner, node->children[at].node, entry);
    node->children[at] = child_info(node->children[at].node);
    if (sibling == nullptr) return nullptr;
    if (node->count < kWidth) {
      put_at(node->children, node->count, at + 1, child_info(sibling));
      ++node->count;
      return nullptr;
    }
    Inner* right = new Inner(owner);
    split(node->children, *node, right->children, *right, at + 1, child_info(sibling));
    return right;
  }

  Node* insert_into_leaf(uint64_t owner, Leaf* node, const Key& key, Entry& entry) {
    const size_t at = node->lower_bound(key);
    if (at < node->count && node->order(at, key) == 0) {
      node->entries[at].value = std::move(entry.value);
      return nullptr;
    }
    ++size_;
    if (node->count < kWidth) {
      put_at(node->entries, node->count, at, std::move(entry));
      ++node->count;
      return nullptr;
    }
    Leaf* right = new Leaf(owner);
    split(node->entries, *node, right->entries, *right, at, std::move(entry));
    return right;
  }

  template <class Item>
  static void put_at(Item* items, size_t count, size_t at, Item item) {
    std::move_backward(items + at, items + count, items + count + 1);
    items[at] = std::move(item);
  }

  template <class Item>
  static void split(Item* left, Node& left_node, Item* right, Node& right_node, size_t at,
                    Item item) {
    const size_t point = split_point(at);
    std::move(left + point, left + kWidth, right);
    left_node.count = static_cast<uint32_t>(point);
    right_node.count = static_cast<uint32_t>(kWidth - point);
    if (at <= point && point != kWidth - 1) {
      put_at(left, left_node.count, at, std::move(item));
      ++left_node.count;
    } else {
      put_at(right, right_node.count, at - point, std::move(item));
      ++right_node.count;
    }
  }

  void remove(uint64_t owner, Node*& slot, const Key& key) {
    own(owner, slot);
    if (slot->leaf) {
      Leaf* node = leaf(slot);
      take_out(node->entries, *node, node->lower_bound(key));
      return;
    }
    Inner* node = inner(slot);
    const size_t at = node->child_of(key);
    remove(owner, node->children[at].node, key);
    if (node->children[at].node->count == 0) {
      release(node->children[at].node);
      take_out(node->children, *node, at);
      return;
    }
    node->children[at] = child_info(node->children[at].node);
    if (node->children[at].node->count < kWidth / 4) {
      if (at + 1 < node->count && merge(owner, node, at)) return;
      if (at > 0) merge(owner, node, at - 1);
    }
  }

  template <class Item>
  static void take_out(Item* items, Node& node, size_t at) {
    std::move(items + at + 1, items + node.count, items + at);
    --node.count;
    items[node.count] = Item{};
  }

  // Joins child `at` with the one after it when both fit into three quarters of a node: less would
  // leave sparse nodes, more would split again at the next insertion.
  bool merge(uint64_t owner, Inner* node, size_t at) {
    Node*& left = node->children[at].node;
    Node*& right = node->children[at + 1].node;
    if (left->count + right->count > kWidth * 3 / 4) return false;
    own(owner, left);
    own(owner, right);
    if (left->leaf) {
      std::move(leaf(right)->entries, leaf(right)->entries + right->count,
                leaf(left)->entries + left->count);
    } else {
      std::move(inner(right)->children, inner(right)->children + right->count,
                inner(left)->children + left->count);
    }
    left->count += right->count;
    right->count = 0;
    release(right);
    take_out(node->children, *node, at + 1);
    node->children[at] = child_info(left);
    return true;
  }

  template <class Visit>
  static bool walk_all(const Node* node, const Visit& visit) {
    if (node->leaf) {
      for (size_t i = 0; i < node->count; ++i) {
        if (!visit(leaf(node)->entries[i])) return false;
      }
      return true;
    }
    for (size_t i = 0; i < node->count; ++i) {
      if (!walk_all(inner(node)->children[i].node, visit)) return false;
    }
    return true;
  }

  template <class Visit>
  static bool walk_from(const Node* node, const Key& from, const Visit& visit) {
    if (node->leaf) {
      for (size_t i = leaf(node)->lower_bound(from); i < node->count; ++i) {
        if (!visit(leaf(node)->entries[i])) return false;
      }
      return true;
    }
    const size_t at = inner(node)->child_of(from);
    if (!walk_from(inner(node)->children[at].node, from, visit)) return false;
    for (size_t i = at + 1; i < node->count; ++i) {
      if (!walk_all(inner(node)->children[i].node, visit)) return false;
    }
    return true;
  }

  Node* root_ = nullptr;
  size_t size_ = 0;
};

}  // namespace muster::manager::store
