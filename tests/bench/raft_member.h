#pragma once

namespace muster::bench {

// One member of the group that `muster-bench raft` writes to, as a program:
//   muster-bench raft-member DIR NUMBER ADDRESS ADDRESS ADDRESS
// DIR holds its credentials (DIR/tls) and takes its log. Member 1 founds the group and takes the
// others in. Serves etcd's Put and Status (etcd.proto) beside the raft transport, on one port with
// TLS, to those who hold a manager's certificate. Runs until it is killed.
int raft_member_main(int argc, char** argv);

}  // namespace muster::bench
