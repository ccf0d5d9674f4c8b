// muster secret ..., muster config ...: the same commands, but that a config shows its data.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/rng.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/payload_limits.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {
namespace {

// More than any payload may have.
constexpr size_t kPayloadReadMax = 2 << 20;

struct SecretCalls {
  using Object = v1::Secret;
  using Create = v1::CreateSecretRequest;
  using Get = v1::GetSecretRequest;
  using Remove = v1::RemoveSecretRequest;
  static constexpr std::string_view kKind = "secret";
  static auto list(Client& client) { return client.call(v1::ListSecretsRequest()); }
  static const auto& objects(const v1::ListSecretsResponse& r) { return r.secrets(); }
  static const v1::Secret& object(const v1::CreateSecretResponse& r) { return r.secret(); }
  static const v1::Secret& object(const v1::GetSecretResponse& r) { return r.secret(); }
  static void name(Get& request, const std::string& name) { request.set_secret(name); }
  static void name(Remove& request, const std::string& name) { request.set_secret(name); }
};
struct ConfigCalls {
  using Object = v1::Config;
  using Create = v1::CreateConfigRequest;
  using Get = v1::GetConfigRequest;
  using Remove = v1::RemoveConfigRequest;
  static constexpr std::string_view kKind = "config";
  static auto list(Client& client) { return client.call(v1::ListConfigsRequest()); }
  static const auto& objects(const v1::ListConfigsResponse& r) { return r.configs(); }
  static const v1::Config& object(const v1::CreateConfigResponse& r) { return r.config(); }
  static const v1::Config& object(const v1::GetConfigResponse& r) { return r.config(); }
  static void name(Get& request, const std::string& name) { request.set_config(name); }
  static void name(Remove& request, const std::string& name) { request.set_config(name); }
};

// The bytes as they are. Of what is far too long a beginning that is still too long.
Result<std::string> read_payload(Run& run, const std::string& path) {
  const bool from_stdin = path == "-";
  const auto where = [&](Status status) {
    return status.with_context(from_stdin ? "error reading from STDIN"
                                          : "error reading content from \"" + path + "\"");
  };
  UniqueFd file;
  if (!from_stdin) {
    file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail(where(errno_status(errno, path)));
  }
  std::string data;
  char buffer[65536];
  while (data.size() <= kPayloadReadMax) {
    const ssize_t n = ::read(from_stdin ? run.world.in_fd : file.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(where(errno_status(errno, from_stdin ? "read" : path)));
    if (n == 0) break;
    data.append(buffer, static_cast<size_t>(n));
  }
  if (data.empty() && from_stdin) return fail(where(invalid_argument("data is empty")));
  return data;
}

std::string labels_text(const v1::Annotations& annotations) {
  std::vector<std::string> texts;
  for (const auto& label : annotations.labels()) texts.push_back(label.key() + "=" + label.value());
  return join(texts, ",");
}

template <class Calls>
Result<int> create(Run& run) {
  typename Calls::Create request;
  std::vector<std::string> labels;
  std::string driver;
  std::string template_driver;
  run.flags.list("label,l", &labels, "K=V", "label");
  run.flags.value("template-driver", &template_driver, "golang",
                  "expand it as a template per task");
  if (Calls::kKind == "secret")
    run.flags.value("driver,d", &driver, "NAME", "not supported: muster keeps secrets itself");
  MUSTER_TRY(run.parse(1, 2));
  if (!driver.empty())
    return fail(
        invalid_argument("secret driver \"{}\" is not supported: muster keeps secrets "
                         "itself and has no secret drivers",
                         driver));
  if (run.args.size() < 2)
    return fail(usage_error(
        fmt::format("\"muster {} create\" needs a file, or - for standard input", Calls::kKind)));
  auto* spec = request.mutable_spec();
  spec->mutable_annotations()->set_name(run.args[0]);
  for (const auto& label : labels)
    set_pair(spec->mutable_annotations()->mutable_labels(), parse_key_value(label));
  spec->set_template_driver(template_driver);
  MUSTER_ASSIGN(*spec->mutable_data(), read_payload(run, run.args[1]));
  MUSTER_TRY(check_payload_size(Calls::kKind, spec->data().size()));
  SystemRng rng;
  request.set_request_id(rng.id());
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  run.line(Calls::object(response).id());
  return 0;
}

template <class Calls>
Result<int> list(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"id", "name", "label"}));
  MUSTER_ASSIGN(const auto response, Calls::list(run.client()));
  const auto& all = Calls::objects(response);
  std::vector<typename Calls::Object> objects(all.begin(), all.end());
  std::sort(objects.begin(), objects.end(), [](const auto& a, const auto& b) {
    return natural_less(a.spec().annotations().name(), b.spec().annotations().name());
  });
  const bool secrets = Calls::kKind == "secret";
  Listing listing({{"ID", "ID"},
                   {"Name", "NAME"},
                   {"Driver", "DRIVER", secrets},
                   {"CreatedAt", "CREATED"},
                   {"UpdatedAt", "UPDATED"},
                   {"Labels", "LABELS", false}});
  for (const auto& object : objects) {
    const auto& about = object.spec().annotations();
    const auto& filters = options.filters;
    if (!filters.prefixes("id", object.id()) || !filters.prefixes("name", about.name()) ||
        !filters.labels("label", about.labels()))
      continue;
    const int64_t now = run.world.now_ns();
    listing.add({object.id(), about.name(), "", time_ago(now, object.meta().created_at_ns()),
                 time_ago(now, object.meta().updated_at_ns()), labels_text(about)});
  }
  MUSTER_TRY(options.print(run, listing));
  return 0;
}

template <class Object>
std::string about_text(const Object& object) {
  const auto& about = object.spec().annotations();
  std::string out = fmt::format("ID:\t\t\t{}\nName:\t\t\t{}\n", object.id(), about.name());
  if (!about.labels().empty()) out += "Labels:\n";
  for (const auto& label : about.labels())
    out += fmt::format(" - {}{}{}\n", label.key(), label.value().empty() ? "" : "=", label.value());
  return out;
}

template <class Object>
std::string times_text(const Object& object) {
  return fmt::format("Created at:\t\t{}\nUpdated at:\t\t{}\n",
                     format_rfc3339(WallTime{object.meta().created_at_ns()}),
                     format_rfc3339(WallTime{object.meta().updated_at_ns()}));
}

std::string pretty(const v1::Secret& secret) {
  return about_text(secret) + "Driver:\t\t\t\n" + times_text(secret);
}

std::string pretty(const v1::Config& config) {
  std::string out = about_text(config) + times_text(config) + "Data:\n" + config.spec().data();
  if (out.back() != '\n') out += '\n';
  return out;
}

template <class Calls>
Result<int> inspect(Run& run) {
  std::string format;
  bool for_people = false;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  run.flags.toggle("pretty", &for_people, "print for people");
  MUSTER_TRY(run.parse(1, -1));
  if (for_people && !format.empty())
    return fail(usage_error("--format is incompatible with human friendly format"));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    typename Calls::Get request;
    Calls::name(request, name);
    MUSTER_ASSIGN(const auto response, run.client().call(request));
    if (for_people)
      run.out(pretty(Calls::object(response)));
    else
      objects.push_back(payload_json(Calls::object(response)));
    return ok_status();
  });
  if (for_people) return code;
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

template <class Calls>
Result<int> remove(Run& run) {
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    typename Calls::Remove request;
    Calls::name(request, name);
    SystemRng rng;
    request.set_request_id(rng.id());
    const auto response = run.client().call(request);
    if (!response) return response.error();
    run.line(name);
    return ok_status();
  });
}

}  // namespace

Result<int> secret_create(Run& run) {
  return create<SecretCalls>(run);
}
Result<int> secret_ls(Run& run) {
  return list<SecretCalls>(run);
}
Result<int> secret_inspect(Run& run) {
  return inspect<SecretCalls>(run);
}
Result<int> secret_rm(Run& run) {
  return remove<SecretCalls>(run);
}
Result<int> config_create(Run& run) {
  return create<ConfigCalls>(run);
}
Result<int> config_ls(Run& run) {
  return list<ConfigCalls>(run);
}
Result<int> config_inspect(Run& run) {
  return inspect<ConfigCalls>(run);
}
Result<int> config_rm(Run& run) {
  return remove<ConfigCalls>(run);
}

}  // namespace muster::deploy::cli
