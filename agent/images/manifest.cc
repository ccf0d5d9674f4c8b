#include "agent/images/manifest.h"

#include <sys/utsname.h>

#include <algorithm>

#include "agent/images/json_view.h"
#include "agent/images/reference.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
// overlayfs takes 500 lower layers; Docker builds at most 127.
constexpr size_t kLayersMax = 127;

Result<Descriptor> descriptor(const json::value& v, std::string_view what) {
  Descriptor d;
  d.media_type = json_string(v, "mediaType");
  d.digest = json_string(v, "digest");
  const int64_t size = json_int(v, "size");
  if (!is_digest(d.digest)) {
    return fail(data_loss("the manifest's {} has no valid sha256 digest (\"{}\")", what, d.digest));
  }
  if (size < 0) return fail(data_loss("the manifest's {} has a negative size", what));
  d.size_bytes = static_cast<uint64_t>(size);
  return d;
}

// How well an index entry suits: 0 not at all, higher is better.
int suitability(const Platform& wanted, const json::value& entry) {
  const json::value* p = json_member(entry, "platform");
  if (p == nullptr) return 0;
  if (json_string(*p, "os") != wanted.os) return 0;
  if (json_string(*p, "architecture") != wanted.architecture) return 0;
  const std::string variant = json_string(*p, "variant");
  if (variant == wanted.variant) return 3;
  if (variant.empty()) return 2;
  // arm64 is v8 whether it says so or not; a lower 32-bit ARM runs on a higher one.
  if (wanted.architecture == "arm64") return variant == "v8" ? 3 : 0;
  return !wanted.variant.empty() && variant < wanted.variant ? 1 : 0;
}

v1::HealthCheck health_check(const json::value& config) {
  v1::HealthCheck result;
  const json::value* h = json_member(config, "Healthcheck");
  if (h == nullptr) return result;
  for (std::string& word : json_strings(*h, "Test")) result.add_test(std::move(word));
  result.set_interval_ns(json_int(*h, "Interval"));
  result.set_timeout_ns(json_int(*h, "Timeout"));
  result.set_start_period_ns(json_int(*h, "StartPeriod"));
  result.set_start_interval_ns(json_int(*h, "StartInterval"));
  result.set_retries(static_cast<int32_t>(json_int(*h, "Retries")));
  return result;
}

void add_platform(std::vector<v1::Platform>& list, const std::string& os,
                  const std::string& architecture) {
  if (os.empty() && architecture.empty()) return;
  if (os == "unknown" && architecture == "unknown") return;
  v1::Platform platform;
  platform.set_os(os);
  platform.set_architecture(architecture == "arm" ? "" : architecture);
  const bool known = std::any_of(list.begin(), list.end(), [&](const v1::Platform& other) {
    return other.os() == platform.os() && other.architecture() == platform.architecture();
  });
  if (!known) list.push_back(std::move(platform));
}

std::vector<std::string> sorted_keys(const json::object& object) {
  std::vector<std::string> keys;
  for (const auto& pair : object) keys.emplace_back(pair.key().data(), pair.key().size());
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace

std::string Platform::to_string() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Platform host_platform() {
  utsname u{};
  uname(&u);
  const std::string machine = u.machine;
  if (machine == "x86_64") return {"linux", "amd64", ""};
  if (machine == "aarch64") return {"linux", "arm64", ""};
  if (machine == "armv7l") return {"linux", "arm", "v7"};
  if (machine == "i686" || machine == "i386") return {"linux", "386", ""};
  return {"linux", machine, ""};
}

bool Manifest::is_docker() const {
  return media_type == kDockerManifest;
}

uint64_t Manifest::bytes_total() const {
  uint64_t total = config.size_bytes;
  for (const Descriptor& layer : layers) total += layer.size_bytes;
  return total;
}

bool is_index(std::string_view media_type) {
  return media_type == kDockerList || media_type == kOciIndex;
}

Result<std::string> media_type_of(std::string_view raw) {
  MUSTER_ASSIGN(const json::value v, parse_json(raw, "the manifest"));
  if (!v.is_object()) return fail(data_loss("the manifest is not a JSON object"));
  std::string type = json_string(v, "mediaType");
  if (!type.empty()) return type;
  if (json_int(v, "schemaVersion") == 1) {
    return std::string("application/vnd.docker.distribution.manifest.v1+json");
  }
  if (json_member(v, "manifests") != nullptr) return std::string(kOciIndex);
  return std::string(kOciManifest);
}

Result<Manifest> parse_manifest(std::string_view raw) {
  MUSTER_ASSIGN(const std::string type, media_type_of(raw));
  if (type != kDockerManifest && type != kOciManifest) {
    return fail(StatusCode::kUnimplemented,
                fmt::format("manifests of type {} are not supported; push the image again with a "
                            "present-day tool",
                            type));
  }
  MUSTER_ASSIGN(const json::value v, parse_json(raw, "the manifest"));
  Manifest result;
  result.media_type = type;
  const json::value* config = json_member(v, "config");
  if (config == nullptr) return fail(data_loss("the manifest names no configuration"));
  MUSTER_ASSIGN(result.config, descriptor(*config, "configuration"));
  const json::array& layers = json_array(v, "layers");
  if (layers.size() > kLayersMax) {
    return fail(invalid_argument("the image has {} layers; at most {} are supported", layers.size(),
                                 kLayersMax));
  }
  uint64_t total = result.config.size_bytes;
  for (const json::value& layer : layers) {
    MUSTER_ASSIGN(Descriptor d, descriptor(layer, "layer"));
    if (__builtin_add_overflow(total, d.size_bytes, &total) || total > (uint64_t{1} << 60)) {
      return fail(data_loss("the manifest's sizes are absurd"));
    }
    result.layers.push_back(std::move(d));
  }
  return result;
}

Result<Descriptor> choose_platform(std::string_view raw_index, const Platform& platform) {
  MUSTER_ASSIGN(const json::value v, parse_json(raw_index, "the manifest list"));
  const json::value* best = nullptr;
  int best_score = 0;
  for (const json::value& entry : json_array(v, "manifests")) {
    const int score = suitability(platform, entry);
    if (score > best_score) {
      best = &entry;
      best_score = score;
    }
  }
  if (best == nullptr) {
    return fail(not_found("no matching manifest for {} in the manifest list entries",
                          platform.to_string()));
  }
  return descriptor(*best, "platform entry");
}

Result<std::vector<v1::Platform>> platforms_of_index(std::string_view raw_index) {
  MUSTER_ASSIGN(const json::value v, parse_json(raw_index, "the manifest list"));
  std::vector<v1::Platform> list;
  for (const json::value& entry : json_array(v, "manifests")) {
    const json::value* p = json_member(entry, "platform");
    if (p != nullptr) add_platform(list, json_string(*p, "os"), json_string(*p, "architecture"));
  }
  return list;
}

std::vector<v1::Platform> platforms_of_image(const Platform& platform) {
  std::vector<v1::Platform> list;
  add_platform(list, platform.os, platform.architecture);
  return list;
}

Result<ParsedConfig> parse_config(std::string_view raw) {
  MUSTER_ASSIGN(const json::value v, parse_json(raw, "the image's configuration"));
  if (!v.is_object()) return fail(data_loss("the image's configuration is not a JSON object"));
  ParsedConfig result;
  result.platform = {json_string(v, "os"), json_string(v, "architecture"),
                     json_string(v, "variant")};
  if (const auto created = parse_rfc3339(json_string(v, "created"))) {
    result.created_at_ns = created->unix_ns;
  }
  if (const json::value* rootfs = json_member(v, "rootfs")) {
    result.diff_ids = json_strings(*rootfs, "diff_ids");
  }
  for (const std::string& id : result.diff_ids) {
    if (!is_digest(id)) return fail(data_loss("the image's configuration names a bad layer id"));
  }
  const json::value* c = json_member(v, "config");
  if (c == nullptr) return result;
  result.run.entrypoint = json_strings(*c, "Entrypoint");
  result.run.cmd = json_strings(*c, "Cmd");
  result.run.env = json_strings(*c, "Env");
  result.run.working_dir = json_string(*c, "WorkingDir");
  result.run.user = json_string(*c, "User");
  result.run.stop_signal = json_string(*c, "StopSignal");
  result.run.volumes = sorted_keys(json_object(*c, "Volumes"));
  result.run.exposed_ports = sorted_keys(json_object(*c, "ExposedPorts"));
  const json::object& labels = json_object(*c, "Labels");
  for (const std::string& key : sorted_keys(labels)) {
    v1::KeyValue label;
    label.set_key(key);
    label.set_value(json_string(*json_member(v, "config")->as_object().if_contains("Labels"), key));
    result.run.labels.push_back(std::move(label));
  }
  result.run.healthcheck = health_check(*c);
  result.run.shell = json_strings(*c, "Shell");
  return result;
}

}  // namespace muster::agent
