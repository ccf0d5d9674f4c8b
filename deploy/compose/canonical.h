#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deploy/compose/node.h"

namespace muster::deploy::compose {

enum class Dialect;  // loader.h

// Turns every short form of a validated document into its long form, so that merging, printing
// and conversion know one shape of everything:
//   command, entrypoint, healthcheck.test         list of words
//   environment, labels, sysctls, options ...     mapping of texts (null: taken from outside)
//   env_file, ports, volumes, secrets, configs, devices   list of mappings
//   networks (of a service), depends_on           mapping
//   dns, dns_search, tmpfs, label_file            list; extra_hosts: list of "name:address"
//   external                                      true or absent, beside `name`
//   booleans and whole numbers written as texts   what they say (kSpec)
// Merge tags stay where they are. `notes` takes what the user should know. `raw` documents still
// have their variables: texts with a "$" stay as they are.
Status canonicalise(Node& document, Dialect dialect, bool raw, std::vector<std::string>& notes);

// Makes the relative paths of a canonical document absolute: env_file, label_file, extends.file,
// bind sources ("~" is `home`), secrets.file, configs.file. In `raw` documents those that begin
// with a variable stay as they are.
Status resolve_paths(Node& document, std::string_view working_dir, std::string_view home, bool raw);

}  // namespace muster::deploy::compose
