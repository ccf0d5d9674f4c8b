#include "base/template.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <utility>

#include "base/template_tree.h"

namespace muster {
namespace internal {
namespace {

using boost::json::object;
using boost::json::value;

// A value during rendering: shares its owner, so that taking a field of a big document copies
// nothing. A null pointer is Go's "no value".
using Val = std::shared_ptr<const value>;

Val own(value v) {
  return std::make_shared<const value>(std::move(v));
}
Val part_of(const Val& owner, const value& part) {
  return Val(owner, &part);
}

class Renderer {
 public:
  Renderer(const TemplateTree& tree, const value& data) : tree_(tree) {
    variables_.resize(tree.variables);
    variables_[0] = Val(Val(), &data);
  }

  Result<std::string> run() {
    MUSTER_ASSIGN(const Flow flow, run_list(tree_.nodes, variables_[0]));
    (void)flow;
    return std::move(out_);
  }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Status error(size_t offset, std::string_view message) const {
    return template_error(tree_.text, offset, message);
  }

  Status step(size_t offset) {
    if (++steps_ <= tree_.options.steps_max) return {};
    return Status(StatusCode::kResourceExhausted,
                  error(offset, "the template runs for too long").message());
  }

  Status write(size_t offset, std::string_view text) {
    if (out_.size() + text.size() > tree_.options.output_bytes_max) {
      return Status(StatusCode::kResourceExhausted,
                    error(offset, "the output is too long").message());
    }
    out_ += text;
    return {};
  }

  Result<Flow> run_list(const std::vector<TemplateNode>& nodes, const Val& dot) {
    for (const TemplateNode& node : nodes) {
      MUSTER_TRY(step(node.offset));
      MUSTER_ASSIGN(const Flow flow, run_node(node, dot));
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Result<Flow> run_node(const TemplateNode& node, const Val& dot) {
    using Kind = TemplateNode::Kind;
    switch (node.kind) {
      case Kind::kText: MUSTER_TRY(write(node.offset, node.text)); return Flow::kNext;
      case Kind::kBreak: return Flow::kBreak;
      case Kind::kContinue: return Flow::kContinue;
      case Kind::kAction: {
        MUSTER_ASSIGN(const Val v, run_pipeline(node.pipeline, dot));
        if (!node.pipeline.targets.empty()) return Flow::kNext;
        MUSTER_TRY(write(node.offset, print(v)));
        return Flow::kNext;
      }
      case Kind::kIf:
      case Kind::kWith: {
        MUSTER_ASSIGN(const Val v, run_pipeline(node.pipeline, dot));
        if (!v || !template_truth(*v)) return run_list(node.otherwise, dot);
        return run_list(node.body, node.kind == Kind::kWith ? v : dot);
      }
      case Kind::kRange: return run_range(node, dot);
    }
    return Flow::kNext;
  }

  std::string print(const Val& v) const {
    if (v) return v->is_null() ? "<no value>" : template_print(*v);
    return tree_.options.missing == TemplateOptions::Missing::kEmpty ? "" : "<no value>";
  }

  Result<Flow> run_range(const TemplateNode& node, const Val& dot) {
    // The variables of a range are set per element, not to the list.
    MUSTER_ASSIGN(const Val list, run_commands(node.pipeline, dot));
    if (!list || !template_truth(*list)) return run_list(node.otherwise, dot);
    if (const auto* array = list->if_array()) {
      for (size_t i = 0; i < array->size(); ++i) {
        MUSTER_ASSIGN(const bool more, run_element(node, value(static_cast<int64_t>(i)),
                                                   part_of(list, (*array)[i])));
        if (!more) break;
      }
    } else if (const auto* members = list->if_object()) {
      std::map<std::string_view, const value*> sorted;
      for (const auto& member : *members) sorted.emplace(member.key(), &member.value());
      for (const auto& [key, member] : sorted) {
        MUSTER_ASSIGN(const bool more,
                      run_element(node, value(boost::json::string_view(key.data(), key.size())),
                                  part_of(list, *member)));
        if (!more) break;
      }
    } else if (list->is_int64() || list->is_uint64()) {
      const int64_t count = list->is_int64() ? list->get_int64() : INT64_MAX;
      for (int64_t i = 0; i < count; ++i) {
        MUSTER_ASSIGN(const bool more, run_element(node, value(i), own(value(i))));
        if (!more) break;
      }
    } else {
      return fail(error(node.offset, "range cannot iterate over " + template_print(*list)));
    }
    return Flow::kNext;
  }

  Result<bool> run_element(const TemplateNode& node, value key, const Val& element) {
    MUSTER_TRY(step(node.offset));
    const std::vector<size_t>& targets = node.pipeline.targets;
    if (targets.size() == 1) variables_[targets[0]] = element;
    if (targets.size() == 2) {
      variables_[targets[0]] = own(std::move(key));
      variables_[targets[1]] = element;
    }
    MUSTER_ASSIGN(const Flow flow, run_list(node.body, element));
    return flow != Flow::kBreak;
  }

  Result<Val> run_pipeline(const TemplatePipeline& pipeline, const Val& dot) {
    MUSTER_ASSIGN(Val v, run_commands(pipeline, dot));
    for (const size_t target : pipeline.targets) variables_[target] = v;
    return v;
  }

  Result<Val> run_commands(const TemplatePipeline& pipeline, const Val& dot) {
    Val v;
    bool piped = false;
    for (const TemplateCommand& command : pipeline.commands) {
      MUSTER_TRY(step(command.offset));
      const TemplateOperand& first = command.operands[0];
      if (first.kind == TemplateOperand::Kind::kFunction) {
        MUSTER_ASSIGN(v, call(command, dot, piped ? &v : nullptr));
      } else {
        if (piped) return fail(error(command.offset, "only a function can take a pipe's result"));
        MUSTER_ASSIGN(v, operand(first, dot));
      }
      piped = true;
    }
    return v;
  }

  Result<Val> operand(const TemplateOperand& op, const Val& dot) {
    using Kind = TemplateOperand::Kind;
    Val v;
    switch (op.kind) {
      case Kind::kLiteral: return own(op.literal);
      case Kind::kDot: v = dot; break;
      case Kind::kVariable: v = variables_[op.variable]; break;
      case Kind::kParen: {
        MUSTER_ASSIGN(v, run_pipeline(*op.parens, dot));
        break;
      }
      case Kind::kFunction: {
        TemplateCommand command;
        command.offset = op.offset;
        command.operands.push_back(op);
        return call(command, dot, nullptr);
      }
    }
    // A field of the root or of a variable under "Labels" is a key of an open map.
    bool open = false;
    for (const std::string& field : op.fields) {
      MUSTER_ASSIGN(v, take_field(op, v, field, open));
      open = field == "Labels";
    }
    return v;
  }

  Result<Val> take_field(const TemplateOperand& op, const Val& v, const std::string& field,
                         bool open) const {
    const bool strict = tree_.options.missing == TemplateOptions::Missing::kError && !open;
    if (!v || v->is_null()) {
      if (!strict) return Val();
      return fail(error(op.offset, fmt::format("no value to take .{} from", field)));
    }
    if (const object* members = v->if_object()) {
      if (const value* found = members->if_contains(field)) return part_of(v, *found);
      if (!strict) return Val();
    }
    return fail(error(op.offset, fmt::format("there is no field .{}", field)));
  }

  Result<Val> call(const TemplateCommand& command, const Val& dot, const Val* piped) {
    const std::string& name = command.operands[0].function;
    const auto own_function = tree_.options.functions.find(name);
    const bool registered = own_function != tree_.options.functions.end();
    const bool is_and = !registered && name == "and";
    const bool is_or = !registered && name == "or";
    std::vector<Val> values;
    for (size_t i = 1; i < command.operands.size(); ++i) {
      MUSTER_TRY(step(command.operands[i].offset));
      MUSTER_ASSIGN(Val v, operand(command.operands[i], dot));
      // and, or stop at the first value that decides.
      if ((is_and || is_or) && (v && template_truth(*v)) == is_or) return v;
      values.push_back(std::move(v));
    }
    if (piped != nullptr) values.push_back(*piped);
    if (is_and || is_or) {
      if (values.empty()) return fail(error(command.offset, name + " expects arguments"));
      return values.back();
    }
    static const value kNull;
    TemplateArgs args;
    for (const Val& v : values) args.push_back(v ? v.get() : &kNull);
    Result<value> result =
        registered ? own_function->second(args) : find_template_builtin(name)(args);
    if (!result) {
      return fail(Status(result.error().code(),
                         error(command.offset, name + ": " + result.error().message()).message(),
                         result.error().reason()));
    }
    return own(*std::move(result));
  }

  const TemplateTree& tree_;
  std::vector<Val> variables_;
  std::string out_;
  uint64_t steps_ = 0;
};

}  // namespace
}  // namespace internal

Result<Template> Template::parse(std::string_view text, TemplateOptions options) {
  MUSTER_ASSIGN(internal::TemplateTree tree, internal::parse_template(text, std::move(options)));
  return Template(std::make_shared<const internal::TemplateTree>(std::move(tree)));
}

Result<std::string> Template::render(const boost::json::value& data) const {
  return internal::Renderer(*tree_, data).run();
}

Result<std::string> expand_template(std::string_view text, const boost::json::value& data,
                                    TemplateOptions options) {
  if (text.find("{{") == std::string_view::npos) return std::string(text);
  MUSTER_ASSIGN(const Template parsed, Template::parse(text, std::move(options)));
  return parsed.render(data);
}

boost::json::value TaskTemplateContext::to_json() const {
  boost::json::object labels;
  for (const auto& [key, label] : service_labels) labels[key] = label;
  boost::json::object service;
  service["ID"] = service_id;
  service["Name"] = service_name;
  service["Labels"] = std::move(labels);
  boost::json::object platform;
  platform["OS"] = node_os;
  platform["Architecture"] = node_architecture;
  boost::json::object node;
  node["ID"] = node_id;
  node["Hostname"] = node_hostname;
  node["Platform"] = std::move(platform);
  boost::json::object task;
  task["ID"] = task_id;
  task["Name"] = task_name;
  task["Slot"] = task_slot;
  boost::json::object root;
  root["Service"] = std::move(service);
  root["Node"] = std::move(node);
  root["Task"] = std::move(task);
  return root;
}

TaskTemplateContext TaskTemplateContext::dummy() {
  TaskTemplateContext out;
  out.service_id = "serviceid";
  out.service_name = "service";
  out.node_id = "nodeid";
  out.node_hostname = "node";
  out.node_os = "linux";
  out.node_architecture = "x86_64";
  out.task_id = "taskid";
  out.task_name = "service.1.taskid";
  out.task_slot = "1";
  return out;
}

}  // namespace muster
