#pragma once

#include <string>

namespace muster::overlay {

// Why this node cannot take part in encrypted networks whose data path is IPv4 (or IPv6); empty: it
// can. Tries it in a network namespace made for that, so that nothing is left over and nothing of
// the host's is touched; takes some 20 ms.
std::string encryption_trouble(bool v6);

}  // namespace muster::overlay
