#pragma once

#include "deploy/cli/run.h"

// The functions behind the words; commands.cc has the table. Each declares its options, parses,
// and does its work; the result is the exit code.
namespace muster::deploy::cli {

Result<int> swarm_init(Run& run);
Result<int> swarm_join(Run& run);
Result<int> swarm_leave(Run& run);
Result<int> swarm_join_token(Run& run);
Result<int> swarm_update(Run& run);
Result<int> swarm_unlock(Run& run);
Result<int> swarm_unlock_key(Run& run);
Result<int> swarm_ca(Run& run);
Result<int> swarm_backup(Run& run);
Result<int> swarm_restore(Run& run);

Result<int> client_cert_create(Run& run);

Result<int> service_create(Run& run);
Result<int> service_update(Run& run);
Result<int> service_rollback(Run& run);
Result<int> service_scale(Run& run);
Result<int> service_ls(Run& run);
Result<int> service_ps(Run& run);
Result<int> service_explain(Run& run);
Result<int> service_inspect(Run& run);
Result<int> service_rm(Run& run);

Result<int> service_logs(Run& run);
Result<int> stack_logs(Run& run);
Result<int> logs(Run& run);

Result<int> stack_deploy(Run& run);
Result<int> stack_ls(Run& run);
Result<int> stack_ps(Run& run);
Result<int> stack_services(Run& run);
Result<int> stack_rm(Run& run);
Result<int> stack_config(Run& run);

Result<int> node_ls(Run& run);
Result<int> node_inspect(Run& run);
Result<int> node_ps(Run& run);
Result<int> node_update(Run& run);
Result<int> node_promote(Run& run);
Result<int> node_demote(Run& run);
Result<int> node_rm(Run& run);

Result<int> task_ls(Run& run);
Result<int> task_inspect(Run& run);

Result<int> network_ls(Run& run);
Result<int> network_create(Run& run);
Result<int> network_inspect(Run& run);
Result<int> network_doctor(Run& run);
Result<int> network_rm(Run& run);
Result<int> network_update(Run& run);
Result<int> network_connect(Run& run);
Result<int> network_disconnect(Run& run);

Result<int> secret_create(Run& run);
Result<int> secret_ls(Run& run);
Result<int> secret_inspect(Run& run);
Result<int> secret_rm(Run& run);

Result<int> config_create(Run& run);
Result<int> config_ls(Run& run);
Result<int> config_inspect(Run& run);
Result<int> config_rm(Run& run);

Result<int> image_ls(Run& run);
Result<int> image_pull(Run& run);
Result<int> image_load(Run& run);
Result<int> image_rm(Run& run);
Result<int> image_prune(Run& run);

Result<int> volume_ls(Run& run);
Result<int> volume_create(Run& run);
Result<int> volume_inspect(Run& run);
Result<int> volume_rm(Run& run);
Result<int> volume_prune(Run& run);

Result<int> container_ps(Run& run);
Result<int> container_exec(Run& run);
Result<int> container_stats(Run& run);

Result<int> events(Run& run);
Result<int> info(Run& run);
Result<int> version(Run& run);
Result<int> debug_eval(Run& run);
Result<int> debug_raft_log(Run& run);
Result<int> completion(Run& run);
Result<int> complete(Run& run);

}  // namespace muster::deploy::cli
