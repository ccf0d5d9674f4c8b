#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace muster::deploy::compose {

// Where something stands in the user's text. The file's name is shared by all its nodes.
struct Position {
  std::shared_ptr<const std::string> file;
  uint32_t line = 0;  // from 1; 0 = nowhere, made by muster
  uint32_t column = 0;
};

struct Member;

// A value of a Compose document with its position. A plain tree: aliases and merge keys are
// expanded while reading. Mappings keep the order of the file.
struct Node {
  enum class Kind : uint8_t { kNull, kBool, kInt, kFloat, kString, kList, kMap };
  // What the Compose Specification's tags ask of the merge.
  enum class Tag : uint8_t { kNone, kReset, kOverride };

  Kind kind = Kind::kNull;
  Tag tag = Tag::kNone;
  bool flag = false;            // kBool
  int64_t number = 0;           // kInt
  double real = 0;              // kFloat
  std::string text;             // kString; of other scalars: as written
  std::vector<Node> items;      // kList
  std::vector<Member> members;  // kMap; keys are unique
  Position at;

  static Node null(Position at = {});
  static Node boolean(bool flag, Position at = {});
  static Node integer(int64_t number, Position at = {});
  static Node string(std::string text, Position at = {});
  static Node list(Position at = {});
  static Node map(Position at = {});

  bool is_null() const { return kind == Kind::kNull; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }
  bool is_scalar() const { return !is_list() && !is_map(); }

  // The member of a mapping, or null when this is no mapping or has no such key.
  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
  // The same along several keys.
  const Node* find(std::initializer_list<std::string_view> path) const;
  // Sets or replaces a member; returns the stored value.
  Node& set(std::string_view key, Node value);
  void erase(std::string_view key);

  // A scalar as Go's fmt.Sprint would print it: 1.50 is "1.5", true is "true", null is "".
  std::string scalar_text() const;
  // Whether Go calls it a zero value: null, "", 0, false, empty list or mapping.
  bool is_zero() const;
};

struct Member {
  std::string key;
  Position key_at;
  Node value;
};

// Same content, positions aside.
bool same_content(const Node& a, const Node& b);

// INVALID_ARGUMENT "FILE:LINE: `message`"; without a known line "FILE: ..." or the message alone.
Status error_at(const Position& at, std::string_view message);

// Block-style YAML that reads back as the same document; texts are quoted where they would
// otherwise read as something else.
std::string write_yaml(const Node& node);

}  // namespace muster::deploy::compose
