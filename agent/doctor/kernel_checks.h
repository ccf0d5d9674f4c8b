#pragma once

#include <string>
#include <vector>

#include "agent/doctor/checks.h"

namespace muster::agent {

// What the kernel of the node itself had, cannot do, or does besides what muster wants. Pure, but
// for judge_mesh_host(), which asks for settings.

// Differences that NodeNetwork::repair() has found and mended, as findings of what they are about.
Findings judge_repairs(const v1::NetworkExamination& examination, const NodeFacts& facts,
                       const std::vector<std::string>& differences);

// What a host cannot do, or could not mend (NodeNetwork::limitations()), as findings: BAD but where
// it is known that all goes on, only less well.
Findings judge_limitations(const v1::NetworkExamination& examination, const NodeFacts& facts,
                           const std::vector<std::string>& limitations);

// Ports that others have, and settings that the mesh needs.
Findings judge_mesh_host(const v1::NetworkExamination& examination, const NodeFacts& facts,
                         HostTests& tests);

// ---- what the host forwards

// From the host, which comes first, and from containers with a way out, to a port of other nodes at
// which something of a host answers.
struct ForwardTest {
  std::vector<HostTests::Connects> from;
  std::string containers;  // in words
};
// `port`: of TCP. Nothing to try where there is no other node or no such container.
ForwardTest plan_forward(const v1::NetworkExamination& examination, const NodeFacts& facts,
                         uint16_t port);
// `drops`: see HostTests::forward_drops(). `answers`: of `test.from`, in its order.
Findings judge_forward(const ForwardTest& test, const std::vector<std::string>& drops,
                       const std::vector<Result<std::vector<HostTests::Answer>>>& answers);

}  // namespace muster::agent
