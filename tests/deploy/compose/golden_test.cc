// Text cases under tests/deploy/compose/data: Compose files in, merged document, specs, warnings
// or error out. Each *.txt holds cases of this form:
//
//   #### case NAME
//   #### args [print=config,specs] [stack=NAME] [dialect=v3|spec] [profile=NAME] [env:NAME=VALUE]
//             [files=a.yml,b.yml] [ignore-unsupported] [skip-interpolation]
//   #### file PATH            (relative to /p, the working directory)
//   ...
//   #### expect
//   ...
//
// MUSTER_REWRITE=1 writes what came out as what is expected; read the difference before you keep
// it.

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "deploy/compose/interpolation.h"
#include "deploy/compose/loader.h"
#include "deploy/compose/values.h"
#include "deploy/compose/yaml_reader.h"
#include "tests/deploy/compose/cases.h"

namespace muster::deploy::compose {
namespace {

constexpr std::string_view kDir = "tests/deploy/compose/data";

struct Case {
  std::string name;
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> files;
  std::string expected;
};

std::vector<Case> read_cases(const std::string& text) {
  std::vector<Case> out;
  std::istringstream lines(text);
  std::string line;
  std::string* into = nullptr;
  while (std::getline(lines, line)) {
    if (line.starts_with("#### case ")) {
      out.emplace_back();
      out.back().name = line.substr(10);
      into = nullptr;
    } else if (line.starts_with("#### args")) {
      std::istringstream words(line.substr(9));
      for (std::string word; words >> word;) out.back().args.push_back(word);
    } else if (line.starts_with("#### file ")) {
      out.back().files.emplace_back(line.substr(10), "");
      into = &out.back().files.back().second;
    } else if (line == "#### expect") {
      into = &out.back().expected;
    } else if (into != nullptr) {
      *into += line + "\n";
    }
  }
  return out;
}

std::string write_case(const Case& c) {
  std::string out = "#### case " + c.name + "\n";
  if (!c.args.empty()) {
    out += "#### args";
    for (const std::string& arg : c.args) out += " " + arg;
    out += "\n";
  }
  for (const auto& [path, content] : c.files) out += "#### file " + path + "\n" + content;
  return out + "#### expect\n" + c.expected;
}

template <class Message>
void print(std::string_view title, const std::vector<Message>& messages, std::string& out) {
  for (const Message& message : messages) {
    std::string text;
    google::protobuf::TextFormat::PrintToString(message, &text);
    out += fmt::format("{} {{\n", title);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) out += "  " + line + "\n";
    out += "}\n";
  }
}

void print_names(std::string_view title, const std::vector<std::string>& names, std::string& out) {
  for (const std::string& name : names) out += fmt::format("{} {}\n", title, name);
}

std::string print_specs(const StackSpecs& specs) {
  std::string out;
  print("service", specs.services, out);
  print("network", specs.networks, out);
  print_names("external network", specs.external_networks, out);
  print("volume", specs.volumes, out);
  print("secret", specs.secrets, out);
  print_names("external secret", specs.external_secrets, out);
  print("config", specs.configs, out);
  print_names("external config", specs.external_configs, out);
  return out;
}

std::string run(const Case& c) {
  FakeFiles files;
  for (const auto& [path, content] : c.files) files.files[join_file_path("/p", path)] = content;
  CaseRequest asked = read_args(c.args);
  LoadRequest& request = asked.load;
  const std::string& wanted = asked.print;
  const std::string& stack = asked.stack;
  if (request.files.empty()) request.files.push_back({c.files.at(0).first, {}});
  const Result<Project> project = load(request, files);
  if (!project) return "error: " + project.error().message() + "\n";
  std::string out;
  for (const std::string& warning : project->warnings) out += "warning: " + warning + "\n";
  if (wanted.find("config") != std::string::npos) {
    const std::string text = to_yaml(*project);
    out += "config:\n" + text;
    // What is printed reads back as the same document.
    Result<std::vector<Node>> again = read_yaml(text, "printed");
    const bool one = again && again->size() == 1;
    if (one && project->dialect == Dialect::kSpec && project->interpolated) {
      std::vector<std::string> notes;
      EXPECT_TRUE(interpolate((*again)[0], Dialect::kSpec,
                              [](const std::string&) { return std::nullopt; }, notes)
                      .ok())
          << text;
    }
    EXPECT_TRUE(one && same_content((*again)[0], project->document)) << text;
  }
  if (wanted.find("specs") != std::string::npos) {
    const Result<StackSpecs> specs = convert(*project, stack);
    out += specs ? print_specs(*specs) : "error: " + specs.error().message() + "\n";
  }
  return out;
}

TEST(Golden, EveryCaseGivesWhatItsFileExpects) {
  const bool rewrite = std::getenv("MUSTER_REWRITE") != nullptr;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(kDir)) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  ASSERT_GE(paths.size(), 5u);
  size_t count = 0;
  for (const std::filesystem::path& path : paths) {
    std::ifstream in(path);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    std::string rewritten;
    for (Case& c : read_cases(text)) {
      const std::string actual = run(c);
      ++count;
      if (rewrite) {
        c.expected = actual + "\n";
        rewritten += write_case(c);
        continue;
      }
      // Blank lines at the end only separate the cases.
      std::string expected = c.expected;
      while (expected.ends_with("\n\n")) expected.pop_back();
      EXPECT_EQ(actual, expected) << path << ": " << c.name;
    }
    if (rewrite) std::ofstream(path) << rewritten;
  }
  EXPECT_GE(count, 60u);
}

}  // namespace
}  // namespace muster::deploy::compose
