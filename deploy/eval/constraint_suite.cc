#include "deploy/eval/constraint_suite.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <optional>
#include <vector>

#include "deploy/eval/placement_json.h"
#include "scheduler/constraint.h"

namespace muster::deploy::eval {

namespace json = boost::json;

Result<json::value> eval_constraint(const json::value& input) {
  ObjectReader in(input, "input");
  const auto texts = in.texts("constraints");
  const json::array& nodes = in.list("nodes");
  MUSTER_TRY(in.finish());

  std::vector<std::optional<scheduler::Constraint>> constraints;
  json::array parsed;
  for (const std::string& text : texts) {
    auto constraint = scheduler::Constraint::parse(text);
    json::object one;
    one["text"] = text;
    if (constraint) {
      one["key"] = constraint->key();
      one["operator"] = constraint->equal() ? "==" : "!=";
      one["value"] = constraint->value();
      constraints.emplace_back(*std::move(constraint));
    } else {
      one["error"] = constraint.error().message();
      constraints.emplace_back(std::nullopt);
    }
    parsed.push_back(std::move(one));
  }
  json::array answers;
  json::array matches;
  for (size_t i = 0; i < nodes.size(); ++i) {
    MUSTER_ASSIGN(const v1::Node node, node_from_json(nodes[i], fmt::format("nodes[{}]", i)));
    const scheduler::NodeFacts facts = scheduler::facts_of(node);
    json::array failing;
    for (size_t c = 0; c < constraints.size(); ++c) {
      if (!constraints[c] || !constraints[c]->matches(facts)) failing.emplace_back(texts[c]);
    }
    if (failing.empty()) matches.emplace_back(node.id());
    json::object answer;
    answer["id"] = node.id();
    answer["matches"] = failing.empty();
    answer["failing"] = std::move(failing);
    answers.push_back(std::move(answer));
  }
  json::object result;
  result["constraints"] = std::move(parsed);
  result["matches"] = std::move(matches);
  result["nodes"] = std::move(answers);
  return json::value(std::move(result));
}

}  // namespace muster::deploy::eval
