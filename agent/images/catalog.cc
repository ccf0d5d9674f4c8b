#include "agent/images/catalog.h"

#include <boost/json/serialize.hpp>

#include "agent/images/digest.h"
#include "agent/images/json_view.h"
#include "agent/images/manifest.h"
#include "base/file.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;

json::array json_of_set(const std::set<std::string>& names) {
  return json_of(std::vector<std::string>(names.begin(), names.end()));
}

json::object json_of_record(const ImageRecord& r) {
  json::object o;
  o["digest"] = r.digest;
  o["manifest"] = r.manifest_digest;
  o["config"] = r.config_id;
  o["tags"] = json_of_set(r.tags);
  o["digests"] = json_of_set(r.digests);
  o["os"] = r.os;
  o["architecture"] = r.architecture;
  o["created_at_ns"] = r.created_at_ns;
  o["size_bytes"] = static_cast<int64_t>(r.size_bytes);
  json::array layers;
  for (const LayerBlob& layer : r.layers) {
    json::object l;
    l["blob"] = layer.digest;
    l["diff_id"] = layer.diff_id;
    layers.push_back(std::move(l));
  }
  o["layers"] = std::move(layers);
  return o;
}

ImageRecord record_of_json(const json::value& v) {
  ImageRecord r;
  r.digest = json_string(v, "digest");
  r.manifest_digest = json_string(v, "manifest");
  r.config_id = json_string(v, "config");
  for (std::string& s : json_strings(v, "tags")) r.tags.insert(std::move(s));
  for (std::string& s : json_strings(v, "digests")) r.digests.insert(std::move(s));
  r.os = json_string(v, "os");
  r.architecture = json_string(v, "architecture");
  r.created_at_ns = json_int(v, "created_at_ns");
  r.size_bytes = static_cast<uint64_t>(json_int(v, "size_bytes"));
  for (const json::value& layer : json_array(v, "layers")) {
    r.layers.push_back({json_string(layer, "blob"), json_string(layer, "diff_id")});
  }
  return r;
}

// Whether all that a container needs is there; else why not.
Result<CatalogEntry> complete(ImageRecord record, const ContentStore& content) {
  for (const LayerBlob& layer : record.layers) {
    if (!content.has_layer(layer.diff_id)) {
      return fail(data_loss("layer {} is missing", layer.diff_id));
    }
  }
  MUSTER_ASSIGN(const std::string text, content.read_blob(record.config_id));
  MUSTER_ASSIGN(ParsedConfig config, parse_config(text));
  return CatalogEntry{std::move(record), std::move(config.run)};
}

}  // namespace

std::string ImageRecord::short_name() const {
  const std::string& name = !tags.empty()      ? *tags.begin()
                            : !digests.empty() ? *digests.begin()
                                               : "";
  const auto reference = parse_reference(name);
  return reference ? reference->familiar() : hex_of(config_id).substr(0, 12);
}

Status Catalog::load(const ContentStore& content, std::vector<std::string>& dropped) {
  const auto text = read_file(file_);
  if (!text) return text.error().code() == StatusCode::kNotFound ? ok_status() : text.error();
  MUSTER_ASSIGN(const json::value v, parse_json(*text, file_.string()));
  if (json_int(v, "version") != kFormat) {
    return failed_precondition("{} has version {}, this program knows {}", file_.string(),
                               json_int(v, "version"), kFormat);
  }
  for (const json::value& image : json_array(v, "images")) {
    ImageRecord record = record_of_json(image);
    const std::string name = record.short_name();
    auto entry = complete(std::move(record), content);
    if (!entry) {
      dropped.push_back(fmt::format("{} ({})", name, entry.error().message()));
      continue;
    }
    const std::string digest = entry->record.digest;
    images_[digest] = std::make_shared<const CatalogEntry>(*std::move(entry));
  }
  rebuild();
  return ok_status();
}

void Catalog::index(const CatalogEntryPtr& entry) {
  const ImageRecord& r = entry->record;
  for (const std::string& tag : r.tags) by_name_[tag] = entry;
  by_name_.emplace(r.manifest_digest, entry);
  by_name_.emplace(r.config_id, entry);
}

void Catalog::rebuild() {
  by_name_.clear();
  for (const auto& [digest, entry] : images_) by_name_[digest] = entry;
  for (const auto& [digest, entry] : images_) index(entry);
}

CatalogEntryPtr Catalog::find(const ImageReference& reference) const {
  const auto it = by_name_.find(reference.digest.empty() ? reference.tagged() : reference.digest);
  return it == by_name_.end() ? nullptr : it->second;
}

Result<CatalogEntryPtr> Catalog::find_by_text(const std::string& text) const {
  if (is_digest(text)) {
    const auto it = by_name_.find(text);
    return it == by_name_.end() ? nullptr : it->second;
  }
  if (const auto reference = parse_reference(text)) {
    if (CatalogEntryPtr entry = find(*reference)) return entry;
  }
  const std::string hex = text.starts_with("sha256:") ? text.substr(7) : text;
  CatalogEntryPtr found;
  if (!looks_like_id(hex)) return found;
  for (const auto& [digest, entry] : images_) {
    const bool suits =
        hex_of(entry->record.config_id).starts_with(hex) || hex_of(digest).starts_with(hex);
    if (!suits) continue;
    if (found != nullptr && found->record.config_id != entry->record.config_id) {
      return fail(invalid_argument("image id {} suits several images; give more digits", text));
    }
    if (found == nullptr) found = entry;
  }
  return found;
}

Status Catalog::put(CatalogEntry entry) {
  const auto old = images_.find(entry.record.digest);
  if (old != images_.end()) {
    entry.record.tags.insert(old->second->record.tags.begin(), old->second->record.tags.end());
    entry.record.digests.insert(old->second->record.digests.begin(),
                                old->second->record.digests.end());
  }
  for (const std::string& tag : entry.record.tags) {
    const auto it = by_name_.find(tag);
    if (it == by_name_.end() || it->second->record.digest == entry.record.digest) continue;
    CatalogEntry previous = *images_[it->second->record.digest];
    previous.record.tags.erase(tag);
    const std::string digest = previous.record.digest;
    images_[digest] = std::make_shared<const CatalogEntry>(std::move(previous));
  }
  const std::string digest = entry.record.digest;
  images_[digest] = std::make_shared<const CatalogEntry>(std::move(entry));
  rebuild();
  return save();
}

Status Catalog::untag(const std::string& digest, const std::vector<std::string>& names) {
  const auto it = images_.find(digest);
  if (it == images_.end()) return ok_status();
  CatalogEntry entry = *it->second;
  for (const std::string& name : names) {
    entry.record.tags.erase(name);
    entry.record.digests.erase(name);
  }
  it->second = std::make_shared<const CatalogEntry>(std::move(entry));
  rebuild();
  return save();
}

Status Catalog::erase(const std::vector<std::string>& digests) {
  for (const std::string& digest : digests) images_.erase(digest);
  rebuild();
  return save();
}

std::vector<CatalogEntryPtr> Catalog::all() const {
  std::vector<CatalogEntryPtr> result;
  for (const auto& [digest, entry] : images_) result.push_back(entry);
  return result;
}

ContentStore::Live Catalog::live() const {
  ContentStore::Live live;
  for (const auto& [digest, entry] : images_) {
    const ImageRecord& r = entry->record;
    live.blobs.insert({r.digest, r.manifest_digest, r.config_id});
    for (const LayerBlob& layer : r.layers) {
      live.blobs.insert(layer.digest);
      live.diff_ids.insert(layer.diff_id);
    }
  }
  return live;
}

Status Catalog::save() const {
  json::object document;
  document["version"] = kFormat;
  json::array images;
  for (const auto& [digest, entry] : images_) images.push_back(json_of_record(entry->record));
  document["images"] = std::move(images);
  return write_file_atomic(file_, json::serialize(document) + "\n", 0600, Durability::kFsync);
}

}  // namespace muster::agent
