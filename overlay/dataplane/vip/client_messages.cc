#include <linux/netfilter/nfnetlink.h>

#include "overlay/dataplane/vip/client_batch.h"
#include "overlay/dataplane/vip/client_listing.h"

namespace muster::overlay {

std::string_view nested(std::string_view attributes, uint16_t a, uint16_t b) {
  return find_attribute(find_attribute(attributes, a), b);
}

// A listing of one kind; of our table, where the kernel can tell.
Status list_nft(WireSocket& socket, uint16_t message, bool by_table,
                const std::function<void(std::string_view attributes)>& visit) {
  Wire wire;
  wire.begin(nft_type(message), NLM_F_DUMP, nft_inet());
  if (by_table) wire.text(NFTA_CHAIN_TABLE, kVipTable);
  wire.end();
  const Status status = socket.query(wire, [&](const nlmsghdr* h) {
    const std::string_view attributes = attributes_of(h, sizeof(nfgenmsg));
    if (text_of(find_attribute(attributes, NFTA_CHAIN_TABLE)) == kVipTable) visit(attributes);
  });
  // No table of ours.
  return status.code() == StatusCode::kNotFound ? ok_status() : status;
}

Status list_elements(
    WireSocket& socket, std::string_view set,
    const std::function<void(std::string_view key, std::string_view data)>& visit) {
  Wire wire;
  wire.begin(nft_type(NFT_MSG_GETSETELEM), NLM_F_DUMP, nft_inet());
  wire.text(NFTA_SET_ELEM_LIST_TABLE, kVipTable);
  wire.text(NFTA_SET_ELEM_LIST_SET, set);
  wire.end();
  return socket.query(wire, [&](const nlmsghdr* h) {
    std::string_view all =
        find_attribute(attributes_of(h, sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS);
    uint16_t type = 0;
    for (std::string_view element; (element = next_attribute(all, &type)).data() != nullptr;) {
      visit(nested(element, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE),
            find_attribute(element, NFTA_SET_ELEM_DATA));
    }
  });
}

Result<bool> has_chain(WireSocket& socket, std::string_view name) {
  Wire wire;
  wire.begin(nft_type(NFT_MSG_GETCHAIN), NLM_F_ACK, nft_inet());
  wire.text(NFTA_CHAIN_TABLE, kVipTable);
  wire.text(NFTA_CHAIN_NAME, name);
  wire.end();
  const Status found = socket.query(wire, [](const nlmsghdr*) {});
  if (found.code() == StatusCode::kNotFound) return false;
  if (!found.ok()) return fail(found);
  return true;
}

Result<uint32_t> nft_generation(WireSocket& socket) {
  Wire wire;
  wire.begin(nft_type(NFT_MSG_GETGEN), NLM_F_ACK, nft_inet());
  wire.end();
  uint32_t generation = 0;
  MUSTER_TRY(socket.query(wire, [&](const nlmsghdr* h) {
    generation = be32_of(find_attribute(attributes_of(h, sizeof(nfgenmsg)), NFTA_GEN_ID));
  }));
  return generation;
}

}  // namespace muster::overlay
