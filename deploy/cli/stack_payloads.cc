#include "deploy/cli/stack_payloads.h"

#include "base/rng.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/payload_limits.h"

namespace muster::deploy::cli {
namespace {

struct SecretCalls {
  static constexpr const char* kKind = "secret";
  using Spec = v1::SecretSpec;
  using List = v1::ListSecretsRequest;
  using Create = v1::CreateSecretRequest;
  using Update = v1::UpdateSecretRequest;
  using Remove = v1::RemoveSecretRequest;
  static const auto& objects(const v1::ListSecretsResponse& r) { return r.secrets(); }
  static void set_id(Update& request, const std::string& id) { request.set_secret_id(id); }
  static void set_id(Remove& request, const std::string& id) { request.set_secret(id); }
};
struct ConfigCalls {
  static constexpr const char* kKind = "config";
  using Spec = v1::ConfigSpec;
  using List = v1::ListConfigsRequest;
  using Create = v1::CreateConfigRequest;
  using Update = v1::UpdateConfigRequest;
  using Remove = v1::RemoveConfigRequest;
  static const auto& objects(const v1::ListConfigsResponse& r) { return r.configs(); }
  static void set_id(Update& request, const std::string& id) { request.set_config_id(id); }
  static void set_id(Remove& request, const std::string& id) { request.set_config(id); }
};

template <class Calls>
auto by_name(Run& run, const std::string& name) {
  typename Calls::List request;
  request.mutable_filter()->add_names(name);
  return run.client().call(request);
}

template <class Calls>
Status check_external(Run& run, const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    MUSTER_ASSIGN(const auto found, by_name<Calls>(run, name));
    if (Calls::objects(found).empty()) missing.push_back(name);
  }
  if (missing.empty()) return ok_status();
  return not_found("{}{} not found: {} (declared as external, so to be created before the stack)",
                   Calls::kKind, missing.size() > 1 ? "s" : "", join(missing, ", "));
}

template <class Calls>
Status check_sizes(const std::vector<typename Calls::Spec>& specs) {
  for (const auto& spec : specs) {
    const Status status = check_payload_size(Calls::kKind, spec.data().size());
    if (!status.ok())
      return status.with_context(fmt::format("{} {}", Calls::kKind, spec.annotations().name()));
  }
  return ok_status();
}

template <class Calls>
Status update(Run& run, const std::string& id, uint64_t version, const typename Calls::Spec& spec) {
  typename Calls::Update request;
  Calls::set_id(request, id);
  request.set_version(version);
  *request.mutable_spec() = spec;
  SystemRng rng;
  request.set_request_id(rng.id());
  const auto updated = run.client().call(request);
  if (updated) return ok_status();
  const std::string& name = spec.annotations().name();
  Status why =
      updated.error().with_context(fmt::format("failed to update {} {}", Calls::kKind, name));
  if (why.reason() != "labels-only") return why;
  return Status(why.code(),
                fmt::format("{}. Its content or template driver has changed, and a {} never "
                            "changes: give the new one another name (\"name: {}_2\" in the file) "
                            "and deploy again",
                            why.message(), Calls::kKind, name),
                why.reason());
}

template <class Calls>
std::string step(const typename Calls::Spec& spec) {
  return fmt::format("{} {}", Calls::kKind, spec.annotations().name());
}

template <class Calls>
Status deploy(Run& run, const std::vector<typename Calls::Spec>& specs,
              const std::function<void(const std::string& step)>& done) {
  for (const auto& spec : specs) {
    const std::string& name = spec.annotations().name();
    MUSTER_ASSIGN(const auto found, by_name<Calls>(run, name));
    if (!Calls::objects(found).empty()) {
      const auto& known = Calls::objects(found)[0];
      MUSTER_TRY(update<Calls>(run, known.id(), known.meta().version(), spec));
      done(step<Calls>(spec));
      continue;
    }
    run.line(fmt::format("Creating {} {}", Calls::kKind, name));
    typename Calls::Create request;
    *request.mutable_spec() = spec;
    SystemRng rng;
    request.set_request_id(rng.id());
    const auto created = run.client().call(request);
    if (!created)
      return created.error().with_context(
          fmt::format("failed to create {} {}", Calls::kKind, name));
    done(step<Calls>(spec));
  }
  return ok_status();
}

template <class Calls, class Object>
Status remove(Run& run, const std::vector<Object>& objects) {
  for (const auto& object : objects) {
    run.line(fmt::format("Removing {} {}", Calls::kKind, object.spec().annotations().name()));
    typename Calls::Remove request;
    Calls::set_id(request, object.id());
    SystemRng rng;
    request.set_request_id(rng.id());
    const auto removed = run.client().call(request);
    if (!removed && removed.error().code() != StatusCode::kNotFound) return removed.error();
  }
  return ok_status();
}

}  // namespace

Status check_payloads(Run& run, const compose::StackSpecs& specs) {
  MUSTER_TRY(check_sizes<SecretCalls>(specs.secrets));
  MUSTER_TRY(check_sizes<ConfigCalls>(specs.configs));
  MUSTER_TRY(check_external<SecretCalls>(run, specs.external_secrets));
  return check_external<ConfigCalls>(run, specs.external_configs);
}

Status deploy_payloads(Run& run, const compose::StackSpecs& specs,
                       const std::function<void(const std::string& step)>& done) {
  MUSTER_TRY(deploy<SecretCalls>(run, specs.secrets, done));
  return deploy<ConfigCalls>(run, specs.configs, done);
}

std::vector<std::string> payload_steps(const compose::StackSpecs& specs) {
  std::vector<std::string> steps;
  for (const auto& spec : specs.secrets) steps.push_back(step<SecretCalls>(spec));
  for (const auto& spec : specs.configs) steps.push_back(step<ConfigCalls>(spec));
  return steps;
}

Result<StackPayloads> payloads_of_stack(Run& run, const v1::ListFilter& filter) {
  StackPayloads out;
  v1::ListSecretsRequest secrets;
  *secrets.mutable_filter() = filter;
  MUSTER_ASSIGN(const auto found_secrets, run.client().call(secrets));
  out.secrets.assign(found_secrets.secrets().begin(), found_secrets.secrets().end());
  v1::ListConfigsRequest configs;
  *configs.mutable_filter() = filter;
  MUSTER_ASSIGN(const auto found_configs, run.client().call(configs));
  out.configs.assign(found_configs.configs().begin(), found_configs.configs().end());
  return out;
}

Status remove_payloads(Run& run, const StackPayloads& payloads) {
  MUSTER_TRY(remove<SecretCalls>(run, payloads.secrets));
  return remove<ConfigCalls>(run, payloads.configs);
}

}  // namespace muster::deploy::cli
