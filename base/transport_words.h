#pragma once

#include <string>
#include <string_view>

namespace muster {

// Why a call did not get through, in words for people: gRPC's own are about subchannels,
// handshakers and files of its source. What it is not known for is given back as it is, without the
// part in front that names no cause.
std::string transport_words(std::string_view grpc_message);

}  // namespace muster
