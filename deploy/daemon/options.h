#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/objects.pb.h"

namespace muster::daemon {

// musterd's settings: flags, over the configuration file, over the defaults. Every flag has a key
// of the same name in the file.
struct Options {
  std::filesystem::path data_dir = "/var/lib/muster";
  std::filesystem::path run_dir = "/run/muster";
  std::string socket = "/run/muster/muster.sock";
  std::string log_level = "info";
  std::string balancer = "auto";  // of virtual addresses: auto, nftables, ipvs
  LogFormat log_format = LogFormat::kText;
  std::string metrics_addr;  // empty = no metrics server
  std::string runtime = "crun";
  std::string hostname;                          // empty = the host's
  std::vector<std::string> labels;               // engine labels, key=value
  std::vector<std::string> generic_resources;    // KIND=count or KIND=name, repeatable
  std::vector<std::string> insecure_registries;  // host:port or CIDR reached over plain http
  std::vector<std::string> registry_mirrors;     // mirrors of docker.io
  std::string log_driver = "json-file";          // of containers, where nothing else is said
  std::vector<std::string> log_options;          // of that driver, key=value
  Duration dns_ttl = 5s;  // of answers about services and tasks; whole seconds
  bool default_init = false;
  bool allow_privileged = false;  // containers with privileged, devices, host namespaces
  bool show_version = false;
  bool end_containers = false;  // instead of serving: end what an earlier musterd left running
};

// Reads flags and the file they name (default /etc/muster/musterd.yaml, which need not exist).
// A failure of code OUT_OF_RANGE carries text to print with exit code 0 (--help); INVALID_ARGUMENT
// is wrong usage.
Result<Options> parse_options(int argc, const char* const* argv);

}  // namespace muster::daemon
