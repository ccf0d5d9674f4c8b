// Secrets and configs: both kinds are the same but for their limits and for who may read them.
#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "manager/control/calls.h"
#include "manager/control/filter.h"
#include "manager/control/payload_references.h"
#include "manager/control/payload_validation.h"
#include "manager/control/redact.h"

namespace muster::manager::control {
namespace {

template <class T>
Status name_taken(const std::string& name) {
  return Status(StatusCode::kAlreadyExists,
                fmt::format("{} {} already exists", store::TableTraits<T>::kKind, name),
                "name-conflict");
}

template <class T>
Status unknown_id(const std::string& id) {
  return not_found("{} {} not found", store::TableTraits<T>::kKind, id);
}

Status labels_only() {
  return Status(StatusCode::kInvalidArgument, "only updates to Labels are allowed", "labels-only");
}

template <class T, class Response>
Result<Response> answer(const store::Snapshot& state, const std::string& id,
                        T* (Response::*field)()) {
  auto response = respond(state.get<T>(id), field);
  if (response) redact(*((*response).*field)());
  return response;
}

// Absent data is the same as before. In constant time: who guesses learns nothing.
bool same_data(const store::Snapshot& state, const std::string& blob_id, const std::string& data) {
  if (data.empty()) return true;
  const auto blob = state.get<v1::Blob>(blob_id);
  return blob != nullptr && blob->data().size() == data.size() &&
         CRYPTO_memcmp(blob->data().data(), data.data(), data.size()) == 0;
}

bool same_labels(const v1::Annotations& a, const v1::Annotations& b) {
  return std::equal(
      a.labels().begin(), a.labels().end(), b.labels().begin(), b.labels().end(),
      [](const auto& x, const auto& y) { return x.key() == y.key() && x.value() == y.value(); });
}

// The second entry of a creation.
template <class T>
Result<std::string> create_in(store::Transaction& tx, const T& object) {
  // Nobody collects it meanwhile (BlobKeeper); should it ever happen, a retry is right.
  if (tx.view().get<v1::Blob>(object.blob_id()) == nullptr) {
    return fail(StatusCode::kAborted, "the payload is gone; try again", "payload-gone");
  }
  const std::string& name = object.spec().annotations().name();
  if (tx.view().find<T>(name) != nullptr) return fail(name_taken<T>(name));
  MUSTER_TRY(tx.create(object));
  return object.id();
}

template <class T>
Result<std::string> update_in(store::Transaction& tx, const std::string& id, uint64_t version,
                              const decltype(std::declval<T>().spec())& spec) {
  const auto known = tx.view().get<T>(id);
  if (known == nullptr) return fail(unknown_id<T>(id));
  const auto& was = known->spec();
  if (spec.annotations().name() != was.annotations().name() ||
      spec.template_driver() != was.template_driver() ||
      !same_data(tx.view(), known->blob_id(), spec.data())) {
    return fail(labels_only());
  }
  T next = *known;
  next.mutable_meta()->set_version(version);
  *next.mutable_spec()->mutable_annotations() = spec.annotations();
  // Nothing to change is no change: a stack deployed again makes no noise.
  if (version == known->meta().version() && same_labels(spec.annotations(), was.annotations())) {
    return id;
  }
  MUSTER_TRY(tx.update(std::move(next)));
  return id;
}

template <class T>
Result<std::string> remove_in(store::Transaction& tx, const std::string& reference) {
  MUSTER_ASSIGN(const auto object, tx.view().resolve<T>(reference));
  MUSTER_TRY(check_unused(tx.view(), *object));
  if (tx.view().get<v1::Blob>(object->blob_id()) != nullptr) {
    MUSTER_TRY(tx.remove<v1::Blob>(object->blob_id()));
  }
  MUSTER_TRY(tx.remove<T>(object->id()));
  return object->id();
}

template <class T>
std::vector<store::Ptr<T>> found(const store::Snapshot& state, const v1::ListFilter& filter) {
  std::vector<store::Ptr<T>> out;
  state.each<T>([&](const auto& object) {
    if (passes(filter, *object)) out.push_back(object);
    return true;
  });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return a->spec().annotations().name() < b->spec().annotations().name();
  });
  return out;
}

}  // namespace

template <class T, class Request, class Response>
void ControlApi::create_payload(store::Store& store, const Request& request,
                                T* (Response::*field)(), Callback<Response> done) {
  auto spec = request.spec();
  normalise(spec);
  MUSTER_OR_DONE(validate_payload_spec(spec));
  MUSTER_OR_DONE(check_request_id(request.request_id()));
  const std::string kind(store::TableTraits<T>::kKind);
  const std::string request_id = scoped((kind + ".create").c_str(), request.request_id());
  // What the second entry will say anyway is found out before a payload is written for it.
  const store::Snapshot state = store.snapshot();
  const auto applied = request_id.empty() ? nullptr : state.get<v1::AppliedRequest>(request_id);
  if (applied != nullptr) return done(answer(state, applied->object_id(), field));
  const std::string& name = spec.annotations().name();
  if (state.find<T>(name) != nullptr) return done(fail(name_taken<T>(name)));

  v1::Blob blob;
  blob.set_id(rng_.id());
  *blob.mutable_data() = std::move(*spec.mutable_data());
  spec.clear_data();
  T object;
  object.set_id(rng_.id());
  object.set_blob_id(blob.id());
  *object.mutable_spec() = std::move(spec);
  blobs_->begin(blob.id());
  store.update([blob = std::move(blob)](store::Transaction& tx) { return tx.create(blob); },
               [&store, object, request_id, field, keeper = std::weak_ptr(blobs_),
                done = std::move(done)](const store::Commit& written) mutable {
                 const auto ended = [keeper, blob_id = object.blob_id()](bool owned) {
                   if (const auto alive = keeper.lock()) alive->end(blob_id, owned);
                 };
                 if (!written.status.ok()) {
                   ended(false);
                   return done(fail(written.status));
                 }
                 store.update(
                     {request_id},
                     [object](store::Transaction& tx) { return create_in(tx, object); },
                     [&store, id = object.id(), field, ended,
                      done = std::move(done)](const store::Commit& commit) mutable {
                       // A repetition of the request is answered with what the first one made.
                       ended(commit.status.ok() && commit.object_id == id);
                       if (!commit.status.ok()) return done(fail(commit.status));
                       done(answer(store.snapshot(), commit.object_id, field));
                     });
               });
}

template <class T, class Request, class Response>
void ControlApi::update_payload(store::Store& store, const std::string& id, const Request& request,
                                T* (Response::*field)(), Callback<Response> done) {
  auto spec = request.spec();
  normalise(spec);
  MUSTER_OR_DONE(validate_payload_labels(spec.annotations()));
  const std::string kind(store::TableTraits<T>::kKind);
  commit<Response>(
      store, (kind + ".update").c_str(), request.request_id(),
      [id, version = request.version(), spec = std::move(spec)](store::Transaction& tx) {
        return update_in<T>(tx, id, version, spec);
      },
      [field](const store::Snapshot& state, const std::string& changed) {
        return answer(state, changed, field);
      },
      std::move(done));
}

// ---------------------------------------------------------------- secrets

void ControlApi::create_secret(const Principal& principal, const v1::CreateSecretRequest& request,
                               Callback<v1::CreateSecretResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.CreateSecret");
  create_payload(store, request, &v1::CreateSecretResponse::mutable_secret, std::move(done));
}

void ControlApi::update_secret(const Principal& principal, const v1::UpdateSecretRequest& request,
                               Callback<v1::UpdateSecretResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateSecret");
  update_payload(store, request.secret_id(), request, &v1::UpdateSecretResponse::mutable_secret,
                 std::move(done));
}

void ControlApi::remove_secret(const Principal& principal, const v1::RemoveSecretRequest& request,
                               Callback<v1::RemoveSecretResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.RemoveSecret");
  commit<v1::RemoveSecretResponse>(
      store, "secret.remove", request.request_id(),
      [name = request.secret()](store::Transaction& tx) { return remove_in<v1::Secret>(tx, name); },
      [](const store::Snapshot&, const std::string& id) -> Result<v1::RemoveSecretResponse> {
        v1::RemoveSecretResponse response;
        response.set_secret_id(id);
        return response;
      },
      std::move(done));
}

Result<v1::GetSecretResponse> ControlApi::get_secret(const Principal& principal,
                                                     const v1::GetSecretRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetSecret", principal));
  MUSTER_ASSIGN(const auto secret, state.resolve<v1::Secret>(r.secret()));
  v1::GetSecretResponse response;
  *response.mutable_secret() = *secret;
  redact(*response.mutable_secret());
  return response;
}

Result<v1::ListSecretsResponse> ControlApi::list_secrets(const Principal& principal,
                                                         const v1::ListSecretsRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListSecrets", principal));
  v1::ListSecretsResponse response;
  response.set_version(state.version());
  for (const auto& secret : found<v1::Secret>(state, r.filter())) {
    v1::Secret& out = *response.add_secrets();
    out = *secret;
    redact(out);
  }
  return response;
}

// ---------------------------------------------------------------- configs

void ControlApi::create_config(const Principal& principal, const v1::CreateConfigRequest& request,
                               Callback<v1::CreateConfigResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.CreateConfig");
  create_payload(store, request, &v1::CreateConfigResponse::mutable_config, std::move(done));
}

void ControlApi::update_config(const Principal& principal, const v1::UpdateConfigRequest& request,
                               Callback<v1::UpdateConfigResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateConfig");
  update_payload(store, request.config_id(), request, &v1::UpdateConfigResponse::mutable_config,
                 std::move(done));
}

void ControlApi::remove_config(const Principal& principal, const v1::RemoveConfigRequest& request,
                               Callback<v1::RemoveConfigResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.RemoveConfig");
  commit<v1::RemoveConfigResponse>(
      store, "config.remove", request.request_id(),
      [name = request.config()](store::Transaction& tx) { return remove_in<v1::Config>(tx, name); },
      [](const store::Snapshot&, const std::string& id) -> Result<v1::RemoveConfigResponse> {
        v1::RemoveConfigResponse response;
        response.set_config_id(id);
        return response;
      },
      std::move(done));
}

Result<v1::GetConfigResponse> ControlApi::get_config(const Principal& principal,
                                                     const v1::GetConfigRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.GetConfig", principal));
  MUSTER_ASSIGN(const auto config, state.resolve<v1::Config>(r.config()));
  v1::GetConfigResponse response;
  *response.mutable_config() = *config;
  redact(*response.mutable_config());
  if (const auto blob = state.get<v1::Blob>(config->blob_id())) {
    response.mutable_config()->mutable_spec()->set_data(blob->data());
  }
  return response;
}

Result<v1::ListConfigsResponse> ControlApi::list_configs(const Principal& principal,
                                                         const v1::ListConfigsRequest& r) const {
  MUSTER_ASSIGN(const auto state, reading("muster.v1.Control.ListConfigs", principal));
  v1::ListConfigsResponse response;
  response.set_version(state.version());
  for (const auto& config : found<v1::Config>(state, r.filter())) {
    v1::Config& out = *response.add_configs();
    out = *config;
    redact(out);
  }
  return response;
}

}  // namespace muster::manager::control
