#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/compose/node.h"

namespace muster::deploy::compose {

enum class Dialect;  // loader.h

using Lookup = std::function<std::optional<std::string>(const std::string&)>;

// One text with its variables replaced. kV3: $NAME, ${NAME}, and with :- - :? ? a default or a
// message up to the next "}" (up to the end of the text without braces), nothing nested; "$$" is
// "$". kSpec: the same forms inside braces, and :+ +, values nested to any depth up to 32.
// INVALID_ARGUMENT without a position: a malformed expression, quoted, or a required variable
// that is missing. Notes for the user (unset variables and the like) are added to `notes`.
Result<std::string> substitute(std::string_view text, Dialect dialect, const Lookup& lookup,
                               std::vector<std::string>& notes);

// Replaces the variables in all values (not keys) of a document. In kV3 a text that changed is
// then cast where Docker casts it ("replicas: ${N}" becomes a number).
Status interpolate(Node& document, Dialect dialect, const Lookup& lookup,
                   std::vector<std::string>& notes);

}  // namespace muster::deploy::compose
