#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deploy/compose/node.h"

namespace muster::deploy::compose {

// What a file may ask for at most. Generous for people, tight for bombs.
struct YamlLimits {
  size_t bytes_max = 8 << 20;
  int depth_max = 64;
  // Nodes of the whole text, those that aliases and merge keys repeat counted each time.
  size_t nodes_max = 200'000;
  // Text of all scalars, repeats counted as above. At least bytes_max, so that only aliases reach
  // it.
  size_t expanded_bytes_max = 32 << 20;
};

// Reads all documents of a YAML text in UTF-8, or in UTF-16 with a byte order mark. Scalars resolve
// as Go's YAML loaders resolve them (YAML 1.2 core plus leading-zero octal and digit separators;
// yes, no, on, off are texts; dates are texts). Anchors, aliases and "<<" are expanded.
// INVALID_ARGUMENT "FILE:LINE: ..." on a syntax error, a duplicate key, a key that is no text, an
// unknown alias, an alias inside its own anchor, an unknown tag, or over a limit.
Result<std::vector<Node>> read_yaml(std::string_view text, const std::string& file,
                                    const YamlLimits& limits = {});

// How a plain (unquoted) scalar reads.
Node resolve_scalar(std::string_view text, Position at = {});

}  // namespace muster::deploy::compose
