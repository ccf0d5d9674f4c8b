#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

// The text templates of Swarm: hostnames, environment, mounts and payloads of services
// ("{{.Service.Name}}-{{.Task.Slot}}"), and the --format option of the command line. The language
// is the part of Go's text/template that such texts use:
//
//   actions     {{pipeline}}  {{- trims the white space before it -}}  {{/* comment */}}
//   control     if / else if / else, with, range (arrays, objects in key order, integers), break,
//               continue, end
//   variables   $ is the data, {{$x := pipeline}}, {{$x = pipeline}}, {{range $k, $v := pipeline}}
//   operands    .Field.Sub, $x.Field, (pipeline).Field, "text", `raw`, 'c', 12, 0x1f, 1.5,
//               true, false, nil
//   functions   and or not eq ne lt le gt ge index slice len print printf println urlquery;
//               and Docker's json join split lower upper title pad truncate
//
// define, template, block and call are refused. Errors are INVALID_ARGUMENT and begin with the
// position: "template line 1, column 9: ...".
namespace muster {

using TemplateArgs = std::vector<const boost::json::value*>;  // never null; borrowed for the call
using TemplateFunction = std::function<Result<boost::json::value>(const TemplateArgs&)>;
// By the name the template calls them by.
using TemplateFunctions = std::map<std::string, TemplateFunction, std::less<>>;

struct TemplateOptions {
  // What an absent field does. kError refuses the template, as Go does for a struct without that
  // field; objects under a field called "Labels" stay open maps, whose absent keys print
  // "<no value>". kNoValue prints "<no value>"; kEmpty prints nothing.
  enum class Missing { kError, kNoValue, kEmpty };
  Missing missing = Missing::kError;

  TemplateFunctions functions;  // in addition to those above; a name given here wins

  size_t text_bytes_max = 1 << 20;
  size_t output_bytes_max = 4 << 20;
  int depth_max = 100;             // nesting of blocks and parentheses
  uint64_t steps_max = 1'000'000;  // actions and calls evaluated in one rendering
};

namespace internal {
struct TemplateTree;
}

// A parsed template. Immutable and cheap to copy; may be rendered from any thread as long as the
// functions given to it may be called there.
class Template {
 public:
  // INVALID_ARGUMENT: syntax, unknown function, undefined variable, or over a limit.
  static Result<Template> parse(std::string_view text, TemplateOptions options = {});

  // INVALID_ARGUMENT: absent field, wrong kind of argument, or a function's own failure;
  // RESOURCE_EXHAUSTED: over output_bytes_max or steps_max.
  Result<std::string> render(const boost::json::value& data) const;

 private:
  explicit Template(std::shared_ptr<const internal::TemplateTree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const internal::TemplateTree> tree_;
};

// parse() and render() in one call. A text without "{{" is returned as it is.
Result<std::string> expand_template(std::string_view text, const boost::json::value& data,
                                    TemplateOptions options = {});

// What a service's templates may refer to, one per task (Swarm's variables, all of them).
struct TaskTemplateContext {
  std::string service_id;
  std::string service_name;
  std::map<std::string, std::string> service_labels;
  std::string node_id;
  std::string node_hostname;
  std::string node_os;            // "linux"
  std::string node_architecture;  // as the node reports it: "x86_64"
  std::string task_id;
  std::string task_name;  // "web.1.<task id>"
  std::string task_slot;  // the slot's number; the node's id for a global service

  // {"Service": {"ID", "Name", "Labels"}, "Node": {"ID", "Hostname", "Platform": {"OS",
  // "Architecture"}}, "Task": {"ID", "Name", "Slot"}}
  boost::json::value to_json() const;

  // Stand-ins with which the control API tries a spec's templates before it accepts them.
  static TaskTemplateContext dummy();
};

// Whether Go's templates take the value for true: not null, false, 0, "" or an empty list.
bool template_truth(const boost::json::value& value);
// The value as {{.}} prints it: text as it is, objects as map[a:1 b:2], lists as [1 2].
std::string template_print(const boost::json::value& value);
// Compact JSON, numbers in their shortest form.
std::string template_json(const boost::json::value& value);

}  // namespace muster
