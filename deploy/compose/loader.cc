#include "deploy/compose/loader.h"

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "deploy/compose/load_dialects.h"
#include "deploy/compose/values.h"
#include "deploy/compose/yaml_reader.h"

namespace muster::deploy::compose {
namespace {

constexpr size_t kFileBytesMax = 8 << 20;

Result<std::vector<ParsedFile>> read_sources(LoadContext& context) {
  std::vector<ParsedFile> out;
  for (const SourceFile& source : context.request.files) {
    std::string text;
    if (source.content) {
      text = *source.content;
    } else {
      MUSTER_ASSIGN(text,
                    context.files.read(join_file_path(context.request.current_dir, source.path)));
    }
    MUSTER_ASSIGN(std::vector<Node> documents,
                  read_yaml(text, source.path == "-" ? "stdin" : source.path));
    out.push_back({source.path, std::move(documents)});
  }
  return out;
}

bool has_version(const ParsedFile& source) {
  return !source.documents.empty() && source.documents[0].find("version") != nullptr;
}

Result<Dialect> choose_dialect(const LoadRequest& request, const std::vector<ParsedFile>& sources) {
  if (request.dialect != Dialect::kAuto) return request.dialect;
  const ParsedFile* with = nullptr;
  const ParsedFile* without = nullptr;
  for (const ParsedFile& source : sources) (has_version(source) ? with : without) = &source;
  if (with != nullptr && without != nullptr) {
    return fail(error_at(with->documents[0].find("version")->at,
                         fmt::format("the files mix two dialects: {} has a `version` and {} has "
                                     "none; remove it, or add it to all",
                                     with->path, without->path)));
  }
  return with != nullptr ? Dialect::kV3 : Dialect::kSpec;
}

// Specs travel as UTF-8: variables and env files may hold anything.
Status check_texts(const Node& node, const std::string& path) {
  if (!is_utf8(node.text)) return error_at(node.at, path + " is not valid UTF-8 text");
  for (size_t i = 0; i < node.items.size(); ++i) {
    MUSTER_TRY(check_texts(node.items[i], fmt::format("{}.{}", path, i)));
  }
  for (const Member& member : node.members) {
    if (!is_utf8(member.key)) {
      return error_at(member.value.at, path + " has a name that is not valid UTF-8 text");
    }
    const std::string below = path.empty() ? member.key : fmt::format("{}.{}", path, member.key);
    MUSTER_TRY(check_texts(member.value, below));
  }
  return {};
}

}  // namespace

Result<std::string> LocalFiles::read(const std::string& path) {
  return read_file(path, kFileBytesMax);
}
bool LocalFiles::exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}
bool LocalFiles::is_directory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

Lookup lookup_in(const std::map<std::string, std::string>& environment) {
  return [&environment](const std::string& name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  };
}

void add_notes(std::vector<std::string>& warnings, const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    if (std::find(warnings.begin(), warnings.end(), note) == warnings.end()) {
      warnings.push_back(note);
    }
  }
}

void read_payloads(LoadContext& context, const std::map<std::string, std::string>& variables,
                   Project& project) {
  for (const std::string_view section : {"secrets", "configs"}) {
    const Node* entries = project.document.find(section);
    if (entries == nullptr) continue;
    for (const Member& entry : entries->members) {
      if (entry.value.find("external") != nullptr) continue;
      const std::string key = std::string(section) + "." + entry.key;
      Result<std::string> data = fail(error_at(
          entry.key_at, key + (project.dialect == Dialect::kV3 ? ": file is required"
                               : section == "secrets" ? ": one of file and environment is required"
                                                      : ": one of file, environment and content is "
                                                        "required")));
      if (const Node* file = entry.value.find("file"); file != nullptr && !file->is_zero()) {
        data = context.files.read(file->text);
        if (!data) data = fail(error_at(file->at, key + ".file: " + data.error().message()));
      } else if (const Node* name = entry.value.find("environment")) {
        if (const auto value = variables.find(key); value != variables.end()) {
          data = value->second;
        } else {
          data = fail(error_at(
              name->at, fmt::format("{}.environment: variable {} is not set", key, name->text)));
        }
      } else if (const Node* content = entry.value.find("content")) {
        data = content->text;
      }
      project.payloads.emplace(key, std::move(data));
    }
  }
}

void sort_document(Node& document) {
  Node out = Node::map(document.at);
  for (const std::string_view key : {"version", "name"}) {
    if (const Node* node = document.find(key)) out.set(key, *node);
  }
  for (const std::string_view section : {"services", "networks", "volumes", "secrets", "configs"}) {
    Node* entries = document.find(section);
    if (entries == nullptr || entries->members.empty()) continue;
    std::stable_sort(entries->members.begin(), entries->members.end(),
                     [](const Member& a, const Member& b) { return a.key < b.key; });
    out.set(section, *entries);
  }
  for (const Member& member : document.members) {
    if (member.key.starts_with("x-")) out.set(member.key, member.value);
  }
  document = std::move(out);
}

Result<Project> load(const LoadRequest& request, Files& files) {
  if (request.files.empty()) {
    return fail(invalid_argument("no Compose file given (use --compose-file)"));
  }
  LoadContext context{request, files, request.working_dir, {}};
  if (context.working_dir.empty()) {
    const std::string& first = request.files[0].path;
    context.working_dir = first == "-" || first.empty()
                              ? request.current_dir
                              : parent_path(join_file_path(request.current_dir, first));
  } else {
    context.working_dir = join_file_path(request.current_dir, context.working_dir);
  }
  MUSTER_ASSIGN(std::vector<ParsedFile> sources, read_sources(context));
  MUSTER_ASSIGN(const Dialect dialect, choose_dialect(request, sources));
  MUSTER_ASSIGN(Project project, dialect == Dialect::kV3 ? load_v3(context, std::move(sources))
                                                         : load_spec(context, std::move(sources)));
  project.dialect = dialect;
  project.interpolated = !request.skip_interpolation;
  project.working_dir = context.working_dir;
  project.warnings = std::move(context.warnings);
  if (!request.stack.empty()) project.name = request.stack;
  MUSTER_TRY(check_texts(project.document, ""));
  return project;
}

namespace {

void double_dollars(Node& node) {
  if (node.is_string() && node.text.find('$') != std::string::npos) {
    std::string text;
    for (const char c : node.text) text.append(c == '$' ? 2 : 1, c);
    node.text = std::move(text);
  }
  for (Node& item : node.items) double_dollars(item);
  for (Member& member : node.members) double_dollars(member.value);
}

}  // namespace

std::string to_yaml(const Project& project) {
  if (project.dialect == Dialect::kV3 || !project.interpolated) return write_yaml(project.document);
  Node document = project.document;
  double_dollars(document);
  return write_yaml(document);
}

}  // namespace muster::deploy::compose
