// Secrets and configs in the shape of Docker's API.
#include <string_view>

#include "deploy/cli/docker_json.h"
#include "deploy/cli/docker_json_parts.h"

namespace muster::deploy::cli {
namespace internal {

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0);
    for (int i = 0; i < 4; ++i) out += kDigits[group >> (18 - 6 * i) & 63];
  }
  const size_t padding = (3 - bytes.size() % 3) % 3;
  out.replace(out.size() - padding, padding, padding, '=');
  return out;
}

}  // namespace internal

namespace {

using namespace internal;  // NOLINT: the parts are made for this file

template <class Object>
boost::json::object about(const Object& object, boost::json::object spec) {
  boost::json::object out;
  out["ID"] = object.id();
  out["Version"] = {{"Index", object.meta().version()}};
  out["CreatedAt"] = time_json(object.meta().created_at_ns());
  out["UpdatedAt"] = time_json(object.meta().updated_at_ns());
  out["Spec"] = std::move(spec);
  return out;
}

template <class Spec>
boost::json::object spec_json(const Spec& spec) {
  boost::json::object out;
  out["Name"] = spec.annotations().name();
  out["Labels"] = pairs_json(spec.annotations().labels());
  if (!spec.template_driver().empty()) out["Templating"] = {{"Name", spec.template_driver()}};
  return out;
}

}  // namespace

boost::json::object payload_json(const v1::Secret& secret) {
  return about(secret, spec_json(secret.spec()));
}

boost::json::object payload_json(const v1::Config& config) {
  boost::json::object spec = spec_json(config.spec());
  spec["Data"] = base64(config.spec().data());
  return about(config, std::move(spec));
}

}  // namespace muster::deploy::cli
