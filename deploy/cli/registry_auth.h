#pragma once

#include <string>

#include "base/status.h"
#include "deploy/cli/run.h"
#include "muster/v1/specs.pb.h"

namespace muster::deploy::cli {

// The host an image comes from: "docker.io" for "nginx", "localhost:5000" for "localhost:5000/x".
std::string registry_of(const std::string& image);

// The credentials this user has for the image's registry, as an auth.json with that one entry;
// empty when there are none. From the file $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json,
// else ~/.docker/config.json, and the credential helpers that names ("credHelpers", "credsStore").
Result<std::string> registry_auth(Run& run, const std::string& image);

// --with-registry-auth: puts them into the spec; a warning when there are none.
Status put_registry_auth(Run& run, v1::TaskSpec* task);

}  // namespace muster::deploy::cli
