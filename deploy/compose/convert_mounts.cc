#include <algorithm>

#include "deploy/compose/convert_parts.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {
namespace {

using muster::v1::Mount;

constexpr uint32_t kFileMode = 0444;

// "TYPE options are incompatible with type OTHER" for every option block but the type's own.
Status check_blocks(const Fields& volume, std::string_view type) {
  for (const std::string_view block : {"tmpfs", "bind", "volume", "image"}) {
    if (block == type || volume.find(block) == nullptr) continue;
    return volume.error(block,
                        fmt::format("{} options are incompatible with type {}", block, type));
  }
  return {};
}

Status convert_named(Conversion& conversion, const Fields& volume, Mount* out) {
  const std::string source = volume.text("source");
  const Fields own = volume.child("volume");
  if (own.flag("nocopy")) out->mutable_volume()->set_no_copy(true);
  if (conversion.spec()) {
    if (!own.text("subpath").empty()) out->mutable_volume()->set_subpath(own.text("subpath"));
  }
  Labels labels = conversion.spec() ? own.pairs("labels") : Labels();
  if (source.empty()) {
    if (!labels.empty()) put_pairs(labels, out->mutable_volume()->mutable_labels());
    return {};
  }
  const Node* entry = conversion.entry("volumes", source);
  if (entry == nullptr) {
    return volume.error("source", fmt::format("undefined volume \"{}\"", source));
  }
  conversion.used_volumes.insert(source);
  out->set_source(conversion.name_of(entry, source));
  const Fields fields(entry, "volumes." + source);
  if (fields.flag("external")) return {};
  for (auto& [key, value] : fields.pairs("labels")) labels.emplace(key, value);
  put_pairs(with_stack_label(conversion, std::move(labels)),
            out->mutable_volume()->mutable_labels());
  out->mutable_volume()->set_driver(fields.text("driver"));
  put_pairs(fields.pairs("driver_opts"), out->mutable_volume()->mutable_driver_options());
  return {};
}

Status convert_bind(const Conversion& conversion, const Fields& volume, Mount* out) {
  const Fields bind = volume.child("bind");
  out->set_source(volume.text("source"));
  const std::string propagation = bind.text("propagation");
  if (!propagation.empty()) {
    constexpr std::string_view kKnown[] = {"private", "rprivate", "shared",
                                           "rshared", "slave",    "rslave"};
    if (std::find(std::begin(kKnown), std::end(kKnown), propagation) == std::end(kKnown)) {
      return bind.error("propagation", fmt::format("unknown propagation \"{}\"", propagation));
    }
    out->mutable_bind()->set_propagation(propagation);
  }
  if (!conversion.spec()) return {};
  if (bind.flag("create_host_path")) out->mutable_bind()->set_create_source(true);
  const std::string recursive = bind.text("recursive");
  if (recursive == "disabled") out->mutable_bind()->set_non_recursive(true);
  if (recursive != "writable" && recursive != "readonly") return {};
  if (!volume.flag("read_only")) {
    return bind.error("recursive", fmt::format("\"{}\" needs read_only", recursive));
  }
  if (recursive == "writable") {
    out->mutable_bind()->set_read_only_non_recursive(true);
  } else {
    out->mutable_bind()->set_read_only_force_recursive(true);
  }
  return {};
}

Status convert_volume(Conversion& conversion, const Fields& volume, Mount* out) {
  const std::string type = volume.text("type");
  out->set_target(volume.text("target"));
  if (out->target().empty()) return volume.error("", "target is required");
  if (!out->target().starts_with('/')) {
    return volume.error(
        "target",
        fmt::format("invalid mount path: '{}' mount path must be absolute", out->target()));
  }
  out->set_read_only(volume.flag("read_only"));
  if (type.empty() || type == "volume") {
    MUSTER_TRY(check_blocks(volume, "volume"));
    return convert_named(conversion, volume, out);
  }
  if (type == "bind") {
    MUSTER_TRY(check_blocks(volume, "bind"));
    out->set_type(Mount::BIND);
    return convert_bind(conversion, volume, out);
  }
  if (type == "tmpfs") {
    MUSTER_TRY(check_blocks(volume, "tmpfs"));
    if (!volume.text("source").empty()) {
      return volume.error("source", "invalid tmpfs source, source must be empty");
    }
    out->set_type(Mount::TMPFS);
    const Fields tmpfs = volume.child("tmpfs");
    MUSTER_ASSIGN(const std::optional<int64_t> size, tmpfs.size("size"));
    if (size) out->mutable_tmpfs()->set_size_bytes(*size);
    if (!conversion.spec()) return {};
    MUSTER_ASSIGN(const std::optional<uint32_t> mode, tmpfs.mode("mode"));
    if (mode) out->mutable_tmpfs()->set_mode(*mode);
    return {};
  }
  if (type == "image") {
    MUSTER_TRY(check_blocks(volume, "image"));
    out->set_type(Mount::IMAGE);
    out->set_source(volume.text("source"));
    if (out->source().empty()) return volume.error("source", "an image mount needs an image");
    const std::string subpath = volume.child("image").text("subpath");
    if (!subpath.empty()) out->mutable_image()->set_subpath(subpath);
    return {};
  }
  return volume.error(
      "type", fmt::format("\"{}\": volume type must be volume, bind, tmpfs or image", type));
}

// The newest mount has its place for itself.
Status check_target(const muster::v1::ContainerSpec& container, const Position& at,
                    std::string_view path) {
  const std::string& target = container.mounts(container.mounts_size() - 1).target();
  for (int i = 0; i + 1 < container.mounts_size(); ++i) {
    if (container.mounts(i).target() != target) continue;
    return error_at(at, fmt::format("{}: duplicate mount point: {}", path, target));
  }
  return {};
}

// Service-level tmpfs: "PATH[:OPTION,...]".
Status convert_tmpfs(const Fields& fields, muster::v1::ContainerSpec* out) {
  const Node* list = fields.find("tmpfs");
  for (size_t i = 0; list != nullptr && i < list->items.size(); ++i) {
    const std::string& text = list->items[i].text;
    const auto wrong = [&](std::string_view message) {
      return error_at(list->items[i].at, fmt::format("{}.tmpfs.{}: {}", fields.path(), i, message));
    };
    const size_t colon = text.find(':');
    Mount* mount = out->add_mounts();
    mount->set_type(Mount::TMPFS);
    mount->set_target(text.substr(0, colon));
    if (!mount->target().starts_with('/')) {
      return wrong(fmt::format("\"{}\" is not an absolute path", mount->target()));
    }
    MUSTER_TRY(check_target(*out, list->items[i].at, fmt::format("{}.tmpfs.{}", fields.path(), i)));
    std::string_view rest = text;
    rest = colon == std::string::npos ? std::string_view() : rest.substr(colon + 1);
    while (!rest.empty()) {
      const size_t comma = rest.find(',');
      const std::string_view option = rest.substr(0, comma);
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
      if (option.starts_with("size=")) {
        const Result<int64_t> size = parse_size(option.substr(5));
        if (!size) return wrong(size.error().message());
        mount->mutable_tmpfs()->set_size_bytes(*size);
      } else if (option.starts_with("mode=")) {
        Node holder = Node::map(list->items[i].at);
        holder.set("mode", Node::string(std::string(option.substr(5)), list->items[i].at));
        MUSTER_ASSIGN(const std::optional<uint32_t> mode,
                      Fields(&holder, fmt::format("{}.tmpfs.{}", fields.path(), i)).mode("mode"));
        mount->mutable_tmpfs()->set_mode(mode.value_or(0));
      } else if (option == "ro") {
        mount->set_read_only(true);
      } else if (option != "rw" && option != "noexec" && option != "nosuid" && option != "nodev" &&
                 !option.empty()) {
        return wrong(fmt::format("muster does not support the tmpfs option \"{}\"", option));
      }
    }
  }
  return {};
}

// The file a secret or config becomes, and the name of its object.
struct FileReference {
  std::string name;
  muster::v1::FileTarget file;
};

Result<std::vector<FileReference>> convert_references(const Conversion& conversion,
                                                      const Fields& fields,
                                                      std::string_view section) {
  std::vector<FileReference> out;
  const std::string kind(section.substr(0, section.size() - 1));
  const Node* list = fields.find(section);
  for (size_t i = 0; list != nullptr && i < list->items.size(); ++i) {
    const Fields item(&list->items[i], fmt::format("{}.{}.{}", fields.path(), section, i));
    const std::string source = item.text("source");
    const Node* entry = conversion.entry(section, source);
    if (entry == nullptr) {
      return fail(item.error("source", fmt::format("undefined {} \"{}\"", kind, source)));
    }
    FileReference to;
    to.name = conversion.name_of(entry, source);
    to.file.set_name(item.text("target").empty() ? source : item.text("target"));
    to.file.set_uid(item.text("uid").empty() ? "0" : item.text("uid"));
    to.file.set_gid(item.text("gid").empty() ? "0" : item.text("gid"));
    MUSTER_ASSIGN(const std::optional<uint32_t> mode, item.mode("mode"));
    to.file.set_mode(mode.value_or(kFileMode));
    for (const FileReference& other : out) {
      if (other.file.name() != to.file.name()) continue;
      return fail(item.error(
          "", fmt::format("duplicate {} target for {} not allowed", kind, to.file.name())));
    }
    out.push_back(std::move(to));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const FileReference& a, const FileReference& b) { return a.name < b.name; });
  return out;
}

}  // namespace

Status convert_mounts(Conversion& conversion, const Fields& fields,
                      muster::v1::ContainerSpec* out) {
  const Node* volumes = fields.find("volumes");
  for (size_t i = 0; volumes != nullptr && i < volumes->items.size(); ++i) {
    const Fields volume(&volumes->items[i], fmt::format("{}.volumes.{}", fields.path(), i));
    // Types muster has no mounts for were reported by the loader.
    const std::string type = volume.text("type");
    if (type == "npipe" || type == "cluster") continue;
    if (type == "image" && !conversion.spec()) continue;
    MUSTER_TRY(convert_volume(conversion, volume, out->add_mounts()));
    MUSTER_TRY(check_target(*out, volumes->items[i].at, volume.path()));
  }
  if (conversion.spec()) MUSTER_TRY(convert_tmpfs(fields, out));
  MUSTER_ASSIGN(const std::vector<FileReference> secrets,
                convert_references(conversion, fields, "secrets"));
  for (const FileReference& reference : secrets) {
    muster::v1::SecretReference* to = out->add_secrets();
    to->set_secret_name(reference.name);
    *to->mutable_file() = reference.file;
  }
  MUSTER_ASSIGN(const std::vector<FileReference> configs,
                convert_references(conversion, fields, "configs"));
  for (const FileReference& reference : configs) {
    muster::v1::ConfigReference* to = out->add_configs();
    to->set_config_name(reference.name);
    *to->mutable_file() = reference.file;
  }
  return {};
}

}  // namespace muster::deploy::compose
