#pragma once

#include <fmt/format.h>

#include <compare>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace muster {

// A string that names one kind of thing: ids of different kinds do not convert into one another.
// Ordered bytewise and formattable.
template <class Tag>
class StrongId {
 public:
  StrongId() = default;
  explicit StrongId(std::string value) : value_(std::move(value)) {}
  explicit StrongId(std::string_view value) : value_(value) {}
  explicit StrongId(const char* value) : value_(value) {}

  const std::string& str() const { return value_; }
  bool empty() const { return value_.empty(); }

  friend auto operator<=>(const StrongId&, const StrongId&) = default;
  friend bool operator==(const StrongId&, const StrongId&) = default;

 private:
  std::string value_;
};

using NodeId = StrongId<struct NodeIdTag>;
using ServiceId = StrongId<struct ServiceIdTag>;
using TaskId = StrongId<struct TaskIdTag>;
using NetworkId = StrongId<struct NetworkIdTag>;
using SecretId = StrongId<struct SecretIdTag>;
using ConfigId = StrongId<struct ConfigIdTag>;
using ClusterId = StrongId<struct ClusterIdTag>;
using VolumeId = StrongId<struct VolumeIdTag>;
using SessionId = StrongId<struct SessionIdTag>;

}  // namespace muster

template <class Tag>
struct std::hash<muster::StrongId<Tag>> {
  size_t operator()(const muster::StrongId<Tag>& id) const {
    return std::hash<std::string>()(id.str());
  }
};

template <class Tag>
struct fmt::formatter<muster::StrongId<Tag>> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const muster::StrongId<Tag>& id, Context& ctx) const {
    return fmt::formatter<std::string_view>::format(id.str(), ctx);
  }
};
