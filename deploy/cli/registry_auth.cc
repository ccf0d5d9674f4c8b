#include "deploy/cli/registry_auth.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <vector>

#include "base/file.h"
#include "base/json_fields.h"
#include "base/process.h"

namespace muster::deploy::cli {
namespace {

namespace json = boost::json;

constexpr const char* kDockerHub = "https://index.docker.io/v1/";

std::string config_path(const Run& run) {
  std::string path = run.env("REGISTRY_AUTH_FILE");
  if (path.empty() && !run.env("DOCKER_CONFIG").empty())
    path = run.env("DOCKER_CONFIG") + "/config.json";
  if (path.empty()) path = run.env("HOME") + "/.docker/config.json";
  return path;
}

std::string base64(std::string_view text) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < text.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0U);
    for (size_t k = 0; k < 4; ++k)
      out += i + k <= text.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// Asks docker-credential-NAME, as docker does. An empty object: it has none.
Result<json::object> ask_helper(const std::string& name, const std::string& server) {
  if (name.empty() || name.find('/') != std::string::npos)
    return fail(invalid_argument("\"{}\" is not the name of a credential helper", name));
  const std::string program = find_program("docker-credential-" + name);
  if (program.empty())
    return fail(not_found("the credential helper docker-credential-{} is not installed", name));
  ProcessOptions process;
  process.argv = {program, "get"};
  RunOptions options;
  options.input = server;
  options.timeout = 30s;
  MUSTER_ASSIGN(const RunResult result, run_process(std::move(process), options));
  json::object entry;
  if (!result.exit.success()) {
    // What it says may hold anything, so it is not repeated.
    if (result.out.find("credentials not found") != std::string::npos) return entry;
    return fail(internal_error("docker-credential-{} gave no credentials for {}", name, server));
  }
  json::error_code error;
  const json::value answer = json::parse(result.out, error);
  if (error || !answer.is_object())
    return fail(internal_error("docker-credential-{} did not answer in JSON", name));
  const std::string user = text_at(answer.get_object(), "Username");
  const std::string secret = text_at(answer.get_object(), "Secret");
  if (user == "<token>")
    entry["identitytoken"] = secret;
  else
    entry["auth"] = base64(user + ":" + secret);
  return entry;
}

// Where the registry's entry may stand: for the repository and what it is in, then for the host.
std::vector<std::string> names_of(const std::string& registry, const std::string& image) {
  std::vector<std::string> names;
  std::string path = image.substr(0, image.find('@'));
  if (!path.starts_with(registry + "/")) path = registry + "/" + path;
  const size_t colon = path.find(':', path.rfind('/'));
  if (colon != std::string::npos) path.erase(colon);
  for (; path != registry; path.erase(path.rfind('/'))) names.push_back(path);
  for (const char* scheme : {"", "https://", "http://"}) names.push_back(scheme + registry);
  if (registry == "docker.io") names.insert(names.end(), {kDockerHub, "index.docker.io"});
  return names;
}

Result<json::object> entry_for(const json::object& config, const std::string& registry,
                               const std::string& image) {
  if (const auto* auths = config.if_contains("auths"); auths != nullptr && auths->is_object())
    for (const std::string& name : names_of(registry, image))
      if (const auto* entry = auths->get_object().if_contains(name);
          entry != nullptr && entry->is_object() && !entry->get_object().empty())
        return entry->get_object();
  const std::string server = registry == "docker.io" ? kDockerHub : registry;
  if (const auto* helpers = config.if_contains("credHelpers");
      helpers != nullptr && helpers->is_object())
    if (const std::string helper = text_at(helpers->get_object(), registry); !helper.empty())
      return ask_helper(helper, server);
  if (const std::string store = text_at(config, "credsStore"); !store.empty())
    return ask_helper(store, server);
  return json::object();
}

}  // namespace

std::string registry_of(const std::string& image) {
  const size_t slash = image.find('/');
  if (slash == std::string::npos) return "docker.io";
  const std::string first = image.substr(0, slash);
  const bool is_host = first.find_first_of(".:") != std::string::npos || first == "localhost";
  return is_host ? first : "docker.io";
}

Result<std::string> registry_auth(Run& run, const std::string& image) {
  const std::string path = config_path(run);
  const auto text = read_file(path, 1 << 20);
  if (!text) {
    if (text.error().code() == StatusCode::kNotFound) return std::string();
    return fail(text.error());
  }
  json::error_code error;
  const json::value config = json::parse(*text, error);
  if (error || !config.is_object()) return fail(invalid_argument("{}: not a JSON object", path));
  const std::string registry = registry_of(image);
  MUSTER_ASSIGN(const json::object entry, entry_for(config.get_object(), registry, image));
  if (entry.empty()) return std::string();
  return json::serialize(json::object{{"auths", json::object{{registry, entry}}}});
}

Status put_registry_auth(Run& run, v1::TaskSpec* task) {
  const std::string& image = task->container().image();
  MUSTER_ASSIGN(const std::string auth, registry_auth(run, image));
  if (auth.empty())
    run.warn(
        fmt::format("WARNING: no credentials for {} in {}", registry_of(image), config_path(run)));
  else
    task->set_registry_auth(auth);
  return ok_status();
}

}  // namespace muster::deploy::cli
