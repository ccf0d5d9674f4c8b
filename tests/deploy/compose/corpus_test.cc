// The corpus: Compose files as people write them, one folder each under
// tests/deploy/compose/corpus, with the merged document (expected.yml), the specs (expected.json)
// and what was said on the way (expected.txt: warnings, or the error). README.md there says how to
// add one.
//
// MUSTER_REWRITE=1 writes what came out as what is expected; read all of it before you keep it.

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "deploy/compose/loader.h"
#include "deploy/compose/values.h"
#include "deploy/compose/yaml_reader.h"
#include "tests/deploy/compose/cases.h"

namespace muster::deploy::compose {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCorpus = "tests/deploy/compose/corpus";
constexpr std::string_view kOutputs[] = {"expected.yml", "expected.json", "expected.txt"};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

template <class Message>
void print(const std::string& title, const std::vector<Message>& messages, std::string& out) {
  if (messages.empty()) return;
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  out += (out.empty() ? "{\n" : ",\n") + ("\"" + title + "\": [\n");
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string text;
    ASSERT_TRUE(google::protobuf::util::MessageToJsonString(messages[i], &text, options).ok());
    while (text.ends_with('\n')) text.pop_back();
    out += text + (i + 1 < messages.size() ? ",\n" : "\n");
  }
  out += "]";
}

void print_names(const std::string& title, const std::vector<std::string>& names,
                 std::string& out) {
  if (names.empty()) return;
  out += (out.empty() ? "{\n" : ",\n") + ("\"" + title + "\": [");
  for (size_t i = 0; i < names.size(); ++i) out += (i == 0 ? "\"" : ", \"") + names[i] + "\"";
  out += "]";
}

std::string json_of(const StackSpecs& specs) {
  std::string out;
  print("services", specs.services, out);
  print("networks", specs.networks, out);
  print_names("external_networks", specs.external_networks, out);
  print("volumes", specs.volumes, out);
  print("secrets", specs.secrets, out);
  print_names("external_secrets", specs.external_secrets, out);
  print("configs", specs.configs, out);
  print_names("external_configs", specs.external_configs, out);
  return out + "\n}\n";
}

// By name of the file; an empty one is not there.
std::map<std::string, std::string> run(const fs::path& folder) {
  FakeFiles files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (entry.is_regular_file()) files.files[join_file_path("/p", name)] = slurp(entry.path());
  }
  std::istringstream words(slurp(folder / "args"));
  std::vector<std::string> args;
  for (std::string word; words >> word;) args.push_back(word);
  CaseRequest asked = read_args(args);
  if (asked.load.files.empty()) asked.load.files.push_back({"compose.yml", {}});
  std::map<std::string, std::string> out;
  const Result<Project> project = load(asked.load, files);
  if (!project) {
    out["expected.txt"] = "error: " + project.error().message() + "\n";
    return out;
  }
  for (const std::string& warning : project->warnings) {
    out["expected.txt"] += "warning: " + warning + "\n";
  }
  out["expected.yml"] = to_yaml(*project);
  const Result<StackSpecs> specs = convert(*project, asked.stack);
  if (!specs) {
    out["expected.txt"] += "error: " + specs.error().message() + "\n";
    return out;
  }
  for (const std::string& warning : specs->warnings) {
    out["expected.txt"] += "warning: " + warning + "\n";
  }
  out["expected.json"] = json_of(*specs);
  // Printed and read again it is the same stack: what `muster stack config > all.yml` is for.
  if (project->dialect == Dialect::kSpec && project->interpolated) {
    LoadRequest again = asked.load;
    again.files = {{"all.yml", out["expected.yml"]}};
    again.env_files.emplace();
    const Result<Project> reread = load(again, files);
    EXPECT_TRUE(reread.has_value()) << reread.error().message();
    const Result<StackSpecs> respecs =
        reread ? convert(*reread, asked.stack) : fail(reread.error());
    EXPECT_TRUE(respecs.has_value()) << folder;
    EXPECT_EQ(respecs ? json_of(*respecs) : "", out["expected.json"]) << folder;
  }
  return out;
}

std::vector<fs::path> folders() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(kCorpus)) {
    if (entry.is_directory()) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Corpus, EveryStackIsReadAsExpected) {
  const bool rewrite = std::getenv("MUSTER_REWRITE") != nullptr;
  size_t good = 0;
  size_t bad = 0;
  for (const fs::path& folder : folders()) {
    SCOPED_TRACE(folder.string());
    std::map<std::string, std::string> actual = run(folder);
    ++(actual.contains("expected.json") ? good : bad);
    for (const std::string_view name : kOutputs) {
      const fs::path path = folder / name;
      const std::string text = actual[std::string(name)];
      if (!rewrite) {
        EXPECT_EQ(text, slurp(path)) << path;
      } else if (text.empty()) {
        fs::remove(path);
      } else {
        std::ofstream(path, std::ios::binary) << text;
      }
    }
  }
  EXPECT_GE(good, 40u);
  EXPECT_GE(bad, 20u);
}

// A mistake is told with its place: every error of the corpus names file and line.
TEST(Corpus, ErrorsNameTheirPlace) {
  for (const fs::path& folder : folders()) {
    std::istringstream lines(slurp(folder / "expected.txt"));
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("error: ")) continue;
      const size_t colon = line.find(':', 7);
      ASSERT_NE(colon, std::string::npos) << folder << ": " << line;
      EXPECT_TRUE(colon + 1 < line.size() && std::isdigit(line[colon + 1]))
          << folder << ": " << line;
    }
  }
}

}  // namespace
}  // namespace muster::deploy::compose
