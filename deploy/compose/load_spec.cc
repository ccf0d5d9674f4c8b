// The Specification dialect: include, extends, profiles, .env, and its own merge rules.

#include <algorithm>
#include <set>

#include "deploy/compose/canonical.h"
#include "deploy/compose/env_file.h"
#include "deploy/compose/load_dialects.h"
#include "deploy/compose/merge.h"
#include "deploy/compose/schema.h"
#include "deploy/compose/values.h"
#include "deploy/compose/yaml_reader.h"

namespace muster::deploy::compose {
namespace {

constexpr size_t kNestingMax = 20;   // include in include, extends of extends
constexpr size_t kFilesMax = 500;    // read by one load
constexpr size_t kReadsMax = 5000;   // of those files, repeats counted
constexpr size_t kGrowthMax = 4000;  // services made by extends

constexpr std::string_view kSections[] = {"services", "networks", "volumes", "secrets", "configs"};

// The environment and directory a group of files is read with: the project's own, or that of one
// include.
struct Scope {
  std::map<std::string, std::string> environment;
  std::string dir;
};

class SpecLoader {
 public:
  explicit SpecLoader(LoadContext& context) : context_(context) {}

  Result<Project> run(std::vector<ParsedFile> sources) {
    Scope scope{context_.request.environment, context_.working_dir};
    MUSTER_TRY(read_env_files(scope));
    Project project;
    MUSTER_TRY(choose_name(sources, scope, project));
    scope.environment["COMPOSE_PROJECT_NAME"] = project.name;
    for (ParsedFile& source : sources) {
      if (source.documents.empty()) {
        return fail(invalid_argument("{}: empty compose file", source.path));
      }
      for (Node& document : source.documents) {
        MUSTER_ASSIGN(Node read, read_document(std::move(document), scope, {}));
        MUSTER_TRY(import_extends(read, scope));
        MUSTER_TRY(merge_spec(project.document, read));
      }
    }
    drop_merge_tags(project.document);
    MUSTER_TRY(drop_repeats(project.document));
    if (!project.name.empty()) project.document.set("name", Node::string(project.name));
    project.document.erase("version");
    MUSTER_TRY(finish(project, scope));
    return project;
  }

 private:
  Lookup lookup(const Scope& scope) const { return lookup_in(scope.environment); }
  std::string home(const Scope& scope) const { return lookup(scope)("HOME").value_or(""); }

  // ------------------------------------------------------------ environment, name

  Status add_env_file(const std::string& path, Scope& scope) {
    MUSTER_ASSIGN(const std::string text, context_.files.read(path));
    const Lookup outside = lookup(scope);
    MUSTER_ASSIGN(const EnvPairs pairs, parse_dotenv(text, path, outside));
    // Later files and lines win over earlier ones, the environment over all.
    for (const auto& [name, value] : pairs) {
      if (context_.request.environment.count(name) == 0) scope.environment[name] = value;
    }
    return {};
  }

  Status read_env_files(Scope& scope) {
    if (context_.request.env_files) {
      for (const std::string& file : *context_.request.env_files) {
        MUSTER_TRY(add_env_file(join_file_path(context_.request.current_dir, file), scope));
      }
      return {};
    }
    const std::string path = join_file_path(scope.dir, ".env");
    if (!context_.files.exists(path) || context_.files.is_directory(path)) return {};
    return add_env_file(path, scope);
  }

  Status choose_name(const std::vector<ParsedFile>& sources, const Scope& scope, Project& project) {
    project.document = Node::map();
    for (const ParsedFile& source : sources) {
      for (const Node& document : source.documents) {
        const Node* name = document.find("name");
        if (name == nullptr || !name->is_string()) continue;
        std::vector<std::string> notes;
        Result<std::string> text =
            context_.request.skip_interpolation
                ? Result<std::string>(name->text)
                : substitute(name->text, Dialect::kSpec, lookup(scope), notes);
        if (!text) return error_at(name->at, "name: " + text.error().message());
        project.name = *std::move(text);
      }
    }
    if (!context_.request.stack.empty()) project.name = context_.request.stack;
    return {};
  }

  // ------------------------------------------------------------ documents

  // Interpolated, checked, canonical, paths absolute, includes imported; extends still to do.
  Result<Node> read_document(Node document, const Scope& scope, std::vector<std::string> chain) {
    if (document.is_null()) return Node::map(document.at);
    if (!document.is_map()) {
      return fail(error_at(document.at, "top-level object must be a mapping"));
    }
    std::vector<std::string> notes;
    const bool raw = context_.request.skip_interpolation;
    if (!raw) {
      MUSTER_TRY(interpolate(document, Dialect::kSpec, lookup(scope), notes));
    }
    if (const Node* version = document.find("version")) {
      notes.push_back(
          error_at(version->at, "the attribute `version` is obsolete, it is ignored").message());
      document.erase("version");
    }
    MUSTER_TRY(validate(document, Dialect::kSpec, 0, raw));
    MUSTER_TRY(canonicalise(document, Dialect::kSpec, raw, notes));
    MUSTER_TRY(resolve_paths(document, scope.dir, home(scope), raw));
    if (!raw) MUSTER_TRY(resolve_environment(document, scope));
    note_payload_variables(document, scope);
    add_notes(context_.warnings, notes);
    MUSTER_TRY(import_includes(document, scope, std::move(chain)));
    return document;
  }

  Result<std::vector<Node>> read_file(const std::string& path, const Position& at) {
    const auto known = parsed_.find(path);
    if (++reads_ > kReadsMax || (known == parsed_.end() && parsed_.size() >= kFilesMax)) {
      return fail(error_at(at, fmt::format("more than {} files are included",
                                           reads_ > kReadsMax ? kReadsMax : kFilesMax)));
    }
    if (known != parsed_.end()) return known->second;
    const Result<std::string> text = context_.files.read(path);
    if (!text) return fail(error_at(at, text.error().message()));
    MUSTER_ASSIGN(std::vector<Node> documents, read_yaml(*text, path));
    return parsed_.emplace(path, std::move(documents)).first->second;
  }

  // `environment` entries without a value take it from outside, per file: an include has its own
  // variables. env_file stays a list, so that files merged later can add to it.
  Status resolve_environment(Node& document, const Scope& scope) {
    Node* services = document.find("services");
    for (size_t i = 0; services != nullptr && i < services->members.size(); ++i) {
      Node* environment = services->members[i].value.find("environment");
      if (environment == nullptr) continue;
      for (Member& member : environment->members) {
        if (!member.value.is_null() || member.value.tag != Node::Tag::kNone) continue;
        if (const std::optional<std::string> value = lookup(scope)(member.key)) {
          member.value = Node::string(*value, member.value.at);
        }
      }
    }
    return {};
  }

  // The variable of a secret or config is one of the file that names it.
  void note_payload_variables(const Node& document, const Scope& scope) {
    for (const std::string_view section : {"secrets", "configs"}) {
      const Node* entries = document.find(section);
      for (size_t i = 0; entries != nullptr && i < entries->members.size(); ++i) {
        const Member& entry = entries->members[i];
        const Node* name = entry.value.find("environment");
        if (name == nullptr) continue;
        const std::string key = fmt::format("{}.{}", section, entry.key);
        payload_variables_.erase(key);
        if (const std::optional<std::string> value = lookup(scope)(name->text)) {
          payload_variables_.emplace(key, *value);
        }
      }
    }
  }

  // ------------------------------------------------------------ include

  Status import_includes(Node& document, const Scope& scope, std::vector<std::string> chain) {
    const Node* found = document.find("include");
    if (found == nullptr) return {};
    const Node includes = *found;
    document.erase("include");
    for (const Node& item : includes.items) {
      MUSTER_ASSIGN(const Node included, read_include(item, scope, chain));
      for (const std::string_view section : kSections) {
        const Node* theirs = included.find(section);
        if (theirs == nullptr) continue;
        Node* ours = document.find(section);
        if (ours == nullptr) ours = &document.set(section, Node::map(theirs->at));
        for (const Member& member : theirs->members) {
          const Node* mine = ours->find(member.key);
          if (mine != nullptr && !same_content(*mine, member.value)) {
            return error_at(mine->at, fmt::format("{}.{} conflicts with imported resource", section,
                                                  member.key));
          }
          ours->set(member.key, member.value);
        }
      }
    }
    return {};
  }

  Result<Node> read_include(const Node& item, const Scope& outer, std::vector<std::string> chain) {
    std::vector<std::string> paths;
    const Node* listed = item.is_string() ? &item : item.find("path");
    if (listed->is_string()) paths.push_back(listed->text);
    for (const Node& path : listed->items) paths.push_back(path.text);
    if (paths.empty()) return fail(error_at(item.at, "include: a path is required"));
    for (std::string& path : paths) path = join_file_path(outer.dir, path);
    if (std::find(chain.begin(), chain.end(), paths[0]) != chain.end()) {
      return fail(error_at(item.at, fmt::format("include cycle: {} includes itself", paths[0])));
    }
    if (chain.size() >= kNestingMax) return fail(error_at(item.at, "includes nest too deeply"));
    chain.push_back(paths[0]);
    Scope scope{outer.environment, parent_path(paths[0])};
    if (const Node* dir = item.find("project_directory")) {
      scope.dir = join_file_path(outer.dir, dir->text);
    }
    MUSTER_TRY(include_env(item, outer, scope));
    Node merged = Node::map(item.at);
    for (const std::string& path : paths) {
      MUSTER_ASSIGN(std::vector<Node> documents, read_file(path, item.at));
      for (Node& document : documents) {
        MUSTER_ASSIGN(Node read, read_document(std::move(document), scope, chain));
        MUSTER_TRY(import_extends(read, scope));
        MUSTER_TRY(merge_spec(merged, read));
      }
    }
    drop_merge_tags(merged);
    return merged;
  }

  Status include_env(const Node& item, const Scope& outer, Scope& scope) {
    std::vector<std::string> files;
    const Node* listed = item.find("env_file");
    if (listed != nullptr && listed->is_string()) files.push_back(listed->text);
    for (size_t i = 0; listed != nullptr && i < listed->items.size(); ++i) {
      files.push_back(listed->items[i].text);
    }
    if (listed == nullptr) {
      const std::string path = join_file_path(scope.dir, ".env");
      if (context_.files.exists(path) && !context_.files.is_directory(path)) files.push_back(path);
    }
    Scope own{scope.environment, scope.dir};
    for (const std::string& file : files) {
      MUSTER_TRY(add_env_file(join_file_path(outer.dir, file), own));
    }
    // The including project's variables win over the include's defaults.
    for (const auto& [name, value] : own.environment) scope.environment.emplace(name, value);
    return {};
  }

  // ------------------------------------------------------------ extends

  Status import_extends(Node& document, const Scope& scope) {
    Node* services = document.find("services");
    if (services == nullptr) return {};
    for (Member& service : services->members) {
      if (service.value.find("extends") == nullptr) continue;
      MUSTER_ASSIGN(service.value, extended(service.key, service.value, document, scope, {}));
    }
    return {};
  }

  // The service merged over what it extends. `chain` holds "file#service" of those above it.
  Result<Node> extended(const std::string& name, const Node& service, const Node& document,
                        const Scope& scope, std::vector<std::string> chain) {
    const Node* extends = service.find("extends");
    if (extends == nullptr) return service;
    const Node* file = extends->find("file");
    const Node* target = extends->is_string() ? extends : extends->find("service");
    const std::string here = service.at.file ? *service.at.file : "";
    chain.push_back(here + "#" + name);
    if (chain.size() > kNestingMax || ++extended_ > kGrowthMax) {
      return fail(error_at(extends->at, "extends nest too deeply"));
    }
    Node other;
    const Node* source = &document;
    Scope inner = scope;
    if (file != nullptr) {
      MUSTER_ASSIGN(other, read_extended_file(*file, scope, inner));
      source = &other;
    }
    const Node* base = source->find({"services", target->text});
    if (base == nullptr) {
      return fail(error_at(extends->at,
                           fmt::format("services.{}.extends: service \"{}\" not found in {}", name,
                                       target->text, file != nullptr ? file->text : here)));
    }
    const std::string step = (base->at.file ? *base->at.file : "") + "#" + target->text;
    if (std::find(chain.begin(), chain.end(), step) != chain.end()) {
      return fail(error_at(extends->at, fmt::format("services.{}.extends: circular reference "
                                                    "through service \"{}\"",
                                                    name, target->text)));
    }
    MUSTER_ASSIGN(Node merged, extended(target->text, *base, *source, inner, chain));
    Node own = service;
    own.erase("extends");
    Node base_root = wrap(name, std::move(merged));
    MUSTER_TRY(merge_spec(base_root, wrap(name, std::move(own))));
    return *base_root.find({"services", name});
  }

  // Merge rules go by path: a service is merged in its place.
  static Node wrap(const std::string& name, Node service) {
    Node services = Node::map();
    services.set(name, std::move(service));
    Node root = Node::map();
    root.set("services", std::move(services));
    return root;
  }

  Result<Node> read_extended_file(const Node& file, const Scope& scope, Scope& inner) {
    inner.dir = parent_path(file.text);
    MUSTER_ASSIGN(std::vector<Node> documents, read_file(file.text, file.at));
    if (documents.empty()) return fail(error_at(file.at, file.text + " is empty"));
    // Only services are taken from it, never its includes.
    for (const std::string_view key : {"include", "secrets", "configs"}) documents[0].erase(key);
    (void)scope;
    return read_document(std::move(documents[0]), inner, {});
  }

  // ------------------------------------------------------------ the whole

  Status finish(Project& project, const Scope& scope) {
    Node* services = project.document.find("services");
    if (services == nullptr) {
      services = &project.document.set("services", Node::map(project.document.at));
    }
    MUSTER_TRY(choose_profiles(*services, scope));
    MUSTER_TRY(check_dependencies(*services));
    const bool raw = context_.request.skip_interpolation;
    if (!raw) MUSTER_TRY(read_service_files(*services, scope));
    const std::vector<std::string> unsupported =
        unsupported_keys(project.document, Dialect::kSpec, raw);
    if (!unsupported.empty()) {
      std::string lines;
      for (const std::string& line : unsupported) lines += (lines.empty() ? "" : ";\n") + line;
      if (!context_.request.ignore_unsupported) {
        return Status(StatusCode::kInvalidArgument,
                      lines + "\n(--ignore-unsupported deploys without what is named here)",
                      "unsupported-key");
      }
      context_.warnings.push_back("Ignoring unsupported options:\n" + lines);
    }
    sort_document(project.document);
    read_payloads(context_, payload_variables_, project);
    return {};
  }

  Status choose_profiles(Node& services, const Scope& scope) {
    std::set<std::string> active(context_.request.profiles.begin(),
                                 context_.request.profiles.end());
    if (const std::optional<std::string> listed = lookup(scope)("COMPOSE_PROFILES")) {
      std::string_view rest = *listed;
      while (!rest.empty() && context_.request.profiles.empty()) {
        const size_t comma = rest.find(',');
        active.emplace(rest.substr(0, comma));
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
      }
    }
    std::erase_if(services.members, [&](const Member& service) {
      const Node* profiles = service.value.find("profiles");
      if (profiles == nullptr || profiles->is_zero() || active.count("*") != 0) return false;
      const bool wanted =
          std::any_of(profiles->items.begin(), profiles->items.end(),
                      [&](const Node& profile) { return active.count(profile.text) != 0; });
      if (!wanted) disabled_.insert(service.key);
      return !wanted;
    });
    return {};
  }

  Status check_dependencies(Node& services) {
    for (Member& service : services.members) {
      Node* depends = service.value.find("depends_on");
      if (depends == nullptr) continue;
      std::vector<std::string> dropped;
      for (const Member& member : depends->members) {
        const std::string& condition = member.value.find("condition")->text;
        if (condition != "service_started" && condition != "service_healthy" &&
            condition != "service_completed_successfully") {
          return error_at(member.value.at,
                          fmt::format("services.{}.depends_on.{}.condition must be one of "
                                      "service_started, service_healthy and "
                                      "service_completed_successfully",
                                      service.key, member.key));
        }
        if (services.find(member.key) != nullptr) continue;
        const bool required = member.value.find("required")->flag;
        if (!required) {
          dropped.push_back(member.key);
          continue;
        }
        if (disabled_.count(member.key) != 0) {
          return error_at(member.key_at, fmt::format("service \"{}\" depends on \"{}\", which no "
                                                     "active profile enables",
                                                     service.key, member.key));
        }
        return error_at(member.key_at, fmt::format("service \"{}\" depends on undefined service "
                                                   "\"{}\"",
                                                   service.key, member.key));
      }
      for (const std::string& name : dropped) depends->erase(name);
    }
    return check_cycles(services);
  }

  Status check_cycles(const Node& services) {
    // Services whose dependencies are all settled settle, until none is left or none moves.
    std::set<std::string> settled;
    bool moved = true;
    while (moved && settled.size() < services.members.size()) {
      moved = false;
      for (const Member& service : services.members) {
        if (settled.count(service.key) != 0) continue;
        const Node* depends = service.value.find("depends_on");
        const bool ready =
            depends == nullptr ||
            std::all_of(depends->members.begin(), depends->members.end(),
                        [&](const Member& member) { return settled.count(member.key) != 0; });
        if (ready) moved = settled.insert(service.key).second;
      }
    }
    for (const Member& service : services.members) {
      if (settled.count(service.key) != 0) continue;
      return error_at(service.value.find("depends_on")->at,
                      fmt::format("dependency cycle detected through service \"{}\"", service.key));
    }
    return {};
  }

  // env_file and label_file, below what the service says itself.
  Status read_service_files(Node& services, const Scope& scope) {
    for (Member& service : services.members) {
      MUSTER_TRY(read_files(service, "env_file", "environment", scope));
      MUSTER_TRY(read_files(service, "label_file", "labels", scope));
    }
    return {};
  }

  Status read_files(Member& service, std::string_view key, std::string_view into,
                    const Scope& scope) {
    const Node* files = service.value.find(key);
    if (files == nullptr) return {};
    Node merged = Node::map(files->at);
    for (const Node& file : files->items) {
      const Node* path = file.is_string() ? &file : file.find("path");
      const Node* required = file.find("required");
      const Node* format = file.find("format");
      if (required != nullptr && !required->flag && !context_.files.exists(path->text)) continue;
      const Result<std::string> text = context_.files.read(path->text);
      if (!text) {
        return error_at(
            path->at, fmt::format("services.{}.{}: {}", service.key, key, text.error().message()));
      }
      const bool raw = format != nullptr && format->text == "raw";
      if (format != nullptr && !raw) {
        return error_at(format->at,
                        fmt::format("services.{}.{}.format must be raw", service.key, key));
      }
      const Lookup outside = lookup(scope);
      MUSTER_ASSIGN(const EnvPairs pairs, raw ? parse_docker_env(*text, path->text, outside)
                                              : parse_dotenv(*text, path->text, outside));
      for (const auto& [name, value] : pairs) merged.set(name, Node::string(value, path->at));
    }
    if (const Node* own = service.value.find(into)) {
      for (const Member& member : own->members) merged.set(member.key, member.value);
    }
    service.value.erase(key);
    service.value.set(into, std::move(merged));
    return {};
  }

  LoadContext& context_;
  std::map<std::string, std::vector<Node>> parsed_;  // what include and extends name, by path
  size_t reads_ = 0;
  size_t extended_ = 0;
  std::set<std::string> disabled_;
  std::map<std::string, std::string> payload_variables_;  // as read_payloads() takes them
};

}  // namespace

Result<Project> load_spec(LoadContext& context, std::vector<ParsedFile> sources) {
  return SpecLoader(context).run(std::move(sources));
}

}  // namespace muster::deploy::compose
