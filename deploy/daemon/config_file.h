#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::daemon {

// Key to values, as written; scalars have one value, lists several.
using ConfigFile = std::map<std::string, std::vector<std::string>>;

// A flat YAML mapping of scalars and lists of scalars. A missing file is empty unless `must_exist`.
// Errors name the file and the line.
Result<ConfigFile> read_config_file(const std::string& path, bool must_exist);

// The same for text; `name` stands in errors.
Result<ConfigFile> parse_config(const std::string& text, const std::string& name);

}  // namespace muster::daemon
