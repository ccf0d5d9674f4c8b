#include "deploy/lab/lab_state.h"

#include <boost/json.hpp>

#include "base/json_fields.h"

namespace muster::deploy::lab {
namespace {

constexpr int64_t kVersion = 1;

// The objects of an array; what is none of either is left out, and missed by who reads them.
std::vector<boost::json::object> objects_of(const boost::json::object& object,
                                            std::string_view key) {
  std::vector<boost::json::object> out;
  const auto* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_array()) return out;
  for (const auto& item : value->get_array()) {
    if (item.is_object()) out.push_back(item.get_object());
  }
  return out;
}

}  // namespace

std::string encode_state(const LabState& state) {
  boost::json::array nodes;
  for (const NodePlan& node : state.plan.nodes) {
    boost::json::object object;
    object["name"] = node.name;
    object["role"] = std::string(to_string(node.role));
    object["address"] = node.address.str();
    if (const auto it = state.ended.find(node.name); it != state.ended.end())
      object["ended"] = it->second;
    nodes.push_back(std::move(object));
  }
  boost::json::array cuts;
  for (const auto& [pair, kind] : state.cuts) {
    boost::json::object object;
    object["from"] = pair.first;
    object["to"] = pair.second;
    object["refuse"] = kind == Cut::kRefuse;
    cuts.push_back(std::move(object));
  }
  boost::json::object root;
  root["version"] = kVersion;
  root["name"] = state.plan.name;
  root["subnet"] = state.plan.subnet.str();
  root["nat"] = state.nat;
  root["ip_forward_set"] = state.ip_forward_set;
  root["log_level"] = state.log_level;
  root["musterd"] = state.musterd;
  root["nodes"] = std::move(nodes);
  root["cuts"] = std::move(cuts);
  return boost::json::serialize(root) + "\n";
}

Result<LabState> decode_state(std::string_view text) {
  boost::system::error_code error;
  const boost::json::value parsed = boost::json::parse({text.data(), text.size()}, error);
  if (error || !parsed.is_object()) return fail(data_loss("it is not JSON"));
  const boost::json::object& root = parsed.get_object();
  const auto* version = root.if_contains("version");
  if (version == nullptr || !version->is_int64()) return fail(data_loss("it has no version"));
  if (version->get_int64() > kVersion) {
    return fail(failed_precondition("it was written by a newer muster (format {}, known is {})",
                                    version->get_int64(), kVersion));
  }
  LabState state;
  state.plan.name = text_at(root, "name");
  MUSTER_TRY(check_lab_name(state.plan.name));
  MUSTER_ASSIGN(state.plan.subnet, overlay::Prefix::parse(text_at(root, "subnet")));
  state.nat = flag_at(root, "nat");
  state.ip_forward_set = flag_at(root, "ip_forward_set");
  state.log_level = text_at(root, "log_level");
  state.musterd = text_at(root, "musterd");
  for (const auto& object : objects_of(root, "nodes")) {
    NodePlan node;
    node.name = text_at(object, "name");
    MUSTER_ASSIGN(node.role, parse_role(text_at(object, "role")));
    MUSTER_ASSIGN(node.address, overlay::Ip::parse(text_at(object, "address")));
    if (const std::string ended = text_at(object, "ended"); !ended.empty())
      state.ended[node.name] = ended;
    state.plan.nodes.push_back(std::move(node));
  }
  if (state.plan.find(kHub) == nullptr) return fail(data_loss("it has no registry"));
  for (const auto& object : objects_of(root, "cuts")) {
    const std::string from = text_at(object, "from");
    const std::string to = text_at(object, "to");
    if (state.plan.find(from) == nullptr || state.plan.find(to) == nullptr)
      return fail(data_loss("it cuts nodes that it does not have"));
    state.cuts[{from, to}] = flag_at(object, "refuse") ? Cut::kRefuse : Cut::kSilent;
  }
  return state;
}

}  // namespace muster::deploy::lab
