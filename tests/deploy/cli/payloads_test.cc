// secret and config commands, and stacks that have some.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>

#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PayloadCommands : public testing::Test {
 protected:
  PayloadCommands() {
    v1::Secret& secret = daemon_.secrets.emplace_back();
    secret.set_id("sec1aaaaaaaaaaaaaaaaaaaaa");
    secret.mutable_meta()->set_version(7);
    secret.mutable_meta()->set_created_at_ns(kNow - 3 * 3600 * 1'000'000'000LL);
    secret.mutable_meta()->set_updated_at_ns(kNow - 60 * 1'000'000'000LL);
    secret.mutable_spec()->mutable_annotations()->set_name("db_password");
    label(secret.mutable_spec()->mutable_annotations(), "tier", "db");
    v1::Config& config = daemon_.configs.emplace_back();
    config.set_id("con1aaaaaaaaaaaaaaaaaaaaa");
    config.mutable_meta()->set_created_at_ns(kNow);
    config.mutable_meta()->set_updated_at_ns(kNow);
    config.mutable_spec()->mutable_annotations()->set_name("site");
    config.mutable_spec()->set_template_driver("golang");
    config.mutable_spec()->set_data("listen 80;");
  }
  static void label(v1::Annotations* annotations, const std::string& key,
                    const std::string& value) {
    auto* label = annotations->add_labels();
    label->set_key(key);
    label->set_value(value);
  }
  Outcome run(const std::vector<std::string>& words, const std::string& input = "") {
    return run_muster(daemon_, words, input);
  }
  FakeDaemon daemon_;
};

TEST_F(PayloadCommands, CreateTakesAFileOrStandardInput) {
  const std::string data("s3cr3t\0\xff\n", 9);
  Outcome outcome = run({"secret", "create", "-l", "b=2", "--label", "a=1", "pw", "-"}, data);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "secret-new\n");
  const v1::SecretSpec& spec = daemon_.created_secrets.at(0).spec();
  EXPECT_EQ(spec.data(), data) << "byte for byte";
  EXPECT_EQ(spec.annotations().name(), "pw");
  EXPECT_EQ(spec.annotations().labels(0).key(), "a");
  EXPECT_FALSE(daemon_.created_secrets.at(0).request_id().empty());

  const auto path = std::filesystem::temp_directory_path() / fmt::format("muster-{}", ::getpid());
  std::ofstream(path) << "listen 80;";
  outcome = run({"config", "create", "--template-driver", "golang", "site", path.string()});
  std::filesystem::remove(path);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "config-new\n");
  EXPECT_EQ(daemon_.created_configs.at(0).spec().data(), "listen 80;");
  EXPECT_EQ(daemon_.created_configs.at(0).spec().template_driver(), "golang");
}

TEST_F(PayloadCommands, MistakesSayWhatAndWhy) {
  Outcome outcome = run({"secret", "create", "pw"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("needs a file, or - for standard input"));
  outcome = run({"secret", "create", "pw", "/nonexistent"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("error reading content from \"/nonexistent\""));
  outcome = run({"secret", "create", "pw", "-"}, "");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: error reading from STDIN: data is empty\n");
  outcome = run({"secret", "create", "-d", "vault", "pw"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("secret driver \"vault\" is not supported"));
  EXPECT_EQ(run({"config", "create", "-d", "vault", "pw", "-"}, "x").code, 2);
  daemon_.next_error = Status(StatusCode::kInvalidArgument, "secret data must be larger than 0");
  outcome = run({"secret", "create", "pw", "-"}, "topsecret");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: secret data must be larger than 0\n");
  EXPECT_TRUE(daemon_.created_configs.empty());
  outcome = run({"config", "create", "big", "-"}, std::string(3 << 19, 'x'));
  EXPECT_EQ(outcome.err, "muster: config data must be larger than 0 and less than 1024000 bytes\n");
  EXPECT_THAT(run({"secret", "create", "none", "/dev/null"}).err,
              HasSubstr("secret data must be larger than 0 and less than 512000 bytes"));
}

TEST_F(PayloadCommands, ListsHaveSwarmsColumns) {
  EXPECT_EQ(run({"secret", "ls"}).out,
            "ID                          NAME          DRIVER    CREATED       UPDATED\n"
            "sec1aaaaaaaaaaaaaaaaaaaaa   db_password             3 hours ago   "
            "About a minute ago\n");
  EXPECT_EQ(run({"config", "ls", "--format", "{{.ID}} {{.Name}}"}).out,
            "con1aaaaaaaaaaaaaaaaaaaaa site\n");
  EXPECT_EQ(run({"secret", "ls", "-q", "-f", "label=tier=db"}).out, "sec1aaaaaaaaaaaaaaaaaaaaa\n");
  EXPECT_EQ(run({"secret", "ls", "-q", "-f", "name=db_"}).out, "sec1aaaaaaaaaaaaaaaaaaaaa\n");
  EXPECT_EQ(run({"secret", "ls", "-q", "-f", "id=x"}).out, "");
  EXPECT_EQ(run({"secret", "ls", "-f", "colour=red"}).code, 2);
  EXPECT_EQ(run({"secret", "list", "--format", "{{.Labels}}"}).out, "tier=db\n");
}

TEST_F(PayloadCommands, InspectIsDockersShape) {
  const auto secret = boost::json::parse(run({"secret", "inspect", "db_password"}).out).at(0);
  EXPECT_EQ(secret.at("ID"), "sec1aaaaaaaaaaaaaaaaaaaaa");
  EXPECT_EQ(secret.at("Version").at("Index"), 7);
  EXPECT_EQ(secret.at("Spec").at("Name"), "db_password");
  EXPECT_EQ(secret.at("Spec").at("Labels").at("tier"), "db");
  EXPECT_EQ(secret.at("Spec").as_object().if_contains("Data"), nullptr);
  const auto config = boost::json::parse(run({"config", "inspect", "site"}).out).at(0);
  EXPECT_EQ(config.at("Spec").at("Data"), "bGlzdGVuIDgwOw==");
  EXPECT_EQ(config.at("Spec").at("Templating").at("Name"), "golang");
  EXPECT_EQ(run({"secret", "inspect", "-f", "{{.Spec.Name}}", "db_password"}).out, "db_password\n");
  EXPECT_EQ(run({"secret", "inspect", "--pretty", "db_password"}).out,
            "ID:\t\t\tsec1aaaaaaaaaaaaaaaaaaaaa\nName:\t\t\tdb_password\nLabels:\n - tier=db\n"
            "Driver:\t\t\t\nCreated at:\t\t2026-01-31T05:05:00.000000000Z\n"
            "Updated at:\t\t2026-01-31T08:04:00.000000000Z\n");
  EXPECT_THAT(run({"config", "inspect", "--pretty", "site"}).out, HasSubstr("Data:\nlisten 80;\n"));
  const Outcome missing = run({"secret", "inspect", "nope"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("secret nope not found"));
  EXPECT_EQ(run({"secret", "inspect", "--pretty", "-f", "x", "db_password"}).code, 2);
}

TEST_F(PayloadCommands, RemoveGoesOnAfterAnError) {
  daemon_.next_error =
      Status(StatusCode::kInvalidArgument, "secret 'a' is in use by the following service: web");
  const Outcome outcome = run({"secret", "rm", "a", "b"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "b\n");
  EXPECT_EQ(outcome.err, "muster: secret 'a' is in use by the following service: web\n");
  EXPECT_EQ(run({"config", "rm", "site"}).out, "site\n");
}

TEST_F(PayloadCommands, AreCompleted) {
  EXPECT_THAT(run({"__complete", "--", "secret", "rm", ""}).out, HasSubstr("db_password"));
  EXPECT_THAT(run({"__complete", "--", "config", "inspect", "s"}).out, HasSubstr("site"));
  EXPECT_THAT(run({"__complete", "--", "service", "create", "--secret", ""}).out,
              HasSubstr("db_password"));
  EXPECT_THAT(run({"__complete", "--", "service", "update", "--config-add", ""}).out,
              HasSubstr("site"));
  EXPECT_EQ(run({"__complete", "--", "secret", "create", ""}).out, "");
  EXPECT_EQ(run({"__complete", "--", "secret", "create", "pw", ""}).out, ":files\n");
}

constexpr const char* kCompose = R"(version: "3.8"
services:
  web:
    image: nginx:1
    secrets: [pw, {source: key, target: /etc/key, uid: "7", mode: 0400}]
    configs: [site]
secrets:
  pw: {file: /etc/hostname}
  key: {external: true, name: db_password}
configs:
  site: {file: /etc/hostname, template_driver: golang, labels: {a: b}}
)";

TEST_F(PayloadCommands, AStackCreatesItsOwnAndLooksForTheOthers) {
  const Outcome outcome = run({"stack", "deploy", "-d", "-c", "-", "shop"}, kCompose);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "Creating network shop_default\nCreating secret shop_pw\nCreating config shop_site\n"
            "Creating service shop_web\n");
  EXPECT_FALSE(daemon_.created_secrets.at(0).spec().data().empty());
  EXPECT_EQ(daemon_.created_configs.at(0).spec().template_driver(), "golang");
  const auto& container = daemon_.created_services.at(0).spec().task().container();
  ASSERT_EQ(container.secrets_size(), 2);
  EXPECT_EQ(container.configs(0).config_name(), "shop_site");
}

TEST_F(PayloadCommands, AStackWithoutItsExternalSecretIsNotBegun) {
  daemon_.secrets.clear();
  const Outcome outcome = run({"stack", "deploy", "-d", "-c", "-", "shop"}, kCompose);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("secret not found: db_password (declared as external"));
  EXPECT_TRUE(daemon_.created_networks.empty());
}

TEST_F(PayloadCommands, AStackWithAPayloadTooLargeIsNotBegun) {
  const Outcome outcome = run({"stack", "deploy", "-d", "-c", "-", "shop"},
                              "services: {web: {image: nginx}}\n"
                              "configs: {big: {content: \"" +
                                  std::string(1'024'000, 'x') + "\"}}\n");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("config shop_big: config data must be larger than 0"));
  EXPECT_TRUE(daemon_.created_networks.empty());
}

TEST_F(PayloadCommands, AServiceShowsItsReferences) {
  auto& spec = *daemon_.add_service("web", 1).mutable_spec();
  auto& secret = *spec.mutable_task()->mutable_container()->add_secrets();
  secret.set_secret_id("sec1");
  secret.set_secret_name("db_password");
  secret.mutable_file()->set_name("password");
  secret.mutable_file()->set_mode(0400);
  EXPECT_THAT(run({"service", "inspect", "--pretty", "web"}).out,
              HasSubstr("Secrets:\n Target:\tpassword\n  Source:\tdb_password\n"));
  const auto shown = boost::json::parse(run({"service", "inspect", "web"}).out).at(0);
  const auto& container = shown.at("Spec").at("TaskTemplate").at("ContainerSpec");
  EXPECT_EQ(
      container.at("Secrets").at(0),
      boost::json::parse(R"({"File": {"Name": "password", "UID": "0", "GID": "0", "Mode": 256},
                                   "SecretID": "sec1", "SecretName": "db_password"})"));
}

TEST_F(PayloadCommands, AChangedSecretNeedsANewName) {
  v1::Secret& known = daemon_.secrets.emplace_back();
  known.set_id("sec2");
  known.mutable_meta()->set_version(9);
  known.mutable_spec()->mutable_annotations()->set_name("shop_pw");
  daemon_.next_error =
      Status(StatusCode::kInvalidArgument, "only updates to Labels are allowed", "labels-only");
  // The network is created first.
  v1::Network& network = daemon_.networks.emplace_back();
  network.set_id("net1");
  network.mutable_spec()->mutable_annotations()->set_name("shop_default");
  label(network.mutable_spec()->mutable_annotations(), "com.docker.stack.namespace", "shop");
  const Outcome outcome = run({"stack", "deploy", "-d", "-c", "-", "shop"}, kCompose);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err,
              HasSubstr("failed to update secret shop_pw: only updates to Labels are allowed"));
  EXPECT_THAT(outcome.err, HasSubstr("name: shop_pw_2"));
  EXPECT_EQ(daemon_.updated_secrets.at(0).secret_id(), "sec2");
  EXPECT_EQ(daemon_.updated_secrets.at(0).version(), 9U);
  EXPECT_TRUE(daemon_.created_services.empty());
}

TEST_F(PayloadCommands, AStackTakesItsOwnAlong) {
  v1::Secret& secret = daemon_.secrets.emplace_back();
  secret.set_id("sec2");
  secret.mutable_spec()->mutable_annotations()->set_name("shop_pw");
  label(secret.mutable_spec()->mutable_annotations(), "com.docker.stack.namespace", "shop");
  v1::Config& config = daemon_.configs.emplace_back();
  config.set_id("con2");
  config.mutable_spec()->mutable_annotations()->set_name("shop_site");
  label(config.mutable_spec()->mutable_annotations(), "com.docker.stack.namespace", "shop");
  const Outcome outcome = run({"stack", "rm", "shop"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "Removing secret shop_pw\nRemoving config shop_site\n");
  EXPECT_THAT(daemon_.removed, ElementsAre("sec2", "con2"));
}

}  // namespace
}  // namespace muster::deploy::cli
