// Any text as a template: parse, render with a task's variables and with what --format sees.

#include <boost/json/parse.hpp>
#include <cstdint>
#include <string_view>

#include "base/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const boost::json::value listing = boost::json::parse(
      R"({"Name": "web", "N": 3, "List": ["a", 1, null], "Labels": {"a": "b"}, "Sub": {"D": 1.5}})");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  muster::TemplateOptions options;
  options.steps_max = 20'000;
  options.output_bytes_max = 1 << 16;
  (void)muster::expand_template(text, muster::TaskTemplateContext::dummy().to_json(), options);
  options.missing = muster::TemplateOptions::Missing::kNoValue;
  (void)muster::expand_template(text, listing, options);
  return 0;
}
