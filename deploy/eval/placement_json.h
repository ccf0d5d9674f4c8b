#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

#include "base/status.h"
#include "muster/v1/objects.pb.h"

namespace muster::deploy::eval {

// Reads one JSON object key by key. Every getter leaves its default when the key is absent and
// notes the first thing that has the wrong type; finish() reports it, or a key nobody asked for.
class ObjectReader {
 public:
  // `path` names the object in messages: "nodes[2]".
  ObjectReader(const boost::json::value& value, std::string path);

  std::string text(std::string_view key, std::string fallback = {});
  int64_t number(std::string_view key, int64_t fallback = 0);
  // nullptr when absent.
  const boost::json::value* child(std::string_view key);
  std::string path(std::string_view key) const;
  // An array's elements; none when absent.
  const boost::json::array& list(std::string_view key);
  std::vector<std::string> texts(std::string_view key);
  // An object of texts, as pairs sorted by key.
  void labels(std::string_view key, google::protobuf::RepeatedPtrField<v1::KeyValue>& out);
  void complain(std::string_view key, std::string_view expected);

  Status finish() const;

 private:
  const boost::json::object* object_ = nullptr;
  std::string path_;
  std::vector<std::string> asked_;
  Status trouble_;
};

Result<v1::Node> node_from_json(const boost::json::value& value, const std::string& path);
Status resources_from_json(const boost::json::value& value, const std::string& path,
                           v1::Resources& out);
Status generics_from_json(const boost::json::array& list, const std::string& path,
                          google::protobuf::RepeatedPtrField<v1::GenericResource>& out);

}  // namespace muster::deploy::eval
