#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

// The small languages of option values. All failures are INVALID_ARGUMENT.
namespace muster::deploy::cli {

Result<int64_t> parse_bytes(std::string_view text);      // "512m", "1.5GiB", "100": powers of 1024
Result<int64_t> parse_nano_cpus(std::string_view text);  // "0.5" -> 500000000, exact
Result<uint64_t> parse_unsigned(std::string_view text);
Result<int64_t> parse_signed(std::string_view text);
Result<int64_t> parse_duration_ns(std::string_view text);  // not negative
Result<uint32_t> parse_ratio_ppm(std::string_view text);   // "0.25" -> 250000
// One line of RFC 4180: quotes group, doubled quotes are one.
Result<std::vector<std::string>> parse_csv(std::string_view text);
// As a POSIX shell splits words, without expansions.
Result<std::vector<std::string>> parse_shell_words(std::string_view text);
// A moment: RFC 3339, Unix seconds, or a duration before `now_ns`. Unix nanoseconds.
Result<int64_t> parse_moment(std::string_view text, int64_t now_ns);

// "[published:]target[/protocol]", either with a range "a-b", or the long csv form.
Result<std::vector<v1::PortConfig>> parse_publish(std::string_view text);
// The csv of --mount. Sources that begin with "." become absolute under `current_dir`.
Result<v1::Mount> parse_mount(std::string_view text, std::string_view current_dir);
// "name" or "name=...,alias=...,driver-opt=k=v".
Result<v1::NetworkAttachmentConfig> parse_network(std::string_view text);
Result<v1::SecretReference> parse_secret(std::string_view text);
Result<v1::ConfigReference> parse_config(std::string_view text);
Result<v1::Ulimit> parse_ulimit(std::string_view text);                     // "nofile=1024[:2048]"
Result<v1::GenericResource> parse_generic_resource(std::string_view text);  // "gpu=2"
Result<v1::PlacementPreference> parse_placement_pref(std::string_view text);
Result<std::string> parse_ip_address(std::string_view text);  // as it is, without blanks around
Result<std::string> parse_host(std::string_view text);        // "name:ip" or "name=ip" -> "ip name"
v1::KeyValue parse_key_value(std::string_view text);          // "k=v" or "k"

}  // namespace muster::deploy::cli
