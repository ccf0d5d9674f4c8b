#include "overlay/dataplane/kernel/names.h"

#include <fmt/core.h>

#include <cstdint>

#include "base/fnv.h"

namespace muster::overlay {
namespace {

std::string short_hash(std::string_view text, size_t characters) {
  uint64_t h = fnv1a_64_mixed(text);
  std::string out(characters, '0');
  for (char& c : out) {
    c = "0123456789abcdefghijklmnopqrstuvwxyz"[h % 36];
    h /= 36;
  }
  return out;
}

}  // namespace

Names::Names(std::string_view instance_id) : instance_(instance_id), table_("muster_") {
  for (const char c : instance_) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    table_ += plain ? c : '_';
  }
  // Two instances may differ in the replaced characters only.
  if (table_.substr(7) != instance_) table_ += "_" + short_hash(instance_, 5);
  const std::string hash = short_hash(instance_, 5);
  bridge_prefix_ = "mb" + hash;
  veth_prefix_ = "mv" + hash;
  gateway_bridge_ = "mg" + hash;
  way_in_prefix_ = "mp" + hash;
  mesh_ = "mi" + hash;
}

std::string Names::bridge(std::string_view network_id) const {
  return bridge_prefix_ + short_hash(network_id, 8);
}

std::string Names::way_out(std::string_view container_id) const {
  return gateway_bridge_ + short_hash(container_id, 8);
}

std::string Names::way_in(std::string_view container_id) const {
  return way_in_prefix_ + short_hash(container_id, 8);
}

std::string Names::veth(std::string_view container_id, size_t index) const {
  return veth_prefix_ + short_hash(fmt::format("{}/{}", container_id, index), 8);
}

}  // namespace muster::overlay
