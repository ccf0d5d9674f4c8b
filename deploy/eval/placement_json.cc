#include "deploy/eval/placement_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <map>

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;

std::string to_text(const json::string& s) {
  return std::string(s.data(), s.size());
}

}  // namespace

ObjectReader::ObjectReader(const json::value& value, std::string path)
    : object_(value.if_object()), path_(std::move(path)) {
  if (object_ == nullptr) trouble_ = invalid_argument("{} must be an object", path_);
}

std::string ObjectReader::path(std::string_view key) const {
  return fmt::format("{}.{}", path_, key);
}

void ObjectReader::complain(std::string_view key, std::string_view expected) {
  if (trouble_.ok()) trouble_ = invalid_argument("{} must be {}", path(key), expected);
}

const json::value* ObjectReader::child(std::string_view key) {
  asked_.emplace_back(key);
  return object_ == nullptr ? nullptr : object_->if_contains({key.data(), key.size()});
}

std::string ObjectReader::text(std::string_view key, std::string fallback) {
  const json::value* value = child(key);
  if (value == nullptr) return fallback;
  if (const auto* s = value->if_string()) return to_text(*s);
  complain(key, "a string");
  return fallback;
}

int64_t ObjectReader::number(std::string_view key, int64_t fallback) {
  const json::value* value = child(key);
  if (value == nullptr) return fallback;
  if (const auto* n = value->if_int64(); n != nullptr && *n >= 0) return *n;
  complain(key, "a whole number that is not negative");
  return fallback;
}

const json::array& ObjectReader::list(std::string_view key) {
  static const json::array kNone;
  const json::value* value = child(key);
  if (value == nullptr) return kNone;
  if (const auto* array = value->if_array()) return *array;
  complain(key, "a list");
  return kNone;
}

std::vector<std::string> ObjectReader::texts(std::string_view key) {
  std::vector<std::string> all;
  for (const json::value& item : list(key)) {
    if (const auto* s = item.if_string()) {
      all.push_back(to_text(*s));
    } else {
      complain(key, "a list of strings");
    }
  }
  return all;
}

void ObjectReader::labels(std::string_view key,
                          google::protobuf::RepeatedPtrField<v1::KeyValue>& out) {
  const json::value* value = child(key);
  if (value == nullptr) return;
  std::map<std::string, std::string> sorted;
  if (const auto* object = value->if_object()) {
    for (const auto& pair : *object) {
      if (const auto* s = pair.value().if_string()) {
        sorted.emplace(std::string(pair.key().data(), pair.key().size()), to_text(*s));
      } else {
        complain(key, "an object of strings");
      }
    }
  } else {
    complain(key, "an object of strings");
  }
  for (auto& [name, text] : sorted) {
    auto& pair = *out.Add();
    pair.set_key(name);
    pair.set_value(text);
  }
}

Status ObjectReader::finish() const {
  if (!trouble_.ok()) return trouble_;
  for (const auto& pair : *object_) {
    const std::string key(pair.key().data(), pair.key().size());
    if (std::find(asked_.begin(), asked_.end(), key) == asked_.end()) {
      return invalid_argument("{} has an unknown key '{}'", path_, key);
    }
  }
  return ok_status();
}

Status generics_from_json(const json::array& list, const std::string& path,
                          google::protobuf::RepeatedPtrField<v1::GenericResource>& out) {
  for (size_t i = 0; i < list.size(); ++i) {
    ObjectReader in(list[i], fmt::format("{}[{}]", path, i));
    auto& generic = *out.Add();
    generic.set_kind(in.text("kind"));
    generic.set_count(in.number("count"));
    for (std::string& name : in.texts("names")) generic.add_names(std::move(name));
    if (generic.kind().empty()) in.complain("kind", "given");
    MUSTER_TRY(in.finish());
  }
  return ok_status();
}

Status resources_from_json(const json::value& value, const std::string& path, v1::Resources& out) {
  ObjectReader in(value, path);
  out.set_nano_cpus(in.number("nano_cpus"));
  out.set_memory_bytes(in.number("memory_bytes"));
  MUSTER_TRY(generics_from_json(in.list("generic"), in.path("generic"), *out.mutable_generic()));
  return in.finish();
}

namespace {

template <class Enum, size_t N>
Enum choice(ObjectReader& in, std::string_view key,
            const std::pair<std::string_view, Enum> (&choices)[N]) {
  const std::string text = in.text(key, std::string(choices[0].first));
  std::string all;
  for (const auto& [name, value] : choices) {
    if (name == text) return value;
    all += (all.empty() ? "one of " : ", ") + std::string(name);
  }
  in.complain(key, all);
  return choices[0].second;
}

}  // namespace

Result<v1::Node> node_from_json(const json::value& value, const std::string& path) {
  static constexpr std::pair<std::string_view, v1::NodeSpec::Role> kRoles[] = {
      {"worker", v1::NodeSpec::WORKER}, {"manager", v1::NodeSpec::MANAGER}};
  static constexpr std::pair<std::string_view, v1::NodeStatus::State> kStates[] = {
      {"ready", v1::NodeStatus::READY},
      {"down", v1::NodeStatus::DOWN},
      {"unknown", v1::NodeStatus::UNKNOWN},
      {"disconnected", v1::NodeStatus::DISCONNECTED}};
  static constexpr std::pair<std::string_view, v1::NodeSpec::Availability> kAvailabilities[] = {
      {"active", v1::NodeSpec::ACTIVE},
      {"pause", v1::NodeSpec::PAUSE},
      {"drain", v1::NodeSpec::DRAIN}};

  ObjectReader in(value, path);
  v1::Node node;
  node.set_id(in.text("id"));
  if (node.id().empty()) in.complain("id", "given");
  node.set_role(choice(in, "role", kRoles));
  node.mutable_status()->set_state(choice(in, "state", kStates));
  node.mutable_status()->set_address(in.text("address"));
  node.mutable_spec()->set_availability(choice(in, "availability", kAvailabilities));
  auto& description = *node.mutable_description();
  description.set_hostname(in.text("hostname"));
  description.mutable_platform()->set_os(in.text("os", "linux"));
  description.mutable_platform()->set_architecture(in.text("arch", "amd64"));
  in.labels("labels", *node.mutable_spec()->mutable_annotations()->mutable_labels());
  in.labels("engine_labels", *description.mutable_engine()->mutable_labels());
  if (const auto* resources = in.child("resources")) {
    MUSTER_TRY(
        resources_from_json(*resources, in.path("resources"), *description.mutable_resources()));
  }
  const auto& plugins = in.list("plugins");
  for (size_t i = 0; i < plugins.size(); ++i) {
    ObjectReader p(plugins[i], fmt::format("{}[{}]", in.path("plugins"), i));
    auto& plugin = *description.mutable_engine()->add_plugins();
    plugin.set_type(p.text("type"));
    plugin.set_name(p.text("name"));
    MUSTER_TRY(p.finish());
  }
  MUSTER_TRY(in.finish());
  return node;
}

}  // namespace muster::deploy::eval
