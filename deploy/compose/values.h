#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "deploy/compose/node.h"

// The small languages inside Compose texts. Pure; errors are INVALID_ARGUMENT without a position.
namespace muster::deploy::compose {

// "512", "64k", "1.5GiB", "2gb", "10 M": bytes, powers of 1024. Never negative.
Result<int64_t> parse_size(std::string_view text);

// "0.5", "2": CPUs in billionths; at most nine decimals, as Docker.
Result<int64_t> parse_cpus(std::string_view text);

// y, yes, true, on, n, no, false, off in any case.
Result<bool> parse_yaml11_bool(std::string_view text);

Result<int64_t> parse_integer(std::string_view text);

// Words as a shell splits them: quotes, backslashes, no expansion.
Result<std::vector<std::string>> split_words(std::string_view text);

// "[[ADDRESS:]PUBLISHED[-END]:]TARGET[-END][/PROTOCOL]": one long form mapping per port, sorted as
// Docker sorts them. Equal ranges map one to one; a range published to one port is all of it.
Result<std::vector<Node>> parse_port(std::string_view text, const Position& at);

// "[SOURCE:]TARGET[:OPTIONS]" as a long form mapping.
Result<Node> parse_volume(std::string_view text, const Position& at);

// An image reference as Docker accepts it: [domain[:port]/]path[:tag][@digest].
Status check_image(std::string_view text);

// Whether the bytes are UTF-8: no overlong forms, no surrogates, at most U+10FFFF.
bool is_utf8(std::string_view text);

// `base` joined with `path` unless `path` is absolute; "." and ".." resolved.
std::string join_file_path(std::string_view base, std::string_view path);
std::string parent_path(std::string_view path);

}  // namespace muster::deploy::compose
