#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "deploy/compose/node.h"

namespace muster::deploy::compose {

enum class Dialect;  // loader.h

// What a place of a document may hold.
enum ValueTypes : unsigned {
  kS = 1,   // text
  kI = 2,   // whole number
  kN = 4,   // any number
  kB = 8,   // boolean
  kL = 16,  // list
  kM = 32,  // mapping
  kZ = 64,  // nothing
};

enum class Check {
  kNone,
  kStrings,   // a list holds texts, in v3 no two alike
  kUnique,    // in v3 no two items of the list are alike; the Specification drops repeats
  kLoose,     // v3 takes and ignores keys it does not know
  kPairs,     // list_or_dict: a list of texts or a mapping of scalars
  kOptions,   // a mapping of texts and numbers
  kDuration,  // Go's duration syntax
  kOrder,     // start-first or stop-first
  kOpen,      // a mapping of anything
  kNames,     // a mapping whose keys are names: letters, digits, "._-"
};

// One place: its path ("services.*.ports.[].target", "*" for any key, "[]" for list items), what
// each dialect lets it hold (0 = the key does not exist there), and the minor version of v3 that
// brought it.
struct SchemaRule {
  std::string_view path;
  unsigned v3;
  unsigned spec;
  Check check = Check::kNone;
  int since = 0;
};

// Ordered by nothing; parents before children.
const std::vector<SchemaRule>& schema_rules();

struct SchemaProblem {
  size_t depth = 0;
  bool wrong_type = false;
  Position at;
  std::string message;
};

// Checks a document against the rules of a dialect (kV3 or kSpec). `v3_minor` is the N of "3.N".
// `raw` documents still have their variables: a text with a "$" may become anything.
// Of several problems the most specific one is reported, as Docker does: the deepest, wrong types
// first, then in the order of the file.
Status validate(const Node& document, Dialect dialect, int v3_minor, bool raw);

// The rule of a place, or null. A key made of digits is taken for a list item where one fits.
const SchemaRule* find_rule(const std::vector<std::string>& path);

// Whether the dotted pattern ("services.*.ports.[]") matches the path of keys and "[N]" items.
bool path_matches(const std::vector<std::string>& path, std::string_view pattern);
// "services.web.ports.0"
std::string join_path(const std::vector<std::string>& path);

}  // namespace muster::deploy::compose
