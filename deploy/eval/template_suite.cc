#include "deploy/eval/template_suite.h"

#include "base/template.h"

namespace muster::deploy::eval {

namespace json = boost::json;

Result<json::value> eval_template(const json::value& input) {
  const json::object* root = input.if_object();
  const json::value* text = root == nullptr ? nullptr : root->if_contains("template");
  if (text == nullptr || !text->is_string()) {
    return fail(invalid_argument("expected an object with a string \"template\""));
  }
  TemplateOptions options;
  if (const json::value* missing = root->if_contains("missing")) {
    if (*missing == "no-value") {
      options.missing = TemplateOptions::Missing::kNoValue;
    } else if (*missing == "empty") {
      options.missing = TemplateOptions::Missing::kEmpty;
    } else if (*missing != "error") {
      return fail(invalid_argument("\"missing\" is none of error, no-value and empty"));
    }
  }
  const json::value* context = root->if_contains("context");
  const json::value dummy = TaskTemplateContext::dummy().to_json();
  const json::string& source = text->get_string();
  const Result<std::string> out =
      expand_template(std::string_view(source.data(), source.size()),
                      context == nullptr ? dummy : *context, std::move(options));
  json::object answer;
  if (out) {
    answer["text"] = *out;
  } else {
    answer["error"] = out.error().message();
  }
  return answer;
}

}  // namespace muster::deploy::eval
