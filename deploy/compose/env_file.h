#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deploy/compose/interpolation.h"

namespace muster::deploy::compose {

// Variables in the order of the file; later ones win.
using EnvPairs = std::vector<std::pair<std::string, std::string>>;

// Docker's own format, of env_file in v3 and of `format: raw`: "NAME=value" to the end of the line
// as it is, "NAME" alone takes the value from `lookup` or is left out, "#" starts a comment line.
Result<EnvPairs> parse_docker_env(std::string_view text, const std::string& file,
                                  const Lookup& lookup);

// The format of `.env` and of env_file in the Specification: "export " in front, blanks around
// "=", '...' as it is, "..." with \n \t \" \\ \$ and variables, unquoted with variables and " #"
// comments, quoted values over several lines. Variables come from `lookup`, then from the lines
// above.
Result<EnvPairs> parse_dotenv(std::string_view text, const std::string& file, const Lookup& lookup);

}  // namespace muster::deploy::compose
