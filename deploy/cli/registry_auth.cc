#include "deploy/cli/registry_auth.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/file.h"

namespace muster::deploy::cli {

std::string registry_of(const std::string& image) {
  const size_t slash = image.find('/');
  if (slash == std::string::npos) return "docker.io";
  const std::string first = image.substr(0, slash);
  const bool is_host = first.find_first_of(".:") != std::string::npos || first == "localhost";
  return is_host ? first : "docker.io";
}

Result<std::string> registry_auth(Run& run, const std::string& image) {
  std::string path = run.env("REGISTRY_AUTH_FILE");
  if (path.empty() && !run.env("DOCKER_CONFIG").empty())
    path = run.env("DOCKER_CONFIG") + "/config.json";
  if (path.empty()) path = run.env("HOME") + "/.docker/config.json";
  const auto text = read_file(path, 1 << 20);
  if (!text) {
    if (text.error().code() == StatusCode::kNotFound) return std::string();
    return fail(text.error());
  }
  boost::json::error_code error;
  const boost::json::value config = boost::json::parse(*text, error);
  if (error || !config.is_object()) return fail(invalid_argument("{}: not a JSON object", path));
  const auto* auths = config.get_object().if_contains("auths");
  if (auths == nullptr || !auths->is_object()) return std::string();
  const std::string registry = registry_of(image);
  std::vector<std::string> names = {registry, "https://" + registry, "http://" + registry};
  if (registry == "docker.io") names.push_back("https://index.docker.io/v1/");
  for (const std::string& name : names) {
    const auto* entry = auths->get_object().if_contains(name);
    if (entry == nullptr) continue;
    boost::json::object one;
    one[registry] = *entry;
    return boost::json::serialize(boost::json::object{{"auths", one}});
  }
  return std::string();
}

}  // namespace muster::deploy::cli
