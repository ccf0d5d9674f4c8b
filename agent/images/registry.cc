#include "agent/images/registry.h"

#include <arpa/inet.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace muster::agent {
namespace {

constexpr size_t kManifestBytesMax = 4 << 20;  // the distribution specification's own limit

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string_view host_of(std::string_view registry) {
  if (registry.starts_with('[')) return registry.substr(0, registry.find(']') + 1);
  return registry.substr(0, registry.rfind(':'));
}

bool in_range(std::string_view host, std::string_view range) {
  const size_t slash = range.find('/');
  if (slash == std::string_view::npos) return false;
  in_addr address{};
  in_addr base{};
  if (inet_pton(AF_INET, std::string(host).c_str(), &address) != 1) return false;
  if (inet_pton(AF_INET, std::string(range.substr(0, slash)).c_str(), &base) != 1) return false;
  const int bits = std::atoi(std::string(range.substr(slash + 1)).c_str());
  if (bits < 0 || bits > 32) return false;
  const uint32_t mask = bits == 0 ? 0 : ~uint32_t{0} << (32 - bits);
  return ((ntohl(address.s_addr) ^ ntohl(base.s_addr)) & mask) == 0;
}

// The text of skopeo's last complaint, out of its log line's msg="...".
std::string last_message(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  const size_t line = text.rfind('\n');
  std::string_view last = line == std::string_view::npos ? text : text.substr(line + 1);
  const size_t msg = last.find("msg=\"");
  if (msg == std::string_view::npos) return std::string(last.substr(0, 500));
  std::string result;
  for (size_t i = msg + 5; i < last.size() && last[i] != '"'; ++i) {
    if (last[i] == '\\' && i + 1 < last.size()) ++i;
    result += last[i] == '\n' ? ' ' : last[i];
  }
  return result.substr(0, 500);
}

// skopeo prefixes every step; what went wrong stands at the end.
std::string tail_from(const std::string& message, std::initializer_list<std::string_view> marks) {
  for (const std::string_view mark : marks) {
    const size_t at = message.find(mark);
    if (at != std::string::npos) return message.substr(at);
  }
  return message;
}

}  // namespace

bool is_insecure_registry(std::string_view registry, const std::vector<std::string>& listed) {
  const std::string_view host = host_of(registry);
  if (host == "localhost" || host == "[::1]" || in_range(host, "127.0.0.0/8")) return true;
  return std::any_of(listed.begin(), listed.end(), [&](const std::string& entry) {
    return entry == registry || entry == host || in_range(host, entry);
  });
}

Status explain_registry_failure(std::string_view skopeo_stderr, const ImageReference& image,
                                std::string_view host) {
  const std::string message = last_message(skopeo_stderr);
  if (contains(message, "no space left on device") || contains(message, "disk quota exceeded")) {
    return resource_exhausted("no space left on device while pulling {}", image.familiar());
  }
  if (contains(message, "connection refused")) {
    return unavailable("connection refused to registry {}", host);
  }
  if (contains(message, "no such host") || contains(message, "server misbehaving") ||
      contains(message, "Temporary failure in name resolution")) {
    return unavailable("cannot find registry {}: {}", host,
                       tail_from(message, {"lookup ", "no such host"}));
  }
  if (contains(message, "toomanyrequests") || contains(message, "too many requests")) {
    return unavailable("registry {} limits the rate of pulls: {}", host,
                       tail_from(message, {"toomanyrequests", "too many requests"}));
  }
  if (contains(message, "manifest unknown")) {
    return not_found("manifest for {} not found: manifest unknown", image.familiar());
  }
  const bool missing =
      contains(message, "name unknown") || contains(message, "repository name not");
  const bool refused = contains(message, "unauthorized") || contains(message, "denied") ||
                       contains(message, "authentication required") ||
                       contains(message, "invalid username/password") ||
                       contains(message, "unable to retrieve auth token");
  if (missing || refused) {
    return Status(
        missing ? StatusCode::kNotFound : StatusCode::kPermissionDenied,
        fmt::format("pull access denied for {}, repository does not exist or may require "
                    "'docker login': {}",
                    image.familiar_name(),
                    tail_from(message, {"name unknown", "unable to retrieve", "unauthorized",
                                        "denied", "authentication required"})));
  }
  if (contains(message, "Digest did not match") || contains(message, "unexpected EOF") ||
      contains(message, "does not match") || contains(message, "unexpected end")) {
    return data_loss("the download of {} is damaged: {}", image.familiar(),
                     tail_from(message, {"Digest did not match", "unexpected"}));
  }
  if (contains(message, "server gave HTTP response to HTTPS client")) {
    return unavailable("registry {} speaks plain HTTP; add it to insecure-registries to allow that",
                       host);
  }
  if (contains(message, "x509") || contains(message, "tls:")) {
    return unavailable("registry {} cannot be trusted: {}", host,
                       tail_from(message, {"x509", "tls:"}));
  }
  if (contains(message, "i/o timeout") || contains(message, "network is unreachable") ||
      contains(message, "no route to host") || contains(message, "handshake timeout") ||
      contains(message, "connection reset") || contains(message, "deadline exceeded") ||
      contains(message, "EOF") || contains(message, "HTTP status: 5") ||
      contains(message, "from registry 5")) {
    return unavailable("registry {} cannot be reached: {}", host,
                       tail_from(message, {"dial tcp", "pinging", "read tcp"}));
  }
  return Status(StatusCode::kInternal,
                fmt::format("cannot pull {}: {}", image.familiar(),
                            message.empty() ? "skopeo failed without a message" : message));
}

std::vector<RegistryEndpoint> Registry::endpoints(const ImageReference& image) const {
  std::vector<RegistryEndpoint> result;
  for (const RegistryMirror& mirror : options_.mirrors) {
    if (mirror.registry != image.registry) continue;
    for (std::string_view endpoint : mirror.endpoints) {
      const bool plain = endpoint.starts_with("http://");
      if (plain) endpoint.remove_prefix(7);
      if (endpoint.starts_with("https://")) endpoint.remove_prefix(8);
      while (endpoint.ends_with('/')) endpoint.remove_suffix(1);
      const auto host = endpoint.substr(0, endpoint.find('/'));
      result.push_back({std::string(endpoint) + "/" + image.repository,
                        plain || is_insecure_registry(host, options_.insecure_registries)});
    }
  }
  result.push_back(
      {image.name(), is_insecure_registry(image.registry, options_.insecure_registries)});
  return result;
}

Result<ProcessOptions> Registry::command(std::string verb, std::vector<std::string> arguments,
                                         const RegistryAccess& access) const {
  const std::string skopeo = find_program(options_.skopeo);
  if (skopeo.empty()) {
    return fail(
        failed_precondition("{} is not installed, so no image can be pulled", options_.skopeo));
  }
  ProcessOptions process;
  // Killed together with us: nobody would have a use for what it fetches.
  const std::string setpriv = find_program("setpriv");
  if (!setpriv.empty()) process.argv = {setpriv, "--pdeathsig", "KILL"};
  for (std::string word :
       {skopeo, std::string("--insecure-policy"), std::string("--override-os"),
        options_.platform.os, std::string("--override-arch"), options_.platform.architecture,
        std::string("--tmpdir"), access.temp_dir, std::move(verb)}) {
    process.argv.push_back(std::move(word));
  }
  for (std::string& argument : arguments) process.argv.push_back(std::move(argument));
  // skopeo as root keeps one locked cache file for the whole host, which serves pushes only and
  // makes concurrent pulls wait for each other; as "rootless" it keeps it where XDG_DATA_HOME says.
  process.env =
      std::vector<std::string>{"_CONTAINERS_ROOTLESS_UID=1", "XDG_DATA_HOME=" + access.temp_dir,
                               "TMPDIR=" + access.temp_dir, "LANG=C"};
  for (const char* name : {"PATH", "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
                           "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    const char* value = std::getenv(name);
    if (value != nullptr) process.env->push_back(fmt::format("{}={}", name, value));
  }
  return process;
}

Result<std::string> Registry::inspect(const RegistryEndpoint& from, const ImageReference& image,
                                      const std::string& selector, bool config,
                                      const RegistryAccess& access) const {
  std::vector<std::string> arguments = {"--raw", "--authfile", access.auth_file};
  if (config) arguments.push_back("--config");
  if (from.insecure) arguments.push_back("--tls-verify=false");
  arguments.push_back("docker://" + from.name + selector);
  RunOptions run;
  run.timeout = options_.resolve_timeout;
  run.output_bytes_max = kManifestBytesMax;
  run.cancelled = access.cancelled;
  MUSTER_ASSIGN(ProcessOptions process, command("inspect", std::move(arguments), access));
  auto result = run_process(std::move(process), run);
  if (!result) {
    if (result.error().code() == StatusCode::kDeadlineExceeded) {
      return fail(unavailable("registry {} did not answer within {}", from.host(),
                              format_duration(options_.resolve_timeout)));
    }
    return fail(result.error());
  }
  if (!result->exit.success())
    return fail(explain_registry_failure(result->err, image, from.host()));
  return std::move(result->out);
}

Result<std::string> Registry::raw_manifest(const RegistryEndpoint& from,
                                           const ImageReference& image, const std::string& selector,
                                           const RegistryAccess& access) const {
  return inspect(from, image, selector, false, access);
}

Result<std::string> Registry::raw_config(const RegistryEndpoint& from, const ImageReference& image,
                                         const std::string& selector,
                                         const RegistryAccess& access) const {
  return inspect(from, image, selector, true, access);
}

Status Registry::copy(const RegistryEndpoint& from, const ImageReference& image,
                      const std::string& selector, const std::string& destination,
                      bool preserve_digests, uint64_t bytes_max, const RegistryAccess& access,
                      const std::function<uint64_t()>& tick) const {
  std::vector<std::string> arguments = {"--quiet", "--src-authfile", access.auth_file};
  if (preserve_digests) arguments.push_back("--preserve-digests");
  if (from.insecure) arguments.push_back("--src-tls-verify=false");
  arguments.push_back("docker://" + from.name + selector);
  arguments.push_back(destination);

  uint64_t bytes_seen = 0;
  auto last_byte = std::chrono::steady_clock::now();
  bool stalled = false;
  bool flooded = false;
  RunOptions run;
  run.timeout = options_.pull_timeout;
  run.tick = [&] {
    const uint64_t bytes = tick();
    const auto now = std::chrono::steady_clock::now();
    if (bytes != bytes_seen) last_byte = now;
    bytes_seen = bytes;
    stalled = now - last_byte > options_.stall_timeout;
    flooded = bytes > bytes_max;
  };
  run.cancelled = [&] { return stalled || flooded || (access.cancelled && access.cancelled()); };
  MUSTER_ASSIGN(ProcessOptions process, command("copy", std::move(arguments), access));
  const auto result = run_process(std::move(process), run);
  if (!result) {
    if (flooded) {
      return data_loss(
          "the download of {} is damaged: registry {} sends more than the {} bytes of "
          "its manifest",
          image.familiar(), from.host(), bytes_max);
    }
    if (stalled || result.error().code() == StatusCode::kDeadlineExceeded) {
      return unavailable("the download of {} from registry {} stalled after {} bytes",
                         image.familiar(), from.host(), bytes_seen);
    }
    return result.error();
  }
  return result->exit.success() ? ok_status()
                                : explain_registry_failure(result->err, image, from.host());
}

}  // namespace muster::agent
