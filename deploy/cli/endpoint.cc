#include "deploy/cli/endpoint.h"

#include <cstring>

#include "deploy/cli/paths.h"

namespace muster::deploy::cli {
namespace {

constexpr std::string_view kDefaultAddress = "unix:///run/muster/muster.sock";
constexpr std::string_view kUnix = "unix://";
constexpr std::string_view kTcp = "tcp://";

Status read_needed_pem(const std::string& file, const char* option, const std::string& current_dir,
                       std::string* pem) {
  if (file.empty()) {
    return invalid_argument(
        "a manager's port asks for a certificate: give --tlscacert, --tlscert and --tlskey, or "
        "MUSTER_CERT_PATH (--{} is missing)",
        option);
  }
  MUSTER_ASSIGN(*pem, read_pem(file, current_dir));
  return ok_status();
}

}  // namespace

EndpointOptions endpoint_of_environment(const std::map<std::string, std::string>& environment) {
  const auto value = [&](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  EndpointOptions options;
  options.host = value("MUSTER_SOCKET");
  if (options.host.empty()) options.host = value("MUSTER_HOST");
  if (const std::string dir = value("MUSTER_CERT_PATH"); !dir.empty()) {
    options.ca_file = dir + "/ca.pem";
    options.certificate_file = dir + "/cert.pem";
    options.key_file = dir + "/key.pem";
  }
  return options;
}

Result<bool> take_endpoint_option(std::vector<std::string>* words, EndpointOptions* options) {
  if (words->empty()) return false;
  struct {
    std::string_view name;
    std::string* target;
  } const known[] = {{"--socket", &options->host},
                     {"--host", &options->host},
                     {"-H", &options->host},
                     {"--tlscacert", &options->ca_file},
                     {"--tlscert", &options->certificate_file},
                     {"--tlskey", &options->key_file}};
  const std::string word = words->front();
  for (const auto& option : known) {
    if (word.starts_with(option.name) && word.size() > option.name.size() &&
        word[option.name.size()] == '=') {
      *option.target = word.substr(option.name.size() + 1);
      words->erase(words->begin());
      return true;
    }
    if (word != option.name) continue;
    if (words->size() == 1) return fail(invalid_argument("flag needs an argument: {}", word));
    *option.target = (*words)[1];
    words->erase(words->begin(), words->begin() + 2);
    return true;
  }
  return false;
}

Result<Endpoint> resolve_endpoint(const EndpointOptions& options, const std::string& current_dir) {
  const std::string text = options.host.empty() ? std::string(kDefaultAddress) : options.host;
  Endpoint endpoint;
  if (text.starts_with(kTcp)) {
    const size_t colon = text.rfind(':');
    const bool port = colon > kTcp.size() && text.find(']', colon) == std::string::npos;
    endpoint.address = port ? text : text + ":2377";
    MUSTER_TRY(read_needed_pem(options.ca_file, "tlscacert", current_dir, &endpoint.root_pem));
    MUSTER_TRY(read_needed_pem(options.certificate_file, "tlscert", current_dir,
                               &endpoint.certificate_pem));
    MUSTER_TRY(read_needed_pem(options.key_file, "tlskey", current_dir, &endpoint.key_pem));
    return endpoint;
  }
  const std::string path = text.starts_with(kUnix) ? text.substr(kUnix.size()) : text;
  if (path.find("://") != std::string::npos) {
    return fail(invalid_argument(
        "\"{}\" is neither the path of a Unix socket nor tcp://HOST:PORT of a manager", text));
  }
  endpoint.address = fmt::format("{}{}", kUnix, absolute_path(path, current_dir));
  return endpoint;
}

}  // namespace muster::deploy::cli
