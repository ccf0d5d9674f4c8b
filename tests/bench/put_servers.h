#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/status.h"
#include "tests/bench/put_load.h"

namespace muster::bench {

// Three servers that keep what is written to the leader on a majority, with TLS among themselves
// and to the client; processes of ours, ended with this object.
class PutServers {
 public:
  virtual ~PutServers() = default;

  // Waits until all of them know one leader, and says how to reach it.
  Result<PutTarget> leader();
  // What the servers' processes have used so far.
  Duration cpu_time() const;

 protected:
  // `processors`: as taskset(1) writes them; empty = any.
  Status launch(std::vector<std::string> argv, const std::string& processors,
                const std::filesystem::path& log);

  std::vector<PutTarget> targets_;

 private:
  std::vector<Process> processes_;
  std::vector<std::filesystem::path> logs_;
};

// Debian's etcd-server, and three members of muster's raft with its transport, disk and encryption
// (raft_member.h). Both keep their files below `dir`.
Result<std::unique_ptr<PutServers>> start_etcd(const std::filesystem::path& dir,
                                               const std::string& processors);
Result<std::unique_ptr<PutServers>> start_raft_members(const std::filesystem::path& dir,
                                                       const std::string& processors);

// A port of 127.0.0.1 that was free a moment ago.
uint16_t free_port();

}  // namespace muster::bench
