// What a file may contain and cost: bytes, encodings, repeats. Everything else about documents is
// in data/*.txt.

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "deploy/compose/loader.h"
#include "deploy/compose/values.h"
#include "deploy/compose/yaml_reader.h"

namespace muster::deploy::compose {
namespace {

class FakeFiles final : public Files {
 public:
  std::map<std::string, std::string> files;
  size_t reads = 0;
  Result<std::string> read(const std::string& path) override {
    ++reads;
    const auto found = files.find(path);
    if (found == files.end()) return fail(not_found("{}: No such file or directory", path));
    return found->second;
  }
  bool exists(const std::string& path) override { return files.count(path) != 0; }
  bool is_directory(const std::string&) override { return false; }
};

Result<Project> load_text(const std::string& text, FakeFiles& files,
                          std::map<std::string, std::string> environment = {}) {
  LoadRequest request;
  request.current_dir = "/p";
  request.environment = std::move(environment);
  request.files.push_back({"compose.yml", text});
  return load(request, files);
}

std::string error_of(const std::string& text, FakeFiles files = {},
                     std::map<std::string, std::string> environment = {}) {
  const Result<Project> project = load_text(text, files, std::move(environment));
  return project ? "" : project.error().message();
}

TEST(Encodings, Utf8IsCheckedStrictly) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x90\xB3"));
  EXPECT_FALSE(is_utf8("\xFC"));
  EXPECT_FALSE(is_utf8("\x80"));
  EXPECT_FALSE(is_utf8("\xC3"));
  EXPECT_FALSE(is_utf8("\xC3("));
  EXPECT_FALSE(is_utf8("\xC0\xAF"));          // overlong
  EXPECT_FALSE(is_utf8("\xE0\x80\xAF"));      // overlong
  EXPECT_FALSE(is_utf8("\xED\xA0\x80"));      // a surrogate
  EXPECT_FALSE(is_utf8("\xF4\x90\x80\x80"));  // beyond U+10FFFF
}

TEST(Encodings, ByteOrderMarksAndLineEndsOfWindowsAreRead) {
  FakeFiles files;
  const auto bom = load_text("\xEF\xBB\xBFservices:\r\n  a:\r\n    image: x\r\n", files);
  ASSERT_TRUE(bom) << bom.error().message();
  EXPECT_EQ(bom->document.find({"services", "a", "image"})->text, "x");
  const std::string text = "services: {a: {image: x}}\n";
  std::string wide = "\xFF\xFE";
  for (const char c : text) wide += {c, '\0'};
  const auto utf16 = load_text(wide, files);
  ASSERT_TRUE(utf16) << utf16.error().message();
  EXPECT_EQ(utf16->document.find({"services", "a", "image"})->text, "x");
}

TEST(Encodings, BytesThatAreNoUtf8AreRefusedWithTheirLine) {
  EXPECT_EQ(error_of("services:\n  a:\n    image: x\n    hostname: M\xFCller\n"),
            "compose.yml:4: yaml: invalid leading UTF-8 octet");
  EXPECT_EQ(error_of("services:\n  a:\n    hostname: ${N}\n", {}, {{"N", "M\xFCller"}}),
            "compose.yml:3: services.a.hostname is not valid UTF-8 text");
  FakeFiles files;
  files.files["/p/e.env"] = "NAME=M\xFCller\n";
  EXPECT_EQ(error_of("services:\n  a:\n    image: x\n    env_file: e.env\n", files),
            "compose.yml:4: services.a.environment.NAME is not valid UTF-8 text");
  files.files["/p/e.env"] = "N\xFC=x\n";
  EXPECT_EQ(error_of("version: '3.8'\nservices:\n  a:\n    image: x\n    env_file: e.env\n", files),
            "compose.yml:5: services.a.environment has a name that is not valid UTF-8 text");
}

TEST(Limits, AliasesDoNotMultiplyText) {
  std::string text = "x-0: &a0 \"" + std::string(10'000, 'x') + "\"\n";
  for (int i = 1; i < 6; ++i) {
    text += fmt::format("x-{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) text += fmt::format("*a{},", i - 1);
    text += "]\n";
  }
  EXPECT_EQ(error_of(text),
            "compose.yml:5: the document expands to more than 33554432 bytes of text");
}

TEST(Limits, AnchorsWithinAnchorsDoNotMultiply) {
  std::string text = "x: ";
  for (int i = 0; i < 50; ++i) text += fmt::format("&a{} [", i);
  for (int i = 0; i < 10'000; ++i) text += "1,";
  text += std::string(50, ']') + "\n";
  EXPECT_EQ(error_of(text), "compose.yml:1: the document anchors too much");
}

TEST(Limits, AHugeFileIsRefusedAndALargeOneIsNot) {
  std::string large = "services: {a: {image: x}}\nx-text: \"" + std::string(7 << 20, 'x') + "\"\n";
  EXPECT_EQ(error_of(large), "");
  large += std::string(2 << 20, '\n');
  EXPECT_NE(error_of(large).find("is over the limit of 8388608"), std::string::npos);
}

TEST(Limits, ManyServicesMayExtendOneFileThatIsReadOnce) {
  FakeFiles files;
  files.files["/p/common.yml"] = "services: {base: {image: x}}\n";
  std::string text = "services:\n";
  for (int i = 0; i < 1000; ++i) {
    text += fmt::format("  s{}: {{extends: {{file: common.yml, service: base}}}}\n", i);
  }
  const auto project = load_text(text, files);
  ASSERT_TRUE(project) << project.error().message();
  EXPECT_EQ(project->document.find("services")->members.size(), 1000u);
  EXPECT_EQ(files.reads, 1u);
}

TEST(Limits, IncludesDoNotMultiply) {
  FakeFiles files;
  for (int i = 0; i < 15; ++i) {
    files.files[fmt::format("/p/{}.yml", i)] =
        fmt::format("include: [{{path: {0}.yml}}, {{path: {0}.yml}}]\n", i + 1);
  }
  files.files["/p/15.yml"] = "services: {a: {image: x}}\n";
  EXPECT_NE(error_of("include: [0.yml]\n", files).find("more than 5000 files are included"),
            std::string::npos);
}

TEST(Limits, TwoFilesOfManyPortsMerge) {
  LoadRequest request;
  request.current_dir = "/p";
  for (const std::string_view version : {"version: '3.8'\n", ""}) {
    request.files.clear();
    const std::string text = fmt::format(
        "{}services: {{a: {{image: x, ports: "
        "['20001-50000:20001-50000']}}}}\n",
        version);
    request.files.push_back({"a.yml", text});
    request.files.push_back({"b.yml", text});
    FakeFiles files;
    const auto project = load(request, files);
    ASSERT_TRUE(project) << project.error().message();
    EXPECT_EQ(project->document.find({"services", "a", "ports"})->items.size(), 30'000u);
  }
}

}  // namespace
}  // namespace muster::deploy::compose
