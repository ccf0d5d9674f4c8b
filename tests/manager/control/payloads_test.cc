// Secrets and configs through the control API.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "manager/control/payload_validation.h"
#include "manager/control/watch_events.h"
#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

class PayloadsTest : public ApiFixture {
 protected:
  PayloadsTest() {
    api_.activate(store_);
    world_.settle();
  }
  static v1::CreateSecretRequest secret(const std::string& name, const std::string& data,
                                        const std::string& request_id = {}) {
    v1::CreateSecretRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(name);
    request.mutable_spec()->set_data(data);
    request.set_request_id(request_id);
    return request;
  }
  static v1::CreateConfigRequest config(const std::string& name, const std::string& data) {
    v1::CreateConfigRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(name);
    request.mutable_spec()->set_data(data);
    return request;
  }
  std::string make(const std::string& name) {
    const auto made = call(&ControlApi::create_secret, secret(name, "s3cr3t"));
    EXPECT_TRUE(made) << made.error().to_string();
    return made ? made->secret().id() : "";
  }
  Result<v1::CreateServiceResponse> service(const std::string& name, const std::string& id,
                                            const std::string& secret_name) {
    v1::CreateServiceRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(name);
    auto& container = *request.mutable_spec()->mutable_task()->mutable_container();
    container.set_image("busybox");
    auto& reference = *container.add_secrets();
    reference.set_secret_id(id);
    reference.set_secret_name(secret_name);
    reference.mutable_file()->set_name("password");
    return call(&ControlApi::create_service, request);
  }
  Status remove(const std::string& name) {
    v1::RemoveSecretRequest request;
    request.set_secret(name);
    const auto removed = call(&ControlApi::remove_secret, request);
    return removed ? ok_status() : removed.error();
  }
  size_t blobs() const { return store_.snapshot().count<v1::Blob>(); }
};

// ---------------------------------------------------------------- by themselves

TEST(PayloadValidation, SizesAndNamesAreSwarms) {
  struct Case {
    const char* name;
    size_t bytes;
    const char* secret;
    const char* config;
  };
  const char* kName =
      "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character "
      "must be [a-zA-Z0-9]";
  const char* kSecret = "secret data must be larger than 0 and less than 512000 bytes";
  const char* kConfig = "config data must be larger than 0 and less than 1024000 bytes";
  const std::string long_name(64, 'a');
  const std::string longer_name(65, 'a');
  const std::vector<Case> cases = {
      {"db_password.v-1", 1, "", ""},
      {long_name.c_str(), 1, "", ""},
      {longer_name.c_str(), 1, kName, kName},
      {"", 1, "name must be provided", "name must be provided"},
      {"-a", 1, kName, kName},
      {"a.", 1, kName, kName},
      {"a/b", 1, kName, kName},
      {"a", 0, kSecret, kConfig},
      {"a", 511'999, "", ""},
      {"a", 512'000, kSecret, ""},
      {"a", 1'023'999, kSecret, ""},
      {"a", 1'024'000, kSecret, kConfig},
  };
  for (const Case& c : cases) {
    v1::SecretSpec secret;
    secret.mutable_annotations()->set_name(c.name);
    secret.set_data(std::string(c.bytes, 'x'));
    EXPECT_EQ(validate_payload_spec(secret).message(), c.secret) << c.name << " " << c.bytes;
    v1::ConfigSpec config;
    config.mutable_annotations()->set_name(c.name);
    config.set_data(std::string(c.bytes, 'x'));
    EXPECT_EQ(validate_payload_spec(config).message(), c.config) << c.name << " " << c.bytes;
  }
}

TEST(PayloadValidation, TemplatesAreGolangsAndParse) {
  v1::SecretSpec secret;
  secret.mutable_annotations()->set_name("a");
  secret.set_data("{{secret \"x\"}} {{env \"HOME\"}} {{config \"/y\"}} {{.Service.Name}}");
  secret.set_template_driver("golang");
  EXPECT_TRUE(validate_payload_spec(secret).ok());
  secret.set_template_driver("jinja");
  EXPECT_EQ(validate_payload_spec(secret).message(),
            "template driver \"jinja\" is not known: only \"golang\" is");
  secret.set_template_driver("golang");
  secret.set_data("hunter2 {{hunter3}}");
  const Status status = validate_payload_spec(secret);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message().find("hunter"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("line 1"), std::string::npos) << status.message();
  secret.set_template_driver("");
  EXPECT_TRUE(validate_payload_spec(secret).ok()) << "no template, no syntax";
}

TEST(PayloadValidation, TargetsAreDistinctPlaces) {
  struct Case {
    std::vector<std::string> secrets;
    std::vector<std::string> configs;
    const char* message;
  };
  const std::vector<Case> cases = {
      {{"a", "b"}, {"/a", "b"}, ""},
      {{"a", "a"}, {}, "secret references have a conflicting target: 'a'"},
      {{"a", "/run/secrets/a"},
       {},
       "secret references have a conflicting target: '/run/secrets/a'"},
      {{}, {"/x", "x"}, "config references have a conflicting target: 'x'"},
      {{"/etc/x"}, {"/etc/x"}, "config references have a conflicting target: '/etc/x'"},
      {{""}, {}, "malformed secret reference, no target given"},
      {{"../x"}, {}, "malformed secret reference, the target '../x' contains \"..\""},
      {{}, {"/"}, "malformed config reference, the target '/' is a directory"},
      {{}, {"/a/"}, "malformed config reference, the target '/a/' is a directory"},
  };
  for (const Case& c : cases) {
    v1::ContainerSpec container;
    for (const auto& target : c.secrets) container.add_secrets()->mutable_file()->set_name(target);
    for (const auto& target : c.configs) container.add_configs()->mutable_file()->set_name(target);
    EXPECT_EQ(validate_payload_targets(container).message(), c.message);
  }
}

// ---------------------------------------------------------------- creation

TEST_F(PayloadsTest, ASecretIsReferenceAndBlobAndNeverShown) {
  const auto made = call(&ControlApi::create_secret, secret("pw", "s3cr3t"));
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(made->secret().spec().data(), "");
  EXPECT_EQ(made->secret().blob_id(), "");
  const auto stored = store_.snapshot().get<v1::Secret>(made->secret().id());
  EXPECT_EQ(stored->spec().data(), "");
  EXPECT_EQ(store_.snapshot().get<v1::Blob>(stored->blob_id())->data(), "s3cr3t");
  EXPECT_EQ(proposer_.entries(), 2u) << "the payload ahead, in an entry of its own";
  v1::GetSecretRequest get;
  get.set_secret("pw");
  const auto got = api_.get_secret(user_, get);
  EXPECT_EQ(got->SerializeAsString().find("s3cr3t"), std::string::npos);
  EXPECT_EQ(api_.list_secrets(user_, {})->SerializeAsString().find("s3cr3t"), std::string::npos);
}

TEST_F(PayloadsTest, AConfigIsShownWhenItIsAskedFor) {
  ASSERT_TRUE(call(&ControlApi::create_config, config("site", "listen 80")));
  v1::GetConfigRequest get;
  get.set_config("site");
  EXPECT_EQ(api_.get_config(user_, get)->config().spec().data(), "listen 80");
  EXPECT_EQ(api_.list_configs(user_, {})->configs(0).spec().data(), "");
}

TEST_F(PayloadsTest, ATakenNameIsRefusedWithoutAPayload) {
  make("pw");
  const auto again = call(&ControlApi::create_secret, secret("pw", "other"));
  EXPECT_EQ(again.error().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(again.error().message(), "secret pw already exists");
  EXPECT_EQ(blobs(), 1u);
  EXPECT_EQ(proposer_.entries(), 2u);
}

TEST_F(PayloadsTest, OfTwoCreationsAtOnceOneLeavesNothing) {
  int good = 0;
  for (int i = 0; i < 2; ++i) {
    api_.create_secret(user_, secret("pw", "x"),
                       [&](Result<v1::CreateSecretResponse> r) { good += r ? 1 : 0; });
  }
  world_.settle();
  EXPECT_EQ(good, 1);
  EXPECT_EQ(blobs(), 1u);
}

TEST_F(PayloadsTest, ARepeatedRequestMakesOneSecret) {
  const auto first = call(&ControlApi::create_secret, secret("pw", "x", "once"));
  const auto again = call(&ControlApi::create_secret, secret("pw", "x", "once"));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(first->secret().id(), again->secret().id());
  // At the same time, too.
  std::vector<std::string> ids;
  for (int i = 0; i < 2; ++i) {
    api_.create_secret(user_, secret("pw2", "x", "twice"), [&](Result<v1::CreateSecretResponse> r) {
      ids.push_back(r ? r->secret().id() : r.error().to_string());
    });
  }
  world_.settle();
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(blobs(), 2u);
}

TEST_F(PayloadsTest, WhenTheSecondEntryIsRefusedThePayloadIsCollected) {
  proposer_.delay = 1ms;
  std::optional<Status> outcome;
  api_.create_secret(user_, secret("pw", "x"), [&](Result<v1::CreateSecretResponse> r) {
    outcome = r ? ok_status() : r.error();
  });
  proposer_.rejections = 1;  // the first entry is under way
  world_.advance(1ms);
  EXPECT_EQ(blobs(), 1u);
  world_.advance(10ms);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->reason(), "disk-full");
  EXPECT_EQ(blobs(), 0u);
}

TEST_F(PayloadsTest, AnOutcomeNobodyKnewKeepsItsPayload) {
  proposer_.delay = 1ms;
  std::optional<Status> outcome;
  api_.create_secret(user_, secret("pw", "x", "once"), [&](Result<v1::CreateSecretResponse> r) {
    outcome = r ? ok_status() : r.error();
  });
  world_.advance(1ms);  // the second entry is under way
  store_.end_leading();
  world_.advance(10ms);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->reason(), "outcome-unknown");
  store_.lead(1);
  api_.collect_blobs();
  world_.advance(10ms);
  EXPECT_EQ(store_.snapshot().count<v1::Secret>(), 1u);
  EXPECT_EQ(blobs(), 1u);
  EXPECT_TRUE(call(&ControlApi::create_secret, secret("pw", "x", "once"))) << "as it turned out";
}

TEST_F(PayloadsTest, WhoDoesNotLeadCollectsNothing) {
  api_.deactivate();
  write([](store::Transaction& tx) {
    v1::Blob blob;
    blob.set_id("left");
    return tx.create(blob);
  });
  store_.end_leading();
  api_.activate(store_);
  world_.advance(1s);
  EXPECT_EQ(blobs(), 1u);
  store_.lead(1);
  api_.collect_blobs();
  world_.advance(1s);
  EXPECT_EQ(blobs(), 0u);
}

TEST_F(PayloadsTest, LeftOversAreCollectedAndWhatIsBeingMadeIsNot) {
  proposer_.delay = 1ms;
  bool made = false;
  api_.create_secret(user_, secret("pw", "x"),
                     [&](Result<v1::CreateSecretResponse> r) { made = r.has_value(); });
  world_.advance(1ms);
  ASSERT_EQ(blobs(), 1u);
  store_.update(  // committed later
      [](store::Transaction& tx) {
        v1::Blob blob;
        blob.set_id("of an earlier leader");
        return tx.create(blob);
      },
      [](const store::Commit&) {});
  api_.collect_blobs();
  world_.advance(20ms);
  EXPECT_TRUE(made);
  EXPECT_EQ(blobs(), 1u);
  EXPECT_EQ(store_.snapshot().get<v1::Blob>("of an earlier leader"), nullptr);
}

TEST_F(PayloadsTest, CollectionIsRepeatedUntilItIsWritten) {
  proposer_.rejections = 0;
  write([](store::Transaction& tx) {
    v1::Blob blob;
    blob.set_id("left");
    return tx.create(blob);
  });
  EXPECT_EQ(blobs(), 0u) << "a commit that brings one is enough";
  api_.deactivate();
  write([](store::Transaction& tx) {
    v1::Blob blob;
    blob.set_id("left");
    return tx.create(blob);
  });
  proposer_.rejections = 3;
  api_.activate(store_);
  world_.advance(10s);
  EXPECT_EQ(blobs(), 0u);
}

// ---------------------------------------------------------------- update, removal

TEST_F(PayloadsTest, OnlyLabelsCanBeUpdated) {
  const std::string id = make("pw");
  v1::UpdateSecretRequest request;
  request.set_secret_id(id);
  const auto version = [&] { return store_.snapshot().get<v1::Secret>(id)->meta().version(); };
  request.set_version(version());
  request.mutable_spec()->mutable_annotations()->set_name("pw");
  const uint64_t before = version();
  ASSERT_TRUE(call(&ControlApi::update_secret, request));
  EXPECT_EQ(version(), before) << "nothing to change is no change";
  auto& label = *request.mutable_spec()->mutable_annotations()->add_labels();
  label.set_key("tier");
  label.set_value("db");
  request.mutable_spec()->set_data("s3cr3t");  // the same
  const auto labelled = call(&ControlApi::update_secret, request);
  ASSERT_TRUE(labelled) << labelled.error().to_string();
  EXPECT_EQ(labelled->secret().spec().annotations().labels(0).value(), "db");
  EXPECT_EQ(call(&ControlApi::update_secret, request).error().code(), StatusCode::kAborted);
  request.set_version(version());
  for (int i = 0; i < 3; ++i) {
    v1::UpdateSecretRequest wrong = request;
    if (i == 0) wrong.mutable_spec()->set_data("another");
    if (i == 1) wrong.mutable_spec()->mutable_annotations()->set_name("renamed");
    if (i == 2) wrong.mutable_spec()->set_template_driver("golang");
    const auto refused = call(&ControlApi::update_secret, wrong);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(refused.error().message(), "only updates to Labels are allowed");
  }
  request.set_secret_id("none");
  EXPECT_EQ(call(&ControlApi::update_secret, request).error().message(), "secret none not found");
}

TEST_F(PayloadsTest, WhatIsInUseStays) {
  const std::string id = make("pw");
  ASSERT_TRUE(service("web", id, "pw"));
  ASSERT_TRUE(service("db", "", "pw")) << "a name is enough";
  EXPECT_EQ(remove("pw").message(), "secret 'pw' is in use by the following services: db, web");
  v1::RemoveServiceRequest gone;
  gone.set_service("db");
  ASSERT_TRUE(call(&ControlApi::remove_service, gone));
  const Status one = remove(id.substr(0, 6));
  EXPECT_EQ(one.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(one.message(), "secret 'pw' is in use by the following service: web");
  gone.set_service("web");
  ASSERT_TRUE(call(&ControlApi::remove_service, gone));
  EXPECT_TRUE(remove("pw").ok());
  EXPECT_EQ(blobs(), 0u) << "at once";
  EXPECT_EQ(remove("pw").code(), StatusCode::kNotFound);
}

TEST_F(PayloadsTest, WhatAnUpdateMayGoBackToStays) {
  const auto made = service("web", make("old"), "old");
  ASSERT_TRUE(made);
  v1::UpdateServiceRequest update;
  update.set_service_id(made->service().id());
  update.set_version(made->service().meta().version());
  *update.mutable_spec() = made->service().spec();
  auto& reference = *update.mutable_spec()->mutable_task()->mutable_container()->mutable_secrets(0);
  reference.set_secret_id(make("new"));
  reference.set_secret_name("new");
  ASSERT_TRUE(call(&ControlApi::update_service, update));
  EXPECT_EQ(remove("old").message(),
            "secret 'old' is in use by the spec that the update of the following service would be "
            "rolled back to: web");
  write([](store::Transaction& tx) {
    v1::Service web = *tx.view().find<v1::Service>("web");
    web.mutable_update_status()->set_state(v1::UpdateStatus::COMPLETED);
    return tx.update(web);
  });
  EXPECT_TRUE(remove("old").ok());
}

TEST_F(PayloadsTest, ReferencesExistAndAgree) {
  const std::string id = make("pw");
  EXPECT_EQ(service("web", "", "nope").error().message(), "secret not found: nope");
  EXPECT_EQ(service("web", id, "other").error().message(), "secret not found: other");
  EXPECT_EQ(service("web", "", id).error().code(), StatusCode::kInvalidArgument)
      << "an id is no name";
  const auto by_id = service("web", id, "");
  ASSERT_TRUE(by_id);
  EXPECT_EQ(by_id->service().spec().task().container().secrets(0).secret_name(), "pw");
}

// ---------------------------------------------------------------- who sees what

TEST_F(PayloadsTest, NoWatcherSeesAPayload) {
  v1::WatchRequest request;
  request.set_include_old(true);
  std::string seen;
  std::vector<int> kinds;
  auto subscription = api_.watch(user_, request, [&](const Result<v1::WatchResponse>& response) {
    seen += response->SerializeAsString();
    for (const auto& event : response->events()) kinds.push_back(event.object_case());
  });
  ASSERT_TRUE(subscription);
  make("pw");
  ASSERT_TRUE(call(&ControlApi::create_config, config("site", "s3cr3t")));
  EXPECT_TRUE(remove("pw").ok());
  EXPECT_EQ(kinds, (std::vector<int>{v1::ObjectEvent::kSecret, v1::ObjectEvent::kConfig,
                                     v1::ObjectEvent::kSecret}));
  EXPECT_EQ(seen.find("s3cr3t"), std::string::npos);
}

TEST_F(PayloadsTest, ListsFilter) {
  make("web_key");
  make("web_cert");
  make("db_key");
  v1::ListSecretsRequest request;
  request.mutable_filter()->add_name_prefixes("web_");
  const auto found = api_.list_secrets(user_, request);
  ASSERT_EQ(found->secrets_size(), 2);
  EXPECT_EQ(found->secrets(0).spec().annotations().name(), "web_cert");
}

}  // namespace
}  // namespace muster::manager::control
