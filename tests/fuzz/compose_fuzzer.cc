// Any text as a Compose file. The first byte chooses the dialect and whether the text is cut into
// two files; what loads is converted, printed, and the print read again.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "deploy/compose/interpolation.h"
#include "deploy/compose/loader.h"
#include "deploy/compose/yaml_reader.h"

namespace {

using namespace muster::deploy::compose;  // NOLINT: a program of one function

class NoFiles final : public Files {
 public:
  explicit NoFiles(std::string other) : other_(std::move(other)) {}
  muster::Result<std::string> read(const std::string& path) override {
    if (path.ends_with("/other.yml") || path.ends_with(".env")) return other_;
    return muster::fail(muster::not_found("{}: No such file or directory", path));
  }
  bool exists(const std::string& path) override { return path.ends_with("/.env"); }
  bool is_directory(const std::string&) override { return false; }

 private:
  std::string other_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 8192) return 0;
  const unsigned mode = data[0];
  std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  LoadRequest request;
  request.current_dir = "/p";
  request.environment = {{"A", "value"}, {"N", "3"}, {"HOME", "/h"}};
  request.ignore_unsupported = (mode & 1) != 0;
  request.dialect = (mode & 2) != 0   ? Dialect::kV3
                    : (mode & 4) != 0 ? Dialect::kSpec
                                      : Dialect::kAuto;
  request.skip_interpolation = (mode & 16) != 0;
  std::string other = text;
  const size_t cut = text.find("\n#cut\n");
  if (cut != std::string::npos) {
    other = text.substr(cut + 6);
    text.resize(cut);
  }
  request.files.push_back({"compose.yml", text});
  if ((mode & 8) != 0) request.files.push_back({"over.yml", other});
  NoFiles files(other);
  const muster::Result<Project> project = load(request, files);
  if (!project) return 0;
  const std::string printed = to_yaml(*project);
  YamlLimits limits;
  limits.bytes_max = 64 << 20;
  limits.nodes_max = 2'000'000;
  limits.depth_max = 200;
  limits.expanded_bytes_max = 256 << 20;
  auto again = read_yaml(printed, "printed", limits);
  if (!again || again->size() != 1) std::abort();
  if (project->dialect == Dialect::kSpec && project->interpolated) {
    std::vector<std::string> notes;
    const Lookup nothing = [](const std::string&) { return std::nullopt; };
    if (!interpolate((*again)[0], Dialect::kSpec, nothing, notes).ok()) std::abort();
  }
  if (!same_content((*again)[0], project->document)) std::abort();
  (void)convert(*project, "shop");
  return 0;
}
