#include "agent/secrets/expand.h"

#include <string_view>

#include "base/template.h"

namespace muster::agent {
namespace {

// What an expanded payload may have; as much as the largest payload.
constexpr size_t kExpandedBytesMax = 1000 * 1024;

Result<std::string> name_argument(const TemplateArgs& args) {
  if (args.size() != 1 || !args[0]->is_string()) return fail(invalid_argument("takes one name"));
  return std::string(args[0]->as_string());
}

Result<boost::json::value> content(const PayloadSet& payloads, const std::string& id,
                                   std::string_view kind, const std::string& target) {
  const auto found = payloads.find(id);
  if (found == payloads.end()) return fail(not_found("{} target {} is not here", kind, target));
  return boost::json::value(boost::json::string(found->second->data));
}

// "template line 1, column 9": what follows quotes.
std::string_view position_of(std::string_view message) {
  return message.substr(0, message.find(':'));
}

}  // namespace

Result<std::string> expand_payload(const Payload& payload, const v1::ContainerSpec& container,
                                   const PayloadSet& payloads, const boost::json::value& data) {
  const std::string_view kind = payload.config ? "config" : "secret";
  if (payload.template_driver.empty()) return payload.data;
  if (payload.template_driver != "golang") {
    return fail(invalid_argument("{} {}: template driver \"{}\" is not known", kind, payload.name,
                                 payload.template_driver));
  }
  bool sensitive = !payload.config;
  TemplateOptions options;
  options.output_bytes_max = kExpandedBytesMax;
  options.functions["secret"] = [&](const TemplateArgs& args) -> Result<boost::json::value> {
    MUSTER_ASSIGN(const std::string target, name_argument(args));
    for (const v1::SecretReference& reference : container.secrets()) {
      if (reference.file().name() != target) continue;
      sensitive = true;
      return content(payloads, reference.secret_id(), "secret", target);
    }
    return fail(not_found("secret target {} not found", target));
  };
  options.functions["config"] = [&](const TemplateArgs& args) -> Result<boost::json::value> {
    MUSTER_ASSIGN(const std::string target, name_argument(args));
    for (const v1::ConfigReference& reference : container.configs()) {
      if (reference.file().name() != target) continue;
      return content(payloads, reference.config_id(), "config", target);
    }
    return fail(not_found("config target {} not found", target));
  };
  options.functions["env"] = [&](const TemplateArgs& args) -> Result<boost::json::value> {
    MUSTER_ASSIGN(const std::string name, name_argument(args));
    for (const std::string& entry : container.env()) {
      if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name)) {
        return boost::json::value(boost::json::string(entry.substr(name.size() + 1)));
      }
    }
    return boost::json::value("");
  };
  auto expanded = expand_template(payload.data, data, std::move(options));
  if (expanded) return expanded;
  const std::string& message = expanded.error().message();
  return fail(Status(expanded.error().code(),
                     fmt::format("{} {} cannot be expanded: {}", kind, payload.name,
                                 sensitive ? position_of(message) : std::string_view(message))));
}

}  // namespace muster::agent
