#include "deploy/eval/eval.h"

#include <algorithm>

#if __has_include("deploy/eval/compose_suite.h")
#include "deploy/eval/compose_suite.h"
#define MUSTER_EVAL_COMPOSE {"compose", eval_compose},
#else
#define MUSTER_EVAL_COMPOSE
#endif
#if __has_include("deploy/eval/constraint_suite.h")
#include "deploy/eval/constraint_suite.h"
#define MUSTER_EVAL_CONSTRAINT {"constraint", eval_constraint},
#else
#define MUSTER_EVAL_CONSTRAINT
#endif
#if __has_include("deploy/eval/ipam_suite.h")
#include "deploy/eval/ipam_suite.h"
#define MUSTER_EVAL_IPAM {"ipam", eval_ipam},
#else
#define MUSTER_EVAL_IPAM
#endif
#if __has_include("deploy/eval/jobs_suite.h")
#include "deploy/eval/jobs_suite.h"
#define MUSTER_EVAL_JOBS {"jobs", eval_jobs},
#else
#define MUSTER_EVAL_JOBS
#endif
#if __has_include("deploy/eval/restart_suite.h")
#include "deploy/eval/restart_suite.h"
#define MUSTER_EVAL_RESTART {"restart", eval_restart},
#else
#define MUSTER_EVAL_RESTART
#endif
#if __has_include("deploy/eval/schedule_suite.h")
#include "deploy/eval/schedule_suite.h"
#define MUSTER_EVAL_SCHEDULE {"schedule", eval_schedule},
#else
#define MUSTER_EVAL_SCHEDULE
#endif
#if __has_include("deploy/eval/template_suite.h")
#include "deploy/eval/template_suite.h"
#define MUSTER_EVAL_TEMPLATE {"template", eval_template},
#else
#define MUSTER_EVAL_TEMPLATE
#endif
#if __has_include("deploy/eval/update_suite.h")
#include "deploy/eval/update_suite.h"
#define MUSTER_EVAL_UPDATE {"update", eval_update},
#else
#define MUSTER_EVAL_UPDATE
#endif

namespace muster::deploy::eval {
namespace {

struct Suite {
  std::string_view name;
  Result<boost::json::value> (*run)(const boost::json::value&);
};

// Sorted by name.
constexpr Suite kSuites[] = {
    MUSTER_EVAL_COMPOSE MUSTER_EVAL_CONSTRAINT MUSTER_EVAL_IPAM MUSTER_EVAL_JOBS MUSTER_EVAL_RESTART
        MUSTER_EVAL_SCHEDULE MUSTER_EVAL_TEMPLATE MUSTER_EVAL_UPDATE};

}  // namespace

std::vector<std::string> suites() {
  std::vector<std::string> names;
  for (const Suite& suite : kSuites) names.emplace_back(suite.name);
  return names;
}

Status check_suite(std::string_view suite) {
  std::string known;
  for (const Suite& candidate : kSuites) {
    if (candidate.name == suite) return ok_status();
    known += fmt::format("{}{}", known.empty() ? "" : ", ", candidate.name);
  }
  return invalid_argument("no suite \"{}\"; there are: {}", suite, known);
}

Result<boost::json::value> evaluate(std::string_view suite, const boost::json::value& request) {
  MUSTER_TRY(check_suite(suite));
  const auto* found = std::find_if(std::begin(kSuites), std::end(kSuites),
                                   [&](const Suite& candidate) { return candidate.name == suite; });
  return found->run(request);
}

}  // namespace muster::deploy::eval
