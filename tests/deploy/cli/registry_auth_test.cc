// Whose credentials go along with a service.
#include "deploy/cli/registry_auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;

class RegistryAuth : public testing::Test {
 protected:
  RegistryAuth() : folder_(testing::TempDir() + "/registry-auth") {
    std::filesystem::create_directories(folder_);
    daemon_.environment["DOCKER_CONFIG"] = folder_;
    old_path_ = getenv("PATH");
    setenv("PATH", (folder_ + ":" + old_path_).c_str(), 1);
  }
  ~RegistryAuth() override {
    setenv("PATH", old_path_.c_str(), 1);
    std::filesystem::remove_all(folder_);
  }
  void config(const std::string& text) { std::ofstream(folder_ + "/config.json") << text; }
  void helper(const std::string& script) {
    const std::string path = folder_ + "/docker-credential-test";
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    chmod(path.c_str(), 0755);
  }
  // What a service of the image is sent with.
  std::string auth_of(const std::string& image) {
    daemon_.created_services.clear();
    outcome_ = run_muster(daemon_, {"service", "create", "-d", "--with-registry-auth", image});
    if (daemon_.created_services.empty()) return "nothing sent";
    return daemon_.created_services[0].spec().task().registry_auth();
  }

  const std::string folder_;
  std::string old_path_;
  FakeDaemon daemon_;
  Outcome outcome_;
};

TEST_F(RegistryAuth, OneEntryAndNoMore) {
  config(R"({"auths": {"r:5000": {"auth": "YTpi"}, "https://index.docker.io/v1/": {"auth": "Yzpk"},
             "other": {"auth": "ZTpm"}}})");
  EXPECT_EQ(auth_of("r:5000/web:1"), R"({"auths":{"r:5000":{"auth":"YTpi"}}})");
  EXPECT_EQ(auth_of("nginx"), R"({"auths":{"docker.io":{"auth":"Yzpk"}}})");
  EXPECT_EQ(outcome_.err, "");
}

TEST_F(RegistryAuth, TheNearestEntryWins) {
  config(R"({"auths": {"r.io": {"auth": "MQ=="}, "r.io/team": {"auth": "Mg=="}}})");
  EXPECT_EQ(auth_of("r.io/team/web:1@sha256:0123456789abcdef0123456789abcdef"),
            R"({"auths":{"r.io":{"auth":"Mg=="}}})");
  EXPECT_EQ(auth_of("r.io/x"), R"({"auths":{"r.io":{"auth":"MQ=="}}})");
}

TEST_F(RegistryAuth, NoneIsAWarning) {
  config("{}");
  EXPECT_EQ(auth_of("r:5000/web"), "");
  EXPECT_EQ(outcome_.code, 0);
  EXPECT_EQ(outcome_.err, "WARNING: no credentials for r:5000 in " + folder_ + "/config.json\n");
  std::filesystem::remove(folder_ + "/config.json");
  EXPECT_EQ(auth_of("r:5000/web"), "");
  EXPECT_EQ(outcome_.code, 0);
}

TEST_F(RegistryAuth, HelpersAreAsked) {
  helper("read server; printf '{\"Username\":\"ada\",\"Secret\":\"%s\"}' \"$server\"");
  config(R"({"auths": {"r:5000": {}}, "credHelpers": {"r:5000": "test"}})");
  // "ada:r:5000"
  EXPECT_EQ(auth_of("r:5000/web"), R"({"auths":{"r:5000":{"auth":"YWRhOnI6NTAwMA=="}}})");
  helper("printf '{\"Username\":\"<token>\",\"Secret\":\"t\"}'");
  config(R"({"credsStore": "test"})");
  EXPECT_EQ(auth_of("nginx"), R"({"auths":{"docker.io":{"identitytoken":"t"}}})");
  helper("echo 'credentials not found in native keychain'; exit 1");
  EXPECT_EQ(auth_of("nginx"), "");
  EXPECT_EQ(outcome_.code, 0);
}

TEST_F(RegistryAuth, WhatGoesWrongIsToldWithoutTheSecret) {
  helper("echo hunter2; exit 1");
  config(R"({"credsStore": "test"})");
  EXPECT_EQ(auth_of("nginx"), "nothing sent");
  EXPECT_THAT(outcome_.err, HasSubstr("docker-credential-test gave no credentials for"));
  EXPECT_THAT(outcome_.err, testing::Not(HasSubstr("hunter2")));
  config(R"({"credsStore": "nosuch"})");
  auth_of("nginx");
  EXPECT_THAT(outcome_.err, HasSubstr("docker-credential-nosuch is not installed"));
  config(R"({"credsStore": "../evil"})");
  auth_of("nginx");
  EXPECT_THAT(outcome_.err, HasSubstr("not the name of a credential helper"));
  config("[]");
  auth_of("nginx");
  EXPECT_THAT(outcome_.err, HasSubstr("config.json: not a JSON object"));
}

TEST_F(RegistryAuth, AnUpdateSendsTheImagesOwn) {
  config(R"({"auths": {"r:5000": {"auth": "YTpi"}}})");
  daemon_.add_service("web", 1);
  const Outcome outcome = run_muster(daemon_, {"service", "update", "-d", "--with-registry-auth",
                                               "--image", "r:5000/web:2", "web"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(daemon_.updated_services.at(0).spec().task().registry_auth(),
            R"({"auths":{"r:5000":{"auth":"YTpi"}}})");
}

TEST(RegistryOf, HostsHaveADotOrAPort) {
  EXPECT_EQ(registry_of("nginx"), "docker.io");
  EXPECT_EQ(registry_of("team/web"), "docker.io");
  EXPECT_EQ(registry_of("localhost/web"), "localhost");
  EXPECT_EQ(registry_of("r.io/web"), "r.io");
  EXPECT_EQ(registry_of("r:5000/a/b"), "r:5000");
}

}  // namespace
}  // namespace muster::deploy::cli
