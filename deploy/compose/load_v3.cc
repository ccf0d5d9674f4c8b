// The v3 dialect: what `docker stack deploy` does with Compose files, in its order.

#include <algorithm>

#include "deploy/compose/canonical.h"
#include "deploy/compose/env_file.h"
#include "deploy/compose/load_dialects.h"
#include "deploy/compose/merge.h"
#include "deploy/compose/schema.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {
namespace {

constexpr int kNewestMinor = 13;

struct Reaction {
  std::string_view key;
  std::string_view hint;
};

constexpr std::string_view kUseResources = "Set resource limits using deploy.resources";

constexpr Reaction kForbidden[] = {
    {"cpu_quota", kUseResources},
    {"cpu_shares", kUseResources},
    {"cpuset", kUseResources},
    {"extends", "Support for `extends` is not implemented yet."},
    {"mem_limit", kUseResources},
    {"memswap_limit", kUseResources},
    {"volume_driver",
     "Instead of setting the volume driver on the service, define a volume using the top-level "
     "`volumes` option and specify the driver there."},
    {"volumes_from",
     "To share a volume between services, define it using the top-level `volumes` option and "
     "reference it from each service that shares it using the service-level `volumes` option."},
};

constexpr std::string_view kUnsupported[] = {
    "build",   "cgroup_parent", "cgroupns_mode", "devices",      "domainname", "external_links",
    "ipc",     "links",         "mac_address",   "network_mode", "pid",        "privileged",
    "restart", "security_opt",  "shm_size",      "userns_mode"};

constexpr Reaction kDeprecated[] = {
    {"container_name", "Setting the container name is not supported."},
    {"expose",
     "Exposing ports is unnecessary - services on the same network can access each other's "
     "containers on any port."},
};

// The first service's position of a key, or null.
const Member* find_in_services(const Node& document, std::string_view key) {
  const Node* services = document.find("services");
  if (services == nullptr) return nullptr;
  for (const Member& service : services->members) {
    for (const Member& member : service.value.members) {
      if (member.key == key) return &member;
    }
  }
  return nullptr;
}

Status check_forbidden(const Node& document) {
  std::string found;
  Position at;
  bool spec_key = false;
  for (const Reaction& reaction : kForbidden) {
    const Member* member = find_in_services(document, reaction.key);
    if (member == nullptr) continue;
    if (!found.empty()) found += "\n\n";
    found += fmt::format("{}: {}", reaction.key, reaction.hint);
    if (at.line == 0 || member->key_at.line < at.line) at = member->key_at;
    spec_key = spec_key || reaction.key != "volume_driver";
  }
  if (found.empty()) return {};
  const std::string hint =
      spec_key
          ? "\n\n(the Compose Specification has them: remove `version` from the file to use it)"
          : "";
  return error_at(at, "compose file contains unsupported options:\n\n" + found + hint);
}

// "3.8" to 8; "3", "" and a missing version are the newest.
Result<int> read_version(const Node& document, std::string& version) {
  const Node* node = document.find("version");
  version = node == nullptr ? "" : node->scalar_text();
  if (version.empty() || version == "3") version = fmt::format("3.{}", kNewestMinor);
  if (version.starts_with("3.") && version.size() <= 4) {
    const Result<int64_t> minor = parse_integer(std::string_view(version).substr(2));
    const bool plain = minor && version == fmt::format("3.{}", *minor);
    if (plain && *minor >= 0 && *minor <= kNewestMinor) return static_cast<int>(*minor);
  }
  return fail(error_at(node->at, fmt::format("unsupported Compose file version: {}\n(remove "
                                             "`version` to use the Compose Specification)",
                                             version)));
}

// env_file below environment; what is empty or null comes from the user's environment.
Status resolve_environment(LoadContext& context, Node& document) {
  Node* services = document.find("services");
  if (services == nullptr) return {};
  const Lookup lookup = lookup_in(context.request.environment);
  for (Member& service : services->members) {
    Node environment = Node::map(service.value.at);
    const auto put = [&](const std::string& name, Node value) {
      if (value.is_zero()) {
        if (const std::optional<std::string> outside = lookup(name)) {
          value = Node::string(*outside, value.at);
        }
      }
      environment.set(name, std::move(value));
    };
    if (const Node* files = service.value.find("env_file")) {
      for (const Node& file : files->items) {
        const Node* path = file.find("path");
        const Result<std::string> text = context.files.read(path->text);
        if (!text) {
          return error_at(path->at, fmt::format("services.{}.env_file: {}", service.key,
                                                text.error().message()));
        }
        MUSTER_ASSIGN(const EnvPairs pairs, parse_docker_env(*text, path->text, lookup));
        for (const auto& [name, value] : pairs) put(name, Node::string(value, path->at));
      }
      service.value.erase("env_file");
    }
    if (const Node* own = service.value.find("environment")) {
      for (const Member& member : own->members) put(member.key, member.value);
    }
    if (environment.members.empty()) continue;
    std::stable_sort(environment.members.begin(), environment.members.end(),
                     [](const Member& a, const Member& b) { return a.key < b.key; });
    service.value.set("environment", std::move(environment));
  }
  return {};
}

// Docker's warnings about keys, over all files together.
void note_keys(LoadContext& context, const std::vector<Node>& documents) {
  const auto used = [&documents](std::string_view key) {
    return std::any_of(documents.begin(), documents.end(), [key](const Node& document) {
      return find_in_services(document, key) != nullptr;
    });
  };
  std::string unsupported;
  for (const std::string_view key : kUnsupported) {
    if (!used(key)) continue;
    unsupported += (unsupported.empty() ? "" : ", ") + std::string(key);
  }
  if (!unsupported.empty()) {
    context.warnings.push_back("Ignoring unsupported options: " + unsupported);
  }
  std::string deprecated;
  for (const Reaction& reaction : kDeprecated) {
    if (used(reaction.key)) deprecated += fmt::format("\n\n{}: {}", reaction.key, reaction.hint);
  }
  if (!deprecated.empty()) {
    context.warnings.push_back("Ignoring deprecated options:" + deprecated);
  }
}

}  // namespace

Result<Project> load_v3(LoadContext& context, std::vector<ParsedFile> sources) {
  Project project;
  project.dialect = Dialect::kV3;
  std::vector<Node> originals;
  const Lookup lookup = lookup_in(context.request.environment);
  const std::string home = lookup("HOME").value_or("");
  const bool raw = context.request.skip_interpolation;
  bool first = true;
  for (ParsedFile& source : sources) {
    if (source.documents.empty() || !source.documents[0].is_map()) {
      return fail(invalid_argument("{}: top-level object must be a mapping", source.path));
    }
    if (source.documents.size() > 1) {
      context.warnings.push_back(
          fmt::format("{}: only the first YAML document is read", source.path));
    }
    Node& document = source.documents[0];
    std::string version;
    MUSTER_ASSIGN(const int minor, read_version(document, version));
    if (!first && version != project.version) {
      return fail(error_at(document.at,
                           fmt::format("version mismatched between two composefiles : {} and {}",
                                       project.version, version)));
    }
    project.version = version;
    MUSTER_TRY(check_forbidden(document));
    originals.push_back(document);
    std::vector<std::string> notes;
    if (!raw) {
      MUSTER_TRY(interpolate(document, Dialect::kV3, lookup, notes));
    }
    MUSTER_TRY(validate(document, Dialect::kV3, minor, raw));
    drop_merge_tags(document);
    // Docker says so only from the version that brought `name`.
    std::vector<std::string> shape_notes;
    MUSTER_TRY(canonicalise(document, Dialect::kV3, raw, shape_notes));
    std::erase_if(shape_notes, [minor](const std::string& note) {
      const bool external = note.find(".external.name is deprecated") != std::string::npos;
      return external && minor < (note.starts_with("volume ") ? 4 : 5);
    });
    add_notes(context.warnings, notes);
    add_notes(context.warnings, shape_notes);
    MUSTER_TRY(resolve_paths(document, context.working_dir, home, raw));
    // What the files say is kept as they say it: variables, and what comes from outside.
    if (!raw) MUSTER_TRY(resolve_environment(context, document));
    if (first) {
      project.document = std::move(document);
    } else {
      merge_v3(project.document, document);
    }
    first = false;
  }
  sort_document(project.document);
  project.document.erase("version");
  project.document.members.insert(project.document.members.begin(),
                                  Member{"version", {}, Node::string(project.version)});
  note_keys(context, originals);
  const std::vector<std::string> more = unsupported_keys(project.document, Dialect::kV3, raw);
  if (!more.empty()) {
    std::string text = "Ignoring options muster does not support:";
    for (const std::string& line : more) text += "\n\n" + line;
    context.warnings.push_back(text);
  }
  read_payloads(context, {}, project);
  return project;
}

}  // namespace muster::deploy::compose
