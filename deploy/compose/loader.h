#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "deploy/compose/node.h"
#include "muster/v1/specs.pb.h"

// From Compose files to what the control API takes. Pure: everything outside comes in through
// `Files` and the request, so the same input gives the same answer.
//
// Two dialects that never mix. kV3 is what `docker stack deploy` takes (every file says
// `version: "3.x"`), with its messages; kSpec is the present Compose Specification (no `version`).
// README.md beside this file says where muster leaves either of them.
namespace muster::deploy::compose {

enum class Dialect { kAuto, kV3, kSpec };

// The file system the loader sees. Paths are absolute or relative to the process.
class Files {
 public:
  virtual ~Files() = default;
  virtual Result<std::string> read(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual bool is_directory(const std::string& path) = 0;
};

// The machine's files, each read up to 8 MiB.
class LocalFiles final : public Files {
 public:
  Result<std::string> read(const std::string& path) override;
  bool exists(const std::string& path) override;
  bool is_directory(const std::string& path) override;
};

struct SourceFile {
  std::string path;  // as the user wrote it; used in messages and to resolve paths
  std::optional<std::string> content;  // given instead of read, for standard input ("-")
};

struct LoadRequest {
  std::vector<SourceFile> files;  // merged left to right
  // Base of relative paths; empty = the directory of the first file, made absolute against
  // `current_dir`.
  std::string working_dir;
  std::string current_dir;                         // absolute; of the process
  std::map<std::string, std::string> environment;  // of the process
  // kSpec only: where COMPOSE-style variables come from below the environment; absent = `.env` in
  // the working directory when there is one.
  std::optional<std::vector<std::string>> env_files;
  std::vector<std::string> profiles;  // kSpec only; "*" enables all
  std::string stack;                  // name given by the user; becomes the project's name
  Dialect dialect = Dialect::kAuto;
  bool ignore_unsupported = false;  // kSpec: what muster cannot honour is a warning, not an error
  bool skip_interpolation = false;
};

// What the files say together: short forms expanded, files merged, paths absolute.
struct Project {
  Dialect dialect = Dialect::kSpec;  // never kAuto
  std::string version;               // kV3: "3.8"
  std::string name;                  // `name:`, or the request's stack; may be empty
  std::string working_dir;
  bool interpolated = true;  // false: variables stand as they were written
  Node document;
  std::vector<std::string> warnings;  // for people, each one or more lines, in order
  // Content of secrets and configs by "secrets.NAME", "configs.NAME". A file that could not be
  // read keeps its error: printing the document does not need it.
  std::map<std::string, Result<std::string>> payloads;
};

// INVALID_ARGUMENT: the files are wrong; the message starts with "FILE:LINE: " wherever one place
// is to blame and names the key. NOT_FOUND and others: a file cannot be read.
Result<Project> load(const LoadRequest& request, Files& files);

// What `muster stack deploy` sends. Network attachments name networks, secret and config
// references name their objects; the control API resolves names to ids.
struct StackSpecs {
  std::vector<muster::v1::NetworkSpec> networks;  // to create, by name; only those in use
  std::vector<std::string> external_networks;     // have to exist, by name
  std::vector<muster::v1::SecretSpec> secrets;    // by name, data included
  std::vector<std::string> external_secrets;
  std::vector<muster::v1::ConfigSpec> configs;
  std::vector<std::string> external_configs;
  // Volumes the stack's services name, for those who want to create them ahead. Mounts carry
  // driver, options and labels themselves, so the nodes create them on first use.
  std::vector<muster::v1::VolumeSpec> volumes;
  std::vector<muster::v1::ServiceSpec> services;  // by name
  std::vector<std::string> warnings;
};

// INVALID_ARGUMENT with the place, as load().
Result<StackSpecs> convert(const Project& project, std::string_view stack);

// Stack names: letters, digits, "_", "-", "."; starts with a letter or digit; at most 63 bytes.
Status check_stack_name(std::string_view name);

// The document as `muster stack config` prints it. In kSpec a "$" that is left is doubled, as
// `docker compose config` does, so that the print loads again; in kV3 it is not, as `docker stack
// config` does.
std::string to_yaml(const Project& project);

}  // namespace muster::deploy::compose
