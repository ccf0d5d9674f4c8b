#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/status.h"
#include "overlay/dataplane/vip/client_wire.h"

// What a client's namespace has of table inet muster_vip, message by message.
namespace muster::overlay {

// The attribute `b` in the attribute `a`.
std::string_view nested(std::string_view attributes, uint16_t a, uint16_t b);
// A listing of one kind; `by_table`: the kernel can tell which table's. Nothing without the table.
Status list_nft(WireSocket& socket, uint16_t message, bool by_table,
                const std::function<void(std::string_view attributes)>& visit);
Status list_elements(WireSocket& socket, std::string_view set,
                     const std::function<void(std::string_view key, std::string_view data)>& visit);
// Whether the table has this chain.
Result<bool> has_chain(WireSocket& socket, std::string_view name);
// The generation of the namespace's nftables: it rises by one with every transaction by anybody.
Result<uint32_t> nft_generation(WireSocket& socket);

}  // namespace muster::overlay
