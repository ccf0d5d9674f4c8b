#pragma once

#include <string>
#include <vector>

#include "muster/v1/objects.pb.h"

namespace muster::deploy::cli {

// Which published ports of the service other programs have on which nodes, whether or not those
// have a task of it: "port 8080/tcp is taken on db1, db2 by another program". One sentence a port.
// Pure.
std::vector<std::string> port_clashes(const v1::Service& service,
                                      const std::vector<v1::Node>& nodes);

}  // namespace muster::deploy::cli
