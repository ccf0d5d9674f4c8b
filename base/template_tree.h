#pragma once

// The parsed form of a template: private to base/template*.cc.

#include <boost/json/value.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/template.h"

namespace muster::internal {

struct TemplatePipeline;

// One operand, or a call of a function with operands.
struct TemplateOperand {
  enum class Kind { kLiteral, kDot, kVariable, kFunction, kParen };
  Kind kind = Kind::kDot;
  size_t offset = 0;                         // in the text, for messages
  boost::json::value literal;                // kLiteral
  size_t variable = 0;                       // kVariable: slot in the frame; 0 is $
  std::string function;                      // kFunction
  std::shared_ptr<TemplatePipeline> parens;  // kParen
  std::vector<std::string> fields;           // ".A.B" after it
};

// `operands[0]` called with the rest; the value of the command before it in the pipeline becomes
// the last argument.
struct TemplateCommand {
  size_t offset = 0;
  std::vector<TemplateOperand> operands;
};

struct TemplatePipeline {
  size_t offset = 0;
  std::vector<TemplateCommand> commands;
  std::vector<size_t> targets;  // variables assigned; two for "range $k, $v :="
};

struct TemplateNode {
  enum class Kind { kText, kAction, kIf, kWith, kRange, kBreak, kContinue };
  Kind kind = Kind::kText;
  size_t offset = 0;
  std::string text;  // kText
  TemplatePipeline pipeline;
  std::vector<TemplateNode> body;
  std::vector<TemplateNode> otherwise;
};

struct TemplateTree {
  std::string text;  // for positions in messages
  TemplateOptions options;
  std::vector<TemplateNode> nodes;
  size_t variables = 1;  // slots a frame needs
};

// "template line L, column C: `message`"
Status template_error(std::string_view text, size_t offset, std::string_view message);

Result<TemplateTree> parse_template(std::string_view text, TemplateOptions options);

// Fails on a wrong number or kind of arguments; the caller adds the position. and, or: only the
// last value is given, the evaluator stops early by itself.
using TemplateBuiltin = Result<boost::json::value> (*)(const TemplateArgs&);
// Null when there is no such function.
TemplateBuiltin find_template_builtin(std::string_view name);

}  // namespace muster::internal
