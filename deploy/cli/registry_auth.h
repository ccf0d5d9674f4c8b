#pragma once

#include <string>

#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// The user's credentials for the image's registry as an auth.json with one entry, from
// $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json or ~/.docker/config.json; "" when there are none.
// Credential helpers are not run.
Result<std::string> registry_auth(Run& run, const std::string& image);

// "docker.io" for "nginx" and "team/app"; "host:5000" for "host:5000/app".
std::string registry_of(const std::string& image);

}  // namespace muster::deploy::cli
