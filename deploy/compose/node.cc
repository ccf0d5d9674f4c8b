#include "deploy/compose/node.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace muster::deploy::compose {

Node Node::null(Position at) {
  Node out;
  out.at = std::move(at);
  return out;
}

Node Node::boolean(bool flag, Position at) {
  Node out;
  out.kind = Kind::kBool;
  out.flag = flag;
  out.text = flag ? "true" : "false";
  out.at = std::move(at);
  return out;
}

Node Node::integer(int64_t number, Position at) {
  Node out;
  out.kind = Kind::kInt;
  out.number = number;
  out.text = std::to_string(number);
  out.at = std::move(at);
  return out;
}

Node Node::string(std::string text, Position at) {
  Node out;
  out.kind = Kind::kString;
  out.text = std::move(text);
  out.at = std::move(at);
  return out;
}

Node Node::list(Position at) {
  Node out;
  out.kind = Kind::kList;
  out.at = std::move(at);
  return out;
}

Node Node::map(Position at) {
  Node out;
  out.kind = Kind::kMap;
  out.at = std::move(at);
  return out;
}

const Node* Node::find(std::string_view key) const {
  for (const Member& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

Node* Node::find(std::string_view key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(key));
}

const Node* Node::find(std::initializer_list<std::string_view> path) const {
  const Node* at_node = this;
  for (const std::string_view key : path) {
    at_node = at_node->find(key);
    if (at_node == nullptr) return nullptr;
  }
  return at_node;
}

Node& Node::set(std::string_view key, Node value) {
  if (Node* found = find(key)) {
    *found = std::move(value);
    return *found;
  }
  Position key_at = value.at;
  members.push_back(Member{std::string(key), std::move(key_at), std::move(value)});
  return members.back().value;
}

void Node::erase(std::string_view key) {
  std::erase_if(members, [key](const Member& member) { return member.key == key; });
}

std::string Node::scalar_text() const {
  switch (kind) {
    case Kind::kNull: return {};
    case Kind::kBool: return flag ? "true" : "false";
    case Kind::kInt: return std::to_string(number);
    case Kind::kFloat: {
      if (std::isnan(real)) return "NaN";
      if (std::isinf(real)) return real > 0 ? "+Inf" : "-Inf";
      char buffer[64];
      const double size = std::fabs(real);
      const bool plain = real == 0 || (size >= 1e-4 && size < 1e21);
      const auto done =
          std::to_chars(buffer, buffer + sizeof buffer, real,
                        plain ? std::chars_format::fixed : std::chars_format::scientific);
      return std::string(buffer, done.ptr);
    }
    case Kind::kString:
    case Kind::kList:
    case Kind::kMap: return text;
  }
  return text;
}

bool Node::is_zero() const {
  switch (kind) {
    case Kind::kNull: return true;
    case Kind::kBool: return !flag;
    case Kind::kInt: return number == 0;
    case Kind::kFloat: return real == 0;
    case Kind::kString: return text.empty();
    case Kind::kList: return items.empty();
    case Kind::kMap: return members.empty();
  }
  return true;
}

bool same_content(const Node& a, const Node& b) {
  if (a.kind != b.kind) return false;
  if (a.is_list()) {
    return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same_content);
  }
  if (a.is_map()) {
    if (a.members.size() != b.members.size()) return false;
    return std::all_of(a.members.begin(), a.members.end(), [&b](const Member& member) {
      const Node* other = b.find(member.key);
      return other != nullptr && same_content(member.value, *other);
    });
  }
  return a.scalar_text() == b.scalar_text();
}

Status error_at(const Position& at, std::string_view message) {
  if (!at.file) return Status(StatusCode::kInvalidArgument, std::string(message));
  if (at.line == 0) return invalid_argument("{}: {}", *at.file, message);
  return invalid_argument("{}:{}: {}", *at.file, at.line, message);
}

}  // namespace muster::deploy::compose
