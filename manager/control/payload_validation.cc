#include "manager/control/payload_validation.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <string>

#include "base/template.h"
#include "manager/control/validation.h"

namespace muster::manager::control {
namespace {

constexpr size_t kLabelBytesMax = 32'000;
constexpr std::string_view kGolang = "golang";

bool alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

Status validate_data(size_t bytes, size_t limit, std::string_view kind) {
  if (bytes > 0 && bytes < limit) return ok_status();
  return invalid_argument("{} data must be larger than 0 and less than {} bytes", kind, limit);
}

// "template line 1, column 9" of an error's text, which goes on with a quotation.
std::string_view position_of(std::string_view message) {
  return message.substr(0, message.find(':'));
}

// What is wrong with a template is better said now than by each of its tasks.
Status validate_template(const std::string& driver, const std::string& data, bool quote,
                         std::string_view kind) {
  if (driver.empty()) return ok_status();
  if (driver != kGolang) {
    return invalid_argument("template driver \"{}\" is not known: only \"golang\" is", driver);
  }
  TemplateOptions options;
  const auto stand_in = [](const TemplateArgs&) -> Result<boost::json::value> {
    return boost::json::value("");
  };
  for (const char* name : {"secret", "config", "env"}) options.functions[name] = stand_in;
  const auto parsed = Template::parse(data, std::move(options));
  if (parsed) return ok_status();
  const std::string& message = parsed.error().message();
  return invalid_argument("the {}'s template cannot be parsed: {}", kind,
                          quote ? std::string_view(message) : position_of(message));
}

void sort_labels(v1::Annotations& annotations) {
  std::stable_sort(annotations.mutable_labels()->begin(), annotations.mutable_labels()->end(),
                   [](const auto& a, const auto& b) { return a.key() < b.key(); });
}

// The path in the container.
std::string path_of(const std::string& target, std::string_view base) {
  const std::filesystem::path path =
      target.front() == '/' ? std::filesystem::path(target) : std::filesystem::path(base) / target;
  std::string normal = path.lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

bool climbs(const std::string& target) {
  const std::filesystem::path path(target);
  return std::any_of(path.begin(), path.end(), [](const auto& part) { return part == ".."; });
}

template <class References>
Status validate_targets(const References& references, std::string_view kind, std::string_view base,
                        std::set<std::string>& taken) {
  for (const auto& reference : references) {
    const std::string& target = reference.file().name();
    if (target.empty()) return invalid_argument("malformed {} reference, no target given", kind);
    if (climbs(target)) {
      return invalid_argument("malformed {} reference, the target '{}' contains \"..\"", kind,
                              target);
    }
    const std::string path = path_of(target, base);
    if (path == "/" || target.back() == '/') {
      return invalid_argument("malformed {} reference, the target '{}' is a directory", kind,
                              target);
    }
    if (!taken.insert(path).second) {
      return invalid_argument("{} references have a conflicting target: '{}'", kind, target);
    }
    if (reference.file().mode() > 07777) {
      return invalid_argument("malformed {} reference, {:o} is not a file mode", kind,
                              reference.file().mode());
    }
  }
  return ok_status();
}

}  // namespace

Status validate_payload_name(std::string_view name) {
  if (name.empty()) {
    return Status(StatusCode::kInvalidArgument, "name must be provided");
  }
  const bool good = name.size() <= 64 && alnum(name.front()) && alnum(name.back()) &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return alnum(c) || c == '-' || c == '_' || c == '.';
                    });
  if (good) return ok_status();
  return Status(StatusCode::kInvalidArgument,
                "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end "
                "character must be [a-zA-Z0-9]");
}

Status validate_payload_labels(const v1::Annotations& annotations) {
  MUSTER_TRY(validate_payload_name(annotations.name()));
  if (annotations.ByteSizeLong() > kLabelBytesMax) {
    return invalid_argument("the labels have {} bytes; the limit is {}", annotations.ByteSizeLong(),
                            kLabelBytesMax);
  }
  return validate_labels(annotations.labels());
}

Status validate_payload_spec(const v1::SecretSpec& spec) {
  MUSTER_TRY(validate_payload_labels(spec.annotations()));
  MUSTER_TRY(validate_data(spec.data().size(), kSecretBytesLimit, "secret"));
  return validate_template(spec.template_driver(), spec.data(), false, "secret");
}

Status validate_payload_spec(const v1::ConfigSpec& spec) {
  MUSTER_TRY(validate_payload_labels(spec.annotations()));
  MUSTER_TRY(validate_data(spec.data().size(), kConfigBytesLimit, "config"));
  return validate_template(spec.template_driver(), spec.data(), true, "config");
}

Status validate_payload_targets(const v1::ContainerSpec& container) {
  std::set<std::string> taken;
  MUSTER_TRY(validate_targets(container.secrets(), "secret", "/run/secrets", taken));
  return validate_targets(container.configs(), "config", "/", taken);
}

void normalise(v1::SecretSpec& spec) {
  sort_labels(*spec.mutable_annotations());
}

void normalise(v1::ConfigSpec& spec) {
  sort_labels(*spec.mutable_annotations());
}

}  // namespace muster::manager::control
