#include "deploy/eval/compose_suite.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <map>

#include "deploy/compose/loader.h"
#include "deploy/compose/values.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;
using compose::Node;

constexpr std::string_view kDir = "/project";

class GivenFiles final : public compose::Files {
 public:
  std::map<std::string, std::string> files;

  Result<std::string> read(const std::string& path) override {
    const auto found = files.find(path);
    if (found == files.end()) return fail(not_found("{}: No such file or directory", path));
    return found->second;
  }
  bool exists(const std::string& path) override {
    return files.count(path) != 0 || is_directory(path);
  }
  bool is_directory(const std::string& path) override {
    const auto next = files.lower_bound(path + "/");
    return next != files.end() && next->first.starts_with(path + "/");
  }
};

const json::value* member(const json::object& o, std::string_view key) {
  const json::value* v = o.if_contains(json::string_view(key.data(), key.size()));
  return v == nullptr || v->is_null() ? nullptr : v;
}

Result<std::map<std::string, std::string>> texts(const json::object& o, std::string_view key) {
  std::map<std::string, std::string> out;
  const json::value* v = member(o, key);
  if (v == nullptr) return out;
  if (!v->is_object()) return fail(invalid_argument("\"{}\" is not an object", key));
  for (const auto& entry : v->get_object()) {
    if (!entry.value().is_string()) {
      return fail(invalid_argument("\"{}\" holds something that is no string", key));
    }
    out[std::string(entry.key())] = std::string(entry.value().get_string());
  }
  return out;
}

Result<std::vector<std::string>> list(const json::object& o, std::string_view key) {
  std::vector<std::string> out;
  const json::value* v = member(o, key);
  if (v == nullptr) return out;
  if (!v->is_array()) return fail(invalid_argument("\"{}\" is not a list", key));
  for (const json::value& item : v->get_array()) {
    if (!item.is_string()) return fail(invalid_argument("\"{}\" is not a list of strings", key));
    out.emplace_back(item.get_string());
  }
  return out;
}

Result<bool> flag(const json::object& o, std::string_view key) {
  const json::value* v = member(o, key);
  if (v == nullptr) return false;
  if (!v->is_bool()) return fail(invalid_argument("\"{}\" is not a boolean", key));
  return v->get_bool();
}

Result<std::string> text(const json::object& o, std::string_view key, std::string_view otherwise) {
  const json::value* v = member(o, key);
  if (v == nullptr) return std::string(otherwise);
  if (!v->is_string()) return fail(invalid_argument("\"{}\" is not a string", key));
  return std::string(v->get_string());
}

json::value to_json(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull: return nullptr;
    case Node::Kind::kBool: return node.flag;
    case Node::Kind::kInt: return node.number;
    // JSON has no word for infinity and the like.
    case Node::Kind::kFloat:
      return std::isfinite(node.real) ? json::value(node.real) : json::value(node.scalar_text());
    case Node::Kind::kString: return json::value(node.text);
    case Node::Kind::kList: {
      json::array out;
      for (const Node& item : node.items) out.push_back(to_json(item));
      return out;
    }
    case Node::Kind::kMap: {
      json::object out;
      for (const compose::Member& entry : node.members) out[entry.key] = to_json(entry.value);
      return out;
    }
  }
  return nullptr;
}

template <class Message>
Result<json::array> messages(const std::vector<Message>& specs) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  json::array out;
  for (const Message& spec : specs) {
    std::string printed;
    const auto status = google::protobuf::util::MessageToJsonString(spec, &printed, options);
    json::error_code error;
    json::value parsed = json::parse(printed, error);
    if (!status.ok() || error) return fail(internal_error("cannot print a spec as JSON"));
    out.push_back(std::move(parsed));
  }
  return out;
}

// What is secret stays so: its size says that it was found.
Result<json::array> without_data(const std::vector<muster::v1::SecretSpec>& secrets) {
  std::vector<muster::v1::SecretSpec> bare = secrets;
  for (auto& secret : bare) secret.clear_data();
  MUSTER_ASSIGN(json::array out, messages(bare));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].as_object()["data_bytes"] = secrets[i].data().size();
  }
  return out;
}

json::array names(const std::vector<std::string>& texts) {
  json::array out;
  for (const std::string& text : texts) out.emplace_back(text);
  return out;
}

Status add_specs(const compose::StackSpecs& specs, json::object& out) {
  MUSTER_ASSIGN(out["services"], messages(specs.services));
  MUSTER_ASSIGN(out["networks"], messages(specs.networks));
  MUSTER_ASSIGN(out["volumes"], messages(specs.volumes));
  MUSTER_ASSIGN(out["secrets"], without_data(specs.secrets));
  MUSTER_ASSIGN(out["configs"], messages(specs.configs));
  out["external_networks"] = names(specs.external_networks);
  out["external_secrets"] = names(specs.external_secrets);
  out["external_configs"] = names(specs.external_configs);
  return {};
}

Result<compose::LoadRequest> read_request(const json::object& root, const GivenFiles& files) {
  compose::LoadRequest request;
  request.current_dir = kDir;
  MUSTER_ASSIGN(std::vector<std::string> paths, list(root, "compose_files"));
  if (paths.empty()) {
    for (const std::string_view name :
         {"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}) {
      if (paths.empty() && files.files.count(compose::join_file_path(kDir, name)) != 0) {
        paths.emplace_back(name);
      }
    }
  }
  for (std::string& path : paths) request.files.push_back({std::move(path), {}});
  MUSTER_ASSIGN(request.environment, texts(root, "environment"));
  MUSTER_ASSIGN(request.profiles, list(root, "profiles"));
  MUSTER_ASSIGN(request.stack, text(root, "stack", ""));
  MUSTER_ASSIGN(request.ignore_unsupported, flag(root, "ignore_unsupported"));
  MUSTER_ASSIGN(request.skip_interpolation, flag(root, "skip_interpolation"));
  MUSTER_ASSIGN(const std::string dialect, text(root, "dialect", "auto"));
  if (dialect == "v3") {
    request.dialect = compose::Dialect::kV3;
  } else if (dialect == "spec") {
    request.dialect = compose::Dialect::kSpec;
  } else if (dialect != "auto") {
    return fail(invalid_argument("\"dialect\" is none of auto, v3 and spec"));
  }
  return request;
}

}  // namespace

Result<json::value> eval_compose(const json::value& input) {
  const json::object* root = input.if_object();
  if (root == nullptr) return fail(invalid_argument("expected an object"));
  GivenFiles files;
  MUSTER_ASSIGN(const auto given, texts(*root, "files"));
  for (const auto& [path, content] : given) {
    files.files[compose::join_file_path(kDir, path)] = content;
  }
  MUSTER_ASSIGN(const compose::LoadRequest request, read_request(*root, files));
  json::object out;
  const Result<compose::Project> project = compose::load(request, files);
  if (!project) {
    out["error"] = project.error().message();
    return out;
  }
  out["dialect"] = project->dialect == compose::Dialect::kV3 ? "v3" : "spec";
  out["name"] = project->name;
  out["warnings"] = names(project->warnings);
  out["document"] = to_json(project->document);
  out["yaml"] = compose::to_yaml(*project);
  const Result<compose::StackSpecs> specs =
      compose::convert(*project, project->name.empty() ? "stack" : project->name);
  if (!specs) {
    out["error"] = specs.error().message();
    return out;
  }
  MUSTER_TRY(add_specs(*specs, out));
  return out;
}

}  // namespace muster::deploy::eval
