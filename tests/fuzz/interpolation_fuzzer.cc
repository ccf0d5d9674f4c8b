// Any text through the small languages inside Compose files: variables of both dialects, env files,
// sizes, CPUs, command lines, ports, volumes, image references.

#include <cstdint>
#include <string>
#include <string_view>

#include "deploy/compose/env_file.h"
#include "deploy/compose/loader.h"
#include "deploy/compose/values.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster::deploy::compose;  // NOLINT: a program of one function
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Lookup lookup = [](const std::string& name) -> std::optional<std::string> {
    if (name == "A") return "value";
    if (name == "E") return "";
    return std::nullopt;
  };
  std::vector<std::string> notes;
  (void)substitute(text, Dialect::kV3, lookup, notes);
  (void)substitute(text, Dialect::kSpec, lookup, notes);
  (void)parse_docker_env(text, "f", lookup);
  (void)parse_dotenv(text, "f", lookup);
  (void)parse_size(text);
  (void)parse_cpus(text);
  (void)split_words(text);
  (void)parse_port(text, {});
  (void)parse_volume(text, {});
  (void)check_image(text);
  return 0;
}
