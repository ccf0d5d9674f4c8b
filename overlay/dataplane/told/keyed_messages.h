#pragma once

#include <google/protobuf/util/message_differencer.h>

#include <map>
#include <set>
#include <string>

namespace muster::overlay {

// Messages by key, and which keys have another value since: what complete and incremental steps of
// a feed do to them. `changed` gets the keys that are gone, too.
template <class Value>
void put_message(std::map<std::string, Value>& known, const std::string& key, const Value& value,
                 std::set<std::string>& changed) {
  const auto [at, fresh] = known.try_emplace(key, value);
  if (!fresh) {
    if (google::protobuf::util::MessageDifferencer::Equals(at->second, value)) return;
    at->second = value;
  }
  changed.insert(key);
}

template <class Value, class Keys>
void drop_messages(std::map<std::string, Value>& known, const Keys& keys,
                   std::set<std::string>& changed) {
  for (const std::string& key : keys) {
    if (known.erase(key) != 0) changed.insert(key);
  }
}

// Takes away what a complete step does not name.
template <class Value>
void keep_messages(std::map<std::string, Value>& known, const std::set<std::string>& named,
                   std::set<std::string>& changed) {
  for (auto it = known.begin(); it != known.end();) {
    if (named.contains(it->first)) {
      ++it;
      continue;
    }
    changed.insert(it->first);
    it = known.erase(it);
  }
}

}  // namespace muster::overlay
