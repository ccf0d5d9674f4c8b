#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::deploy::cli {

// Where musterd is: on this host's socket ("unix:///path"), or at a manager's port
// ("tcp://host:port"), where a manager's certificate says who calls.
struct Endpoint {
  std::string address;
  std::string root_pem, certificate_pem, key_pem;  // of tcp

  bool remote() const { return address.starts_with("tcp://"); }
};

// The options before the command that say where musterd is.
struct EndpointOptions {
  std::string host;  // of --socket, --host or the environment
  std::string ca_file, certificate_file, key_file;
};

// From MUSTER_SOCKET or MUSTER_HOST, and the files ca.pem, cert.pem, key.pem of MUSTER_CERT_PATH.
EndpointOptions endpoint_of_environment(const std::map<std::string, std::string>& environment);

// Takes one of the options from the front of `words`; false when there is another word. Fails when
// its value is missing.
Result<bool> take_endpoint_option(std::vector<std::string>* words, EndpointOptions* options);

// INVALID_ARGUMENT for an address of another kind and for certificates that cannot be read.
Result<Endpoint> resolve_endpoint(const EndpointOptions& options, const std::string& current_dir);

}  // namespace muster::deploy::cli
