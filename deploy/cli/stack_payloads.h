#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "deploy/cli/run.h"
#include "deploy/compose/loader.h"

// Secrets and configs of stacks.
namespace muster::deploy::cli {

// Before anything is created: NOT_FOUND naming the external ones that do not exist,
// INVALID_ARGUMENT for a content too large or none.
Status check_payloads(Run& run, const compose::StackSpecs& specs);
// Creates what is not there, updates the labels of what is. A changed content is refused by the
// manager; the error says what to do instead.
// `done` is told of each, as payload_steps() names it.
Status deploy_payloads(Run& run, const compose::StackSpecs& specs,
                       const std::function<void(const std::string& step)>& done);
// "secret shop_password", in the order in which they are deployed.
std::vector<std::string> payload_steps(const compose::StackSpecs& specs);

// What belongs to a stack.
struct StackPayloads {
  std::vector<v1::Secret> secrets;
  std::vector<v1::Config> configs;
  bool empty() const { return secrets.empty() && configs.empty(); }
};
Result<StackPayloads> payloads_of_stack(Run& run, const v1::ListFilter& filter);
Status remove_payloads(Run& run, const StackPayloads& payloads);

}  // namespace muster::deploy::cli
