#pragma once

#include <string>
#include <vector>

#include "agent/logs/log_rotation.h"
#include "base/log_driver.h"
#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// How one container's log is kept, from its driver's name and options. Pure.
//
// Every driver but none lets the monitor write container.log, since the monitor outlives musterd:
// json-file and local keep it as the log itself, journald as the copy that is read while a
// forwarder passes the lines on, syslog as the spool that the forwarder empties.
struct LogPlan {
  std::string driver;      // never empty
  bool file = true;        // the monitor writes container.log
  bool forwarded = false;  // to the journal or to syslog
  // Why `logs` cannot show it, in Docker's words; empty when it can.
  std::string unreadable;
  uint64_t bytes_max = 0;  // of one file; 0 = unlimited
  unsigned files_max = 1;
};
LogPlan plan_log(const v1::LogDriver& driver);
// LogPlan::forwarded alone.
bool is_forwarded(const v1::LogDriver& driver);

// A service's own driver, with what it leaves open taken from the cluster's and then from the
// node's default: Docker lets the options of a default of the same name through.
v1::LogDriver effective_log_driver(const v1::LogDriver& own, const v1::LogDriver& cluster,
                                   const v1::LogDriver& node);

LogOptions log_options(const v1::LogDriver& driver);
std::string log_option(const v1::LogDriver& driver, const std::string& key);

// What of a container its log shows beside each line: options labels, labels-regex, env, env-regex.
// Sorted by key.
std::vector<v1::KeyValue> log_attributes(const v1::LogDriver& driver,
                                         const std::vector<v1::KeyValue>& labels,
                                         const std::vector<std::string>& env);

// The names that a tag template can use.
struct LogTagContext {
  std::string container_id;
  std::string name;
  std::string image_id;
  std::string image_name;
};
// Option tag expanded; `fallback` when there is none, as Docker's "{{.ID}}" by default.
Result<std::string> log_tag(const v1::LogDriver& driver, const LogTagContext& context,
                            const std::string& fallback = "{{.ID}}");

}  // namespace muster::agent
