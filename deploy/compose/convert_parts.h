#pragma once

// Pieces of convert(): private to deploy/compose.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/compose/loader.h"

namespace muster::deploy::compose {

// What one conversion knows: the document, the stack, and what the services turned out to use.
struct Conversion {
  const Project& project;
  std::string stack;
  std::set<std::string> used_networks;  // keys
  std::set<std::string> used_volumes;   // keys

  bool spec() const { return project.dialect == Dialect::kSpec; }
  std::string scoped(std::string_view key) const { return stack + "_" + std::string(key); }
  // The section's entry, or null.
  const Node* entry(std::string_view section, std::string_view key) const {
    return project.document.find({section, key});
  }
  // `name:` of the entry, else the key under the stack's name.
  std::string name_of(const Node* entry, std::string_view key) const;
};

// A mapping with its path, read field by field with errors that name both.
class Fields {
 public:
  Fields(const Node* node, std::string path) : node_(node), path_(std::move(path)) {}

  const Node* node() const { return node_; }
  const std::string& path() const { return path_; }
  // The non-null field, or null.
  const Node* find(std::string_view key) const;
  Fields child(std::string_view key) const { return {find(key), path_ + "." + std::string(key)}; }
  bool present() const { return node_ != nullptr && !node_->is_null(); }

  // Absent fields read as "", false, nothing.
  std::string text(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key) const;
  std::map<std::string, std::string> pairs(std::string_view key) const;
  Result<std::optional<int64_t>> duration_ns(std::string_view key) const;
  Result<std::optional<int64_t>> integer(std::string_view key) const;
  Result<std::optional<int64_t>> size(std::string_view key) const;
  Result<std::optional<int64_t>> cpus(std::string_view key) const;
  Result<std::optional<double>> real(std::string_view key) const;
  // Permission bits: a number as it is, a text as octal.
  Result<std::optional<uint32_t>> mode(std::string_view key) const;

  Status error(std::string_view key, std::string_view message) const;

 private:
  const Node* node_;
  std::string path_;
};

using Labels = std::map<std::string, std::string>;

void put_pairs(const Labels& pairs, google::protobuf::RepeatedPtrField<muster::v1::KeyValue>* out);
// `labels` with the stack's own label.
Labels with_stack_label(const Conversion& conversion, Labels labels);

Result<muster::v1::ServiceSpec> convert_service(Conversion& conversion, const Member& service);
// `fields` are those of the service; fills what a container is made of, mounts and files aside.
Status convert_container(const Conversion& conversion, const Fields& fields,
                         muster::v1::ContainerSpec* out);
// volumes, tmpfs, secrets, configs.
Status convert_mounts(Conversion& conversion, const Fields& fields, muster::v1::ContainerSpec* out);
Status convert_resources(const Conversion& conversion, const Fields& fields,
                         muster::v1::TaskSpec* out);

}  // namespace muster::deploy::compose
