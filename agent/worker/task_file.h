#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/worker/host_files.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"

namespace muster::agent {

// The records of a node's tasks: <directory>/<task id>, a line "muster-task 1\n" (format name and
// version) and then a LocalTask. Written to a temporary file and renamed; not synced, since after
// a crash of the host there is no container left to adopt. Blocking, quick.
class TaskFiles {
 public:
  TaskFiles(HostFiles& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}

  Status save(const v1::LocalTask& task);
  Status remove(const std::string& task_id);
  // All records. One that cannot be read (damaged, newer format) is moved aside to
  // "<id>.unreadable" and named in `damaged`.
  Result<std::map<std::string, v1::LocalTask>> load(std::vector<std::string>* damaged);

 private:
  HostFiles& files_;
  std::string directory_;
};

}  // namespace muster::agent
