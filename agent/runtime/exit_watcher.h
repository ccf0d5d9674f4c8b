#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/runtime/cgroup.h"
#include "agent/runtime/runtime.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace muster::agent {

// Where a container's end is to be read from.
struct ExitSource {
  std::string container_id;
  std::string cgroup;      // for the OOM mark
  std::string bundle_dir;  // conmon leaves a file "oom" there
};

// One thread for the ends of all containers of an instance: conmon renames a file with the exit
// code into the exit directory, inotify tells. A monitor that dies without such a file (killed)
// takes its container with it: nobody could ever know its exit code. Thread-safe.
class ExitWatcher {
 public:
  // `exit_dir` exists. Takes references to what outlives it.
  static Result<std::unique_ptr<ExitWatcher>> create(std::string exit_dir, const Cgroups& cgroups,
                                                     Log log);
  ~ExitWatcher();

  // Calls `exited` once, on the watcher's thread, at once if the exit file is there already.
  // `monitor` is a pidfd of the container's conmon, none if that is gone.
  Status watch(ExitSource source, UniqueFd monitor, std::function<void(ContainerExit)> exited);
  // Forgets a watch; its function may be running still.
  void forget(const std::string& container_id);

  // The end as recorded, if it is.
  std::optional<ContainerExit> read_exit(const ExitSource& source) const;

 private:
  static constexpr uint64_t kInotifySerial = 0;
  static constexpr uint64_t kWakeSerial = 1;
  static constexpr uint64_t kFirstSerial = 2;

  struct Watch {
    ExitSource source;
    UniqueFd monitor;
    uint64_t serial = 0;
    std::function<void(ContainerExit)> exited;
  };

  ExitWatcher(std::string exit_dir, const Cgroups& cgroups, Log log);
  void run();
  void drain_inotify();
  void check(const std::string& container_id, bool monitor_gone);

  std::string exit_dir_;
  const Cgroups& cgroups_;
  Log log_;
  UniqueFd inotify_;
  UniqueFd wake_;
  UniqueFd epoll_;
  std::mutex mutex_;
  bool stopping_ = false;
  std::map<std::string, Watch> watches_;
  // What epoll knows a monitor by. Not its descriptor, whose number a newer watch may have by the
  // time an event of the old one is looked at.
  uint64_t next_serial_ = kFirstSerial;
  std::map<uint64_t, std::string> by_serial_;  // to container
  std::vector<std::string> fresh_;             // watches to be looked at by the thread
  std::thread thread_;
};

}  // namespace muster::agent
