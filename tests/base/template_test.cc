#include "base/template.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace muster {
namespace {

using boost::json::value;

value sample() {
  return boost::json::parse(R"({
    "Name": "web", "N": 3, "Zero": 0, "Pi": 1.50, "On": true, "Off": false, "Null": null,
    "Empty": "", "List": ["a", "b", "c"], "None": [], "Ports": [80, 443],
    "Labels": {"tier": "front", "com.example.a-b": "x"},
    "Sub": {"Deep": {"Text": "t"}}})");
}

std::string run(std::string_view text, TemplateOptions options = {}) {
  const Result<std::string> out = expand_template(text, sample(), std::move(options));
  return out ? *out : "error: " + out.error().message();
}

struct Row {
  const char* text;
  const char* expected;
};

TEST(Template, GivesWhatGoGives) {
  const Row rows[] = {
      {"plain", "plain"},
      {"", ""},
      {"{{.Name}}", "web"},
      {"a{{.Name}}b{{.N}}c", "awebb3c"},
      {"{{.Pi}} {{.On}} {{.Null}}", "1.5 true <no value>"},
      {"{{.List}} {{.Labels}} {{.None}}", "[a b c] map[com.example.a-b:x tier:front] []"},
      {"{{.Sub.Deep.Text}} {{$.Sub.Deep}}", "t map[Text:t]"},
      {"{{(.Sub).Deep.Text}}", "t"},
      {"{{ \"q\\\"\\n\\u00e9\\x41\" }} {{`raw\\n`}} {{'a'}}", "q\"\n\u00e9A raw\\n 97"},
      {"{{12}} {{-3}} {{0x1f}} {{1.5}} {{1_000}} {{1e3}} {{true}} {{nil}}",
       "12 -3 31 1.5 1000 1000 true <no value>"},
      // White space and comments.
      {"a  {{- .Name -}}  b", "awebb"},
      {"a {{/* gone */}} b", "a  b"},
      {"a {{- /* gone */ -}} b", "ab"},
      {"{{ .Name\n}}", "web"},
      {"{{-3}}", "-3"},
      // Conditions.
      {"{{if .On}}y{{end}}", "y"},
      {"{{if .Off}}y{{else}}n{{end}}", "n"},
      {"{{if .Empty}}1{{else if .Zero}}2{{else if .List}}3{{else}}4{{end}}", "3"},
      {"{{if not .None}}empty{{end}}", "empty"},
      {"{{with .Sub.Deep}}{{.Text}}{{else}}none{{end}}", "t"},
      {"{{with .Empty}}x{{else}}none{{end}}", "none"},
      {"{{with $x := .Name}}{{$x}}{{end}}", "web"},
      // Ranges.
      {"{{range .List}}<{{.}}>{{end}}", "<a><b><c>"},
      {"{{range $i, $v := .List}}{{$i}}={{$v} }", "error"},
      {"{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=a;1=b;2=c;"},
      {"{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "com.example.a-b=x;tier=front;"},
      {"{{range .None}}x{{else}}empty{{end}}", "empty"},
      {"{{range .N}}{{.}}{{end}}", "012"},
      {"{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"},
      {"{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"},
      {"{{range .List}}{{$.Name}}{{end}}", "webwebweb"},
      // Variables.
      {"{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "12"},
      {"{{$x := 1}}{{if true}}{{$x = 5}}{{end}}{{$x}}", "5"},
      {"{{$x := 1}}{{if true}}{{$x := 5}}{{$x}}{{end}}{{$x}}", "51"},
      // Functions.
      {"{{index .Labels \"tier\"}} {{index .Labels \"gone\"}}|", "front |"},
      {"{{index .List 1}} {{index .Ports 0}}", "b 80"},
      {"{{.Labels.tier}} {{.Labels.gone}}", "front <no value>"},
      {"{{len .List}} {{len .Name}} {{len .Labels}}", "3 3 2"},
      {"{{slice .Name 1}} {{slice .List 0 2}}", "eb [a b]"},
      {"{{eq .N 3}} {{eq .Name \"a\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge 2.5 2}}",
       "true true true true true"},
      {"{{and .On .Name}} {{and .Off (index .List 9)}} {{or .Empty .Name}}", "web false web"},
      {"{{or .Name (index .List 9)}}", "web"},
      {"{{print 1 2 \"a\" \"b\" 3}}|{{println .Name 1}}", "1 2ab3|web 1\n"},
      {"{{printf \"%s-%02d %5s|%-5s|%q %x %v %t %.2f %%\" .Name .N \"a\" \"b\" \"c\" 255 .List .On "
       "1.5}}",
       "web-03     a|b    |\"c\" ff [a b c] true 1.50 %"},
      {"{{printf \"%d\" \"x\"}}", "%!d(x)"},
      {"{{.Name | upper | printf \"%s!\"}}", "WEB!"},
      {"{{json .Sub}} {{.Ports | json}} {{json \"a\\\"b\"}} {{json .Pi}}",
       "{\"Deep\":{\"Text\":\"t\"}} [80,443] \"a\\\"b\" 1.5"},
      {"{{join .List \",\"}} {{.List | join \"+\"}}", "a,b,c a+b+c"},
      {"{{split \"a/b\" \"/\"}} {{lower \"ABC\"}} {{title \"two words\"}}", "[a b] abc Two Words"},
      {"{{pad \"x\" 1 2}}| {{truncate \"abcdef\" 3}} {{urlquery \"a b&c\"}}", " x  | abc a+b%26c"},
  };
  for (const Row& row : rows) {
    const std::string actual = run(row.text);
    if (std::string_view(row.expected) == "error") {
      EXPECT_TRUE(actual.starts_with("error: ")) << row.text << ": " << actual;
    } else {
      EXPECT_EQ(actual, row.expected) << row.text;
    }
  }
}

TEST(Template, ErrorsNameThePosition) {
  const Row rows[] = {
      {"a\n {{.Name", "template line 2, column 4: the action is not closed with }}"},
      {"{{foo}}", "template line 1, column 3: function \"foo\" not defined"},
      {"{{$x}}", "template line 1, column 3: undefined variable \"$x\""},
      {"{{if .On}}x", "template line 1, column 3: {{if}} has no {{end}}"},
      {"x{{end}}", "template line 1, column 4: unexpected {{end}}"},
      {"{{else}}", "template line 1, column 3: unexpected {{else}}"},
      {"{{if 1}}{{else}}{{else}}{{end}}", "template line 1, column 19: a second {{else}}"},
      {"{{break}}", "template line 1, column 3: {{break}} outside of a range"},
      {"{{template \"x\"}}", "template line 1, column 3: template is not supported"},
      {"{{\"x}}", "template line 1, column 3: the quoted text is not closed"},
      {"{{/* x}}", "template line 1, column 3: the comment is not closed with */"},
      {"{{}}", "template line 1, column 3: a value is missing"},
      {"{{(1}}", "template line 1, column 3: ( is not closed"},
      {"{{.Name 1}}",
       "template line 1, column 3: arguments are given to something that is not a function"},
      {"{{1 | 2}}", "template line 1, column 7: a value cannot take the result of a pipe"},
      {"{{.Gone}}", "template line 1, column 3: there is no field .Gone"},
      {"{{.Name.Sub}}", "template line 1, column 3: there is no field .Sub"},
      {"{{.Null.Sub}}", "template line 1, column 3: no value to take .Sub from"},
      {"{{index .List 7}}",
       "template line 1, column 3: index: index 7 is out of range, the list has 3"},
      {"{{upper}}", "template line 1, column 3: upper: expects 1 argument, got 0"},
      {"{{range .Name}}{{end}}", "template line 1, column 3: range cannot iterate over web"},
      {"{{lt 1 \"a\"}}", "template line 1, column 3: lt: cannot compare 1 with a"},
  };
  for (const Row& row : rows) EXPECT_EQ(run(row.text), std::string("error: ") + row.expected);
}

TEST(Template, MissingFieldsDoWhatTheOptionSays) {
  TemplateOptions options;
  options.missing = TemplateOptions::Missing::kNoValue;
  EXPECT_EQ(run("{{.Gone}} {{.Gone.Sub}} {{if .Gone}}a{{else}}b{{end}}", options),
            "<no value> <no value> b");
  options.missing = TemplateOptions::Missing::kEmpty;
  EXPECT_EQ(run("[{{.Gone}}]", options), "[]");
}

TEST(Template, LimitsEndEveryRendering) {
  TemplateOptions options;
  options.depth_max = 5;
  EXPECT_NE(run("{{((((((1))))))}}", options).find("nested too deeply"), std::string::npos);
  std::string blocks;
  for (int i = 0; i < 9; ++i) blocks += "{{if 1}}";
  EXPECT_NE(run(blocks, options).find("nested"), std::string::npos);

  options = {};
  options.output_bytes_max = 10;
  EXPECT_NE(run("{{range 100}}abc{{end}}", options).find("the output is too long"),
            std::string::npos);

  options = {};
  EXPECT_NE(run("{{range 999999}}{{range 999999}}{{end}}{{end}}", options)
                .find("the template runs for too long"),
            std::string::npos);

  options.text_bytes_max = 4;
  EXPECT_NE(run("{{.Name}}", options).find("over the limit"), std::string::npos);
}

TEST(Template, RegisteredFunctionsWinAndTheirErrorsArePlaced) {
  TemplateOptions options;
  options.functions["secret"] = [](const TemplateArgs& args) -> Result<value> {
    if (args.size() != 1 || !args[0]->is_string()) return fail(invalid_argument("expects a name"));
    return value("s3cret-" + std::string(args[0]->get_string()));
  };
  options.functions["upper"] = [](const TemplateArgs&) -> Result<value> { return value("mine"); };
  EXPECT_EQ(run("{{secret \"a\"}} {{upper 1}}", options), "s3cret-a mine");
  EXPECT_EQ(run("x {{secret 1}}", options),
            "error: template line 1, column 5: secret: expects a name");
}

TEST(Template, OfATaskKnowsAllOfSwarmsVariables) {
  TaskTemplateContext context;
  context.service_id = "s1";
  context.service_name = "web";
  context.service_labels = {{"a", "b"}};
  context.node_id = "n1";
  context.node_hostname = "host";
  context.node_os = "linux";
  context.node_architecture = "x86_64";
  context.task_id = "t1";
  context.task_name = "web.2.t1";
  context.task_slot = "2";
  const Result<std::string> out = expand_template(
      "{{.Service.ID}} {{.Service.Name}} {{.Service.Labels.a}} {{index .Service.Labels \"a\"}} "
      "{{.Node.ID}} {{.Node.Hostname}} {{.Node.Platform.OS}} {{.Node.Platform.Architecture}} "
      "{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}",
      context.to_json());
  ASSERT_TRUE(out) << out.error().message();
  EXPECT_EQ(*out, "s1 web b b n1 host linux x86_64 t1 web.2.t1 2");
  EXPECT_TRUE(expand_template("{{.Task.Slot}}", TaskTemplateContext::dummy().to_json()));
  EXPECT_FALSE(expand_template("{{.Task.Nope}}", TaskTemplateContext::dummy().to_json()));
}

}  // namespace
}  // namespace muster
