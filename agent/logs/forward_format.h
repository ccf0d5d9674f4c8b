#pragma once

#include <string>
#include <vector>

#include "agent/logs/log_line.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// What stands beside the lines of one container where they are forwarded to.
struct ForwardIdentity {
  std::string container_id;
  std::string name;
  std::string image;
  std::string tag;
  std::string hostname;
  int pid = 0;  // of the sender, as syslog wants one
  std::vector<v1::KeyValue> attributes;
};

// One syslog message, without framing, in the layouts of Docker's driver: "" is the traditional
// local form, "rfc3164", "rfc5424" and "rfc5424micro". stdout has severity 6, stderr 3. Pure.
std::string syslog_message(const std::string& format, unsigned facility,
                           const ForwardIdentity& identity, const LogLine& line);

// One entry in the journal's native protocol (systemd's JOURNAL_NATIVE_PROTOCOL), with the fields
// of Docker's driver. Pure.
std::string journal_entry(const ForwardIdentity& identity, const LogLine& line);

}  // namespace muster::agent
