#pragma once

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "deploy/compose/loader.h"

// What the tests on Compose files share: files in memory and the words that say how to load them.
namespace muster::deploy::compose {

class FakeFiles final : public Files {
 public:
  std::map<std::string, std::string> files;
  Result<std::string> read(const std::string& path) override {
    const auto found = files.find(path);
    if (found == files.end()) return fail(not_found("{}: No such file or directory", path));
    return found->second;
  }
  bool exists(const std::string& path) override {
    return files.count(path) != 0 || is_directory(path);
  }
  bool is_directory(const std::string& path) override {
    const auto next = files.lower_bound(path + "/");
    return next != files.end() && next->first.starts_with(path + "/");
  }
};

struct CaseRequest {
  LoadRequest load;
  std::string stack = "shop";
  std::string print = "specs";
};

// [print=config,specs] [stack=NAME] [dialect=v3|spec] [profile=NAME] [env:NAME=VALUE]
// [files=a.yml,b.yml] [ignore-unsupported] [skip-interpolation]. Files are
// relative to /p.
inline CaseRequest read_args(const std::vector<std::string>& args) {
  CaseRequest out;
  LoadRequest& request = out.load;
  request.current_dir = "/p";
  for (const std::string& arg : args) {
    const size_t equals = arg.find('=');
    const std::string key = arg.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : arg.substr(equals + 1);
    if (key == "print") out.print = value;
    if (key == "stack") out.stack = value;
    if (key == "profile") request.profiles.push_back(value);
    if (key == "dialect") request.dialect = value == "v3" ? Dialect::kV3 : Dialect::kSpec;
    if (key == "ignore-unsupported") request.ignore_unsupported = true;
    if (key == "skip-interpolation") request.skip_interpolation = true;
    if (key.starts_with("env:")) request.environment[key.substr(4)] = value;
    if (key == "files") {
      std::istringstream names(value);
      for (std::string name; std::getline(names, name, ',');) request.files.push_back({name, {}});
    }
  }
  return out;
}

}  // namespace muster::deploy::compose
