#pragma once

// The two dialects' pipelines behind load(): private to deploy/compose.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "deploy/compose/interpolation.h"
#include "deploy/compose/loader.h"

namespace muster::deploy::compose {

// A file as read: all its YAML documents.
struct ParsedFile {
  std::string path;  // as the user wrote it
  std::vector<Node> documents;
};

struct LoadContext {
  const LoadRequest& request;
  Files& files;
  std::string working_dir;
  std::vector<std::string> warnings;
};

Result<Project> load_v3(LoadContext& context, std::vector<ParsedFile> sources);
Result<Project> load_spec(LoadContext& context, std::vector<ParsedFile> sources);

Lookup lookup_in(const std::map<std::string, std::string>& environment);

// Appends notes that are not there yet.
void add_notes(std::vector<std::string>& warnings, const std::vector<std::string>& notes);

// Reads what the secrets and configs of a canonical document hold. `variables` has what those with
// an `environment:` hold, by "secrets.NAME", "configs.NAME"; kSpec only.
void read_payloads(LoadContext& context, const std::map<std::string, std::string>& variables,
                   Project& project);

// Sorts the entries of services, networks, volumes, secrets and configs by name, and the sections
// into their usual order.
void sort_document(Node& document);

// The keys of a canonical document that muster cannot honour, each as "FILE:LINE: KEY: why". Values
// of a `raw` document that still have their variables are not looked at.
std::vector<std::string> unsupported_keys(const Node& document, Dialect dialect, bool raw);

}  // namespace muster::deploy::compose
