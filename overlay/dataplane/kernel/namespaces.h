#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::overlay {

// Runs `work` on a thread of its own, made for it and gone afterwards, and waits for it. What the
// work does to its thread's namespaces can so never leak to another.
Status on_own_thread(const std::function<Status()>& work);
// The same in the network namespace that `fd` is open on.
Status in_namespace(int fd, const std::function<Status()>& work);
Status in_namespace(const std::string& path, const std::function<Status()>& work);

// Network namespaces kept alive by a bind mount on a file each: <directory>/<container id>. They
// outlive the process. Thread-safe in different names.
class NamespaceDir {
 public:
  explicit NamespaceDir(std::string directory) : directory_(std::move(directory)) {}

  // Makes the directory, as a shared mount of its own: a pin removed here then goes from the mount
  // namespaces of containers and monitors too, which else would keep the namespace alive.
  Status prepare();

  std::string path(std::string_view name) const;
  // Moves the calling thread into the namespace, making and pinning it first where it is missing
  // (`created` is then true). For on_own_thread() only.
  Status enter(std::string_view name, bool* created);
  // Pins the namespace that `fd` is open on, in place of what the name stands for.
  Status pin(std::string_view name, int fd);
  // Removes the pin; a missing one is fine. The kernel takes the namespace away with its last
  // process.
  Status remove(std::string_view name);
  Result<std::vector<std::string>> list() const;
  // Removes the directory and its mount; it must be empty.
  Status remove_directory();

 private:
  std::string directory_;
};

}  // namespace muster::overlay
