#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/time.h"
#include "deploy/compose/convert_parts.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {

constexpr std::string_view kNamespaceLabel = "com.docker.stack.namespace";

std::string Conversion::name_of(const Node* entry, std::string_view key) const {
  const Node* name = entry == nullptr ? nullptr : entry->find("name");
  return name == nullptr || name->is_zero() ? scoped(key) : name->scalar_text();
}

// ---------------------------------------------------------------- Fields

const Node* Fields::find(std::string_view key) const {
  const Node* found = node_ == nullptr ? nullptr : node_->find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

std::string Fields::text(std::string_view key) const {
  const Node* found = find(key);
  return found == nullptr ? "" : found->scalar_text();
}

bool Fields::flag(std::string_view key) const {
  const Node* found = find(key);
  return found != nullptr && found->flag;
}

std::vector<std::string> Fields::texts(std::string_view key) const {
  std::vector<std::string> out;
  if (const Node* found = find(key)) {
    for (const Node& item : found->items) out.push_back(item.scalar_text());
  }
  return out;
}

std::map<std::string, std::string> Fields::pairs(std::string_view key) const {
  std::map<std::string, std::string> out;
  if (const Node* found = find(key)) {
    for (const Member& member : found->members) out[member.key] = member.value.scalar_text();
  }
  return out;
}

Status Fields::error(std::string_view key, std::string_view message) const {
  const Node* found = find(key);
  const Position at = found != nullptr ? found->at : node_ != nullptr ? node_->at : Position();
  return error_at(at, fmt::format("{}{}{}: {}", path_, key.empty() ? "" : ".", key, message));
}

Result<std::optional<int64_t>> Fields::duration_ns(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr || found->is_zero()) return std::nullopt;
  const Result<Duration> parsed = parse_duration(found->scalar_text());
  if (!parsed) return fail(error(key, parsed.error().message()));
  return parsed->count();
}

Result<std::optional<int64_t>> Fields::integer(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr) return std::nullopt;
  if (found->kind == Node::Kind::kFloat) {
    if (found->real > -9e15 && found->real < 9e15) {
      const auto whole = static_cast<int64_t>(found->real);
      if (static_cast<double>(whole) == found->real) return whole;
    }
    return fail(error(key, found->scalar_text() + " is not a whole number"));
  }
  const Result<int64_t> parsed = parse_integer(found->scalar_text());
  if (!parsed) return fail(error(key, parsed.error().message()));
  return *parsed;
}

Result<std::optional<int64_t>> Fields::size(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr) return std::nullopt;
  const Result<int64_t> parsed = parse_size(found->scalar_text());
  if (!parsed) return fail(error(key, parsed.error().message()));
  return *parsed;
}

Result<std::optional<int64_t>> Fields::cpus(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr || found->is_zero()) return std::nullopt;
  const Result<int64_t> parsed = parse_cpus(found->scalar_text());
  if (!parsed) return fail(error(key, parsed.error().message()));
  return *parsed;
}

Result<std::optional<double>> Fields::real(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr) return std::nullopt;
  const std::string text = found->scalar_text();
  double out = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return fail(error(key, fmt::format("\"{}\" is not a number", text)));
  }
  return out;
}

Result<std::optional<uint32_t>> Fields::mode(std::string_view key) const {
  const Node* found = find(key);
  if (found == nullptr) return std::nullopt;
  int64_t out = -1;
  if (found->is_string()) {
    const char* const last = found->text.data() + found->text.size();
    const auto parsed = std::from_chars(found->text.data(), last, out, 8);
    if (parsed.ec != std::errc() || parsed.ptr != last) out = -1;
  } else if (found->kind == Node::Kind::kInt) {
    out = found->number;
  } else if (found->real >= 0 && found->real <= 07777) {
    out = static_cast<int64_t>(found->real);
  }
  if (out < 0 || out > 07777) {
    return fail(error(key, fmt::format("{} is not a file mode", found->scalar_text())));
  }
  return static_cast<uint32_t>(out);
}

void put_pairs(const Labels& pairs, google::protobuf::RepeatedPtrField<muster::v1::KeyValue>* out) {
  for (const auto& [key, value] : pairs) {
    muster::v1::KeyValue* pair = out->Add();
    pair->set_key(key);
    pair->set_value(value);
  }
}

Labels with_stack_label(const Conversion& conversion, Labels labels) {
  labels[std::string(kNamespaceLabel)] = conversion.stack;
  return labels;
}

// ---------------------------------------------------------------- resources of the stack

namespace {

// "10.0.0.0/24", "fd00::/64".
bool is_cidr(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return false;
  const std::string address = text.substr(0, slash);
  in6_addr parsed{};
  const bool v4 = ::inet_pton(AF_INET, address.c_str(), &parsed) == 1;
  if (!v4 && ::inet_pton(AF_INET6, address.c_str(), &parsed) != 1) return false;
  unsigned bits = 0;
  const char* begin = text.data() + slash + 1;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(begin, end, bits);
  return error == std::errc() && rest == end && bits <= (v4 ? 32u : 128u);
}

Status convert_networks(const Conversion& conversion, StackSpecs& out) {
  std::set<std::string> external;
  for (const std::string& key : conversion.used_networks) {
    const Node* entry = conversion.entry("networks", key);
    const Fields fields(entry, "networks." + key);
    if (fields.flag("external")) {
      external.insert(conversion.name_of(entry, key));
      continue;
    }
    muster::v1::NetworkSpec spec;
    spec.mutable_annotations()->set_name(conversion.name_of(entry, key));
    put_pairs(with_stack_label(conversion, fields.pairs("labels")),
              spec.mutable_annotations()->mutable_labels());
    const std::string driver = fields.text("driver");
    spec.set_driver(driver.empty() || driver == "default" ? "overlay" : driver);
    put_pairs(fields.pairs("driver_opts"), spec.mutable_driver_options());
    spec.set_internal(fields.flag("internal"));
    spec.set_attachable(fields.flag("attachable"));
    spec.set_ipv6(fields.flag("enable_ipv6"));
    const Fields ipam = fields.child("ipam");
    if (ipam.text("driver") != "default") spec.set_ipam_driver(ipam.text("driver"));
    const Node* pools = ipam.find("config");
    for (size_t i = 0; pools != nullptr && i < pools->items.size(); ++i) {
      const Fields pool(&pools->items[i], fmt::format("{}.config.{}", ipam.path(), i));
      for (const char* key : {"subnet", "ip_range"}) {
        const std::string range = pool.text(key);
        if (range.empty() || is_cidr(range)) continue;
        return pool.error(key, fmt::format("invalid CIDR address: {}", range));
      }
      muster::v1::IpamPool* to = spec.add_pools();
      to->set_subnet(pool.text("subnet"));
      to->set_ip_range(pool.text("ip_range"));
      to->set_gateway(pool.text("gateway"));
      put_pairs(pool.pairs("aux_addresses"), to->mutable_aux_addresses());
    }
    out.networks.push_back(std::move(spec));
  }
  out.external_networks.assign(external.begin(), external.end());
  std::sort(out.networks.begin(), out.networks.end(), [](const auto& a, const auto& b) {
    return a.annotations().name() < b.annotations().name();
  });
  return {};
}

// Secrets and configs have the same shape.
template <class Spec>
Status convert_files(const Conversion& conversion, std::string_view section,
                     std::vector<Spec>& specs, std::vector<std::string>& external) {
  const Node* entries = conversion.project.document.find(section);
  if (entries == nullptr) return {};
  for (const Member& entry : entries->members) {
    const Fields fields(&entry.value, fmt::format("{}.{}", section, entry.key));
    if (fields.flag("external")) {
      external.push_back(conversion.name_of(&entry.value, entry.key));
      continue;
    }
    const auto payload = conversion.project.payloads.find(fields.path());
    const bool driver = !fields.text("driver").empty();
    if (driver && !fields.text("file").empty()) {
      return fields.error("driver", fmt::format("secret {0}: secret.driver and secret.file "
                                                "conflict; only use secret.driver",
                                                entry.key));
    }
    if (driver) {
      return fields.error("driver", "muster keeps secrets itself and has no secret drivers");
    }
    if (payload == conversion.project.payloads.end()) return fields.error("", "has no content");
    if (!payload->second) return payload->second.error();
    Spec spec;
    spec.mutable_annotations()->set_name(conversion.name_of(&entry.value, entry.key));
    put_pairs(with_stack_label(conversion, fields.pairs("labels")),
              spec.mutable_annotations()->mutable_labels());
    spec.set_template_driver(fields.text("template_driver"));
    spec.set_data(*payload->second);
    specs.push_back(std::move(spec));
  }
  std::sort(specs.begin(), specs.end(), [](const auto& a, const auto& b) {
    return a.annotations().name() < b.annotations().name();
  });
  std::sort(external.begin(), external.end());
  external.erase(std::unique(external.begin(), external.end()), external.end());
  return {};
}

void convert_volumes(const Conversion& conversion, StackSpecs& out) {
  for (const std::string& key : conversion.used_volumes) {
    const Node* entry = conversion.entry("volumes", key);
    const Fields fields(entry, "volumes." + key);
    if (fields.flag("external")) continue;
    muster::v1::VolumeSpec spec;
    spec.mutable_annotations()->set_name(conversion.name_of(entry, key));
    put_pairs(with_stack_label(conversion, fields.pairs("labels")),
              spec.mutable_annotations()->mutable_labels());
    spec.set_driver(fields.text("driver"));
    put_pairs(fields.pairs("driver_opts"), spec.mutable_driver_options());
    out.volumes.push_back(std::move(spec));
  }
  std::sort(out.volumes.begin(), out.volumes.end(), [](const auto& a, const auto& b) {
    return a.annotations().name() < b.annotations().name();
  });
}

}  // namespace

Status check_stack_name(std::string_view name) {
  const auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool good = !name.empty() && name.size() <= 63 && alnum(name[0]) &&
                    std::all_of(name.begin(), name.end(), [&](char c) {
                      return alnum(c) || c == '_' || c == '-' || c == '.';
                    });
  if (good) return {};
  return invalid_argument(
      "invalid stack name: \"{}\" (letters, digits, \"_\", \"-\" and \".\", at most 63, a letter "
      "or "
      "digit first)",
      name);
}

Result<StackSpecs> convert(const Project& project, std::string_view stack) {
  MUSTER_TRY(check_stack_name(stack));
  Conversion conversion{project, std::string(stack), {}, {}};
  StackSpecs out;
  if (const Node* services = project.document.find("services")) {
    for (const Member& service : services->members) {
      MUSTER_ASSIGN(muster::v1::ServiceSpec spec, convert_service(conversion, service));
      out.services.push_back(std::move(spec));
    }
  }
  std::sort(out.services.begin(), out.services.end(), [](const auto& a, const auto& b) {
    return a.annotations().name() < b.annotations().name();
  });
  MUSTER_TRY(convert_networks(conversion, out));
  MUSTER_TRY(convert_files(conversion, "secrets", out.secrets, out.external_secrets));
  MUSTER_TRY(convert_files(conversion, "configs", out.configs, out.external_configs));
  convert_volumes(conversion, out);
  return out;
}

}  // namespace muster::deploy::compose
