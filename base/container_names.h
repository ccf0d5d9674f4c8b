#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace muster {

// As lists show an id, and the host name of a container that chooses none; as Docker's.
inline constexpr size_t kShortIdLength = 12;

// By which a container is found in its networks beside its task's names. An empty host name is none
// of its own.
inline std::vector<std::string> container_names(const std::string& id,
                                                const std::string& hostname) {
  std::vector<std::string> out;
  if (!id.empty()) out.push_back(id.substr(0, kShortIdLength));
  if (!hostname.empty() && (out.empty() || hostname != out.front())) out.push_back(hostname);
  return out;
}

}  // namespace muster
