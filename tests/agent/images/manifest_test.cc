#include "agent/images/manifest.h"

#include <gtest/gtest.h>

namespace muster::agent {
namespace {

std::string digest(char c) {
  return "sha256:" + std::string(64, c);
}

std::string manifest(const std::string& layers) {
  return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":")" +
         digest('c') + R"(","size":7},"layers":[)" + layers + "]}";
}

std::string layer(char c, const std::string& size) {
  return R"({"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")" + digest(c) +
         R"(","size":)" + size + "}";
}

TEST(ImagePlatforms, AsPlacementComparesThem) {
  const auto list = platforms_of_index(R"({"manifests": [
    {"platform": {"os": "linux", "architecture": "amd64"}},
    {"platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
    {"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
    {"platform": {"os": "unknown", "architecture": "unknown"}},
    {"platform": {"os": "linux", "architecture": "amd64", "variant": "v3"}},
    {"digest": "without a platform"},
    {"platform": {"os": "windows", "architecture": "amd64"}}]})");
  ASSERT_TRUE(list.has_value());
  std::vector<std::string> got;
  for (const auto& platform : *list) got.push_back(platform.os() + "/" + platform.architecture());
  EXPECT_EQ(got, (std::vector<std::string>{"linux/amd64", "linux/", "windows/amd64"}));
  EXPECT_TRUE(platforms_of_image({"", "", ""}).empty());
  EXPECT_EQ(platforms_of_image({"linux", "arm64", "v8"}).at(0).architecture(), "arm64");
  EXPECT_FALSE(platforms_of_index("no json").has_value());
}

TEST(ImageManifest, LayersComeLowestFirst) {
  const auto m = parse_manifest(manifest(layer('1', "10") + "," + layer('2', "20")));
  ASSERT_TRUE(m.has_value()) << m.error().message();
  ASSERT_EQ(m->layers.size(), 2U);
  EXPECT_EQ(m->layers[0].digest, digest('1'));
  EXPECT_EQ(m->bytes_total(), 37U);
  EXPECT_FALSE(m->is_docker());
}

TEST(ImageManifest, WhatCannotBeTrustedIsRefused) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "not valid JSON"},
      {"[]", "not a JSON object"},
      {"{}", "names no configuration"},
      {manifest(R"({"digest":"sha256:../../etc/passwd","size":1})"), "no valid sha256 digest"},
      {manifest(R"({"size":1})"), "no valid sha256 digest"},
      {manifest(layer('1', "-1")), "negative size"},
      {manifest(layer('1', "9223372036854775807") + "," + layer('2', "9223372036854775807")),
       "sizes are absurd"},
  };
  for (const auto& [text, why] : cases) {
    const auto m = parse_manifest(text);
    ASSERT_FALSE(m.has_value()) << text;
    EXPECT_EQ(m.error().code(), StatusCode::kDataLoss);
    EXPECT_NE(m.error().message().find(why), std::string::npos) << m.error().message();
  }
  std::string many = layer('1', "1");
  for (int i = 0; i < 127; ++i) many += "," + layer('1', "1");
  EXPECT_EQ(parse_manifest(manifest(many)).error().message(),
            "the image has 128 layers; at most 127 are supported");
}

TEST(ImageManifest, Schema1IsNotSupportedAnyMore) {
  const auto m = parse_manifest(R"({"schemaVersion":1,"fsLayers":[]})");
  ASSERT_FALSE(m.has_value());
  EXPECT_EQ(m.error().code(), StatusCode::kUnimplemented);
}

std::string index_of(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string text = R"({"schemaVersion":2,"manifests":[)";
  char c = '1';
  for (const auto& [architecture, variant] : entries) {
    if (c != '1') text += ",";
    text += R"({"digest":")" + digest(c++) +
            R"(","size":1,"platform":{"os":"linux","architecture":")" + architecture +
            R"(","variant":")" + variant + R"("}})";
  }
  return text + "]}";
}

TEST(ImageManifest, ThePlatformThatSuitsBestIsChosen) {
  const auto chosen = [](const std::string& index, const Platform& platform) {
    const auto d = choose_platform(index, platform);
    return d ? d->digest.substr(7, 1) : d.error().message();
  };
  const std::string index =
      index_of({{"arm", "v6"}, {"arm", "v7"}, {"arm64", "v8"}, {"amd64", ""}, {"amd64", "v3"}});
  EXPECT_EQ(chosen(index, {"linux", "amd64", ""}), "4");
  EXPECT_EQ(chosen(index, {"linux", "arm64", ""}), "3");
  EXPECT_EQ(chosen(index, {"linux", "arm", "v7"}), "2");
  EXPECT_EQ(chosen(index_of({{"arm", "v6"}}), {"linux", "arm", "v7"}), "1");
  EXPECT_EQ(chosen(index, {"linux", "s390x", ""}),
            "no matching manifest for linux/s390x in the manifest list entries");
}

TEST(ImageManifest, AConfigurationOfWrongTypesIsReadAsFarAsItGoes) {
  const auto c = parse_config(R"({"os":"linux","architecture":5,"config":{"Env":"x","Cmd":["a",1],
      "Labels":{"b":"2","a":"1"},"Volumes":{"/v":{}},"Healthcheck":[]},
      "rootfs":{"diff_ids":[")" +
                              digest('d') + R"("]}})");
  ASSERT_TRUE(c.has_value()) << c.error().message();
  EXPECT_EQ(c->platform.architecture, "");
  EXPECT_TRUE(c->run.env.empty());
  EXPECT_EQ(c->run.cmd, std::vector<std::string>{"a"});
  EXPECT_EQ(c->run.volumes, std::vector<std::string>{"/v"});
  ASSERT_EQ(c->run.labels.size(), 2U);
  EXPECT_EQ(c->run.labels[0].key(), "a");
  EXPECT_EQ(c->diff_ids, std::vector<std::string>{digest('d')});
  EXPECT_FALSE(parse_config(R"({"rootfs":{"diff_ids":["sha256:../x"]}})").has_value());
  EXPECT_FALSE(parse_config("null").has_value());
}

}  // namespace
}  // namespace muster::agent
