#pragma once

#include <functional>
#include <memory>

#include "manager/control/grpc/control_service.h"
#include "manager/examiner/examiner.h"

namespace muster::manager::examiner {

// The examiner in force; null when this node is not a manager. Asked from any thread.
using CurrentExaminer = std::function<std::shared_ptr<Examiner>()>;

// Answers Control.ExamineNetworks for the control service.
control::ExamineNetworksCall make_examine_networks_call(CurrentExaminer current);

}  // namespace muster::manager::examiner
