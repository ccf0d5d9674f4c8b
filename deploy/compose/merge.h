#pragma once

#include "deploy/compose/node.h"

namespace muster::deploy::compose {

// Merges canonical documents. Both never fail on documents that validate() accepted, except for
// what the messages say.

// As `docker stack deploy` merges several -c files: an override's empty values ("" 0 false, empty
// lists) change nothing, except replicas, parallelism, max_attempts and retries; lists append,
// except command, entrypoint and healthcheck.test, which replace; ports append without repeats,
// sorted by published port; secrets and configs go by source, volumes by target; logging options
// merge when the driver is the same or one side names none; a service's network takes the
// override's aliases; ulimits and the entries of the top-level networks, volumes, secrets and
// configs replace by name.
void merge_v3(Node& base, const Node& over);

// As the Compose Specification merges files and `extends`: mappings merge, scalars replace, lists
// append without repeats, except command, entrypoint and healthcheck.test, which replace; ports go
// by address, published and target port and protocol, volumes, secrets, configs and devices by
// target, env_file and tmpfs by path, address pools by subnet; logging as above; !reset removes,
// !override replaces.
// INVALID_ARGUMENT: the two sides differ in kind.
Status merge_spec(Node& base, const Node& over);

// Drops the repeats that one file has in lists of the Specification; done once after the last
// merge.
Status drop_repeats(Node& document);

// Removes what !reset asks to remove, and the tags. Done once after the last merge.
void drop_merge_tags(Node& document);

}  // namespace muster::deploy::compose
