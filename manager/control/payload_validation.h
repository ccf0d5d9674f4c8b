#pragma once

#include <string_view>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::manager::control {

// Checks of secrets and configs by themselves, with Swarm's messages. Pure; all INVALID_ARGUMENT.
// No message ever quotes a payload.

// Payloads have at least a byte and fewer than this many.
inline constexpr size_t kSecretBytesLimit = 500 * 1024;
inline constexpr size_t kConfigBytesLimit = 1000 * 1024;

// A secret or config name: 1-64 of letters, digits, '-', '_', '.', letters or digits at the ends.
Status validate_payload_name(std::string_view name);

Status validate_payload_spec(const v1::SecretSpec& spec);
Status validate_payload_spec(const v1::ConfigSpec& spec);
// All but the payload, for updates.
Status validate_payload_labels(const v1::Annotations& annotations);

// Where the secrets and configs of a container go: every reference has a target, no two the same
// one, none climbs out of its directory.
Status validate_payload_targets(const v1::ContainerSpec& container);

// Sorts the labels. Called before validation.
void normalise(v1::SecretSpec& spec);
void normalise(v1::ConfigSpec& spec);

}  // namespace muster::manager::control
