#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>

#include "agent/runtime/exec.h"
#include "base/status.h"
#include "deploy/daemon/work_pool.h"
#include "muster/v1/local.pb.h"

namespace muster::daemon {

// Turns the start message into what the runtime runs: finds the container, its files.
using ResolveExec = std::function<Result<agent::ExecRequest>(const v1::ExecInput::Start&)>;

// One Exec call: the first message starts the process, later ones are its input and its terminal's
// size; output and finally the exit code go back. A client that goes away takes the process with
// it.
grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* start_exec(
    grpc::CallbackServerContext& context, WorkPool& pool, const agent::ConmonRuntime& runtime,
    ResolveExec resolve);
grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>* refuse_exec(const Status& why);

}  // namespace muster::daemon
