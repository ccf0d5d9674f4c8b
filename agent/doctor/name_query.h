#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/doctor/host_tests.h"

namespace muster::agent {

// A question to a resolver as bytes (RFC 1035, with room for long answers by RFC 6891). Pure.
std::string name_query(uint16_t id, const HostTests::Question& question);

struct NameReply {
  uint16_t id = 0;
  HostTests::Named named;
};
// nullopt: it is no answer.
std::optional<NameReply> parse_name_reply(std::string_view packet);

}  // namespace muster::agent
