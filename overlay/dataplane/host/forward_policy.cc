#include "overlay/dataplane/host/forward_policy.h"

#include <fmt/format.h>
#include <nftables/libnftables.h>

#include <algorithm>
#include <boost/json.hpp>
#include <memory>

namespace muster::overlay {
namespace {

namespace json = boost::json;

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* at = object.if_contains(json::string_view(key.data(), key.size()));
  return at != nullptr && at->is_string() ? std::string(at->as_string()) : std::string();
}

json::value parse(std::string_view text) {
  boost::system::error_code error;
  json::value root = json::parse(json::string_view(text.data(), text.size()), error);
  return error ? json::value() : root;
}

bool is_ours(std::string_view interface) {
  constexpr std::string_view kOurs[] = {"mb", "mg", "mp", "mi"};
  return std::any_of(std::begin(kOurs), std::end(kOurs),
                     [&](std::string_view ours) { return interface.starts_with(ours); });
}

// Names may be alone, in a set, or in a set of what is concatenated.
bool has_our_name(const json::value& value) {
  if (value.is_string()) return is_ours(std::string_view(value.as_string()));
  if (value.is_array()) {
    const json::array& all = value.as_array();
    return std::any_of(all.begin(), all.end(), has_our_name);
  }
  if (!value.is_object()) return false;
  const json::object& all = value.as_object();
  return std::any_of(all.begin(), all.end(),
                     [](const auto& entry) { return has_our_name(entry.value()); });
}

bool is_interface(const json::value& left) {
  const json::object* object = left.if_object();
  const json::value* meta = object == nullptr ? nullptr : object->if_contains("meta");
  if (meta == nullptr || !meta->is_object()) return false;
  const std::string key = text_at(meta->as_object(), "key");
  return key == "iifname" || key == "oifname";
}

// Wherever it is: rules hold expressions that hold others.
bool has_our_match(const json::value& value) {
  if (value.is_array()) {
    const json::array& all = value.as_array();
    return std::any_of(all.begin(), all.end(), has_our_match);
  }
  if (!value.is_object()) return false;
  const json::object& object = value.as_object();
  const json::value* left = object.if_contains("left");
  const json::value* right = object.if_contains("right");
  if (left != nullptr && right != nullptr && is_interface(*left)) return has_our_name(*right);
  return std::any_of(object.begin(), object.end(),
                     [](const auto& entry) { return has_our_match(entry.value()); });
}

struct FreeContext {
  void operator()(nft_ctx* context) const { nft_ctx_free(context); }
};
using Context = std::unique_ptr<nft_ctx, FreeContext>;

Result<std::string> ask(nft_ctx* context, const std::string& command) {
  if (nft_run_cmd_from_buffer(context, command.c_str()) != 0) {
    return fail(internal_error("nftables does not {}", command));
  }
  const char* output = nft_ctx_get_output_buffer(context);
  return std::string(output != nullptr ? output : "");
}

}  // namespace

std::vector<DroppingChain> dropping_chains(std::string_view chains) {
  std::vector<DroppingChain> out;
  const json::value root = parse(chains);
  const json::object* object = root.if_object();
  const json::value* all = object == nullptr ? nullptr : object->if_contains("nftables");
  if (all == nullptr || !all->is_array()) return out;
  for (const json::value& entry : all->as_array()) {
    const json::object* holder = entry.if_object();
    const json::value* chain = holder == nullptr ? nullptr : holder->if_contains("chain");
    if (chain == nullptr || !chain->is_object()) continue;
    const json::object& known = chain->as_object();
    const std::string family = text_at(known, "family");
    // Frames between ports of a bridge are another matter.
    const bool routed = family == "ip" || family == "ip6" || family == "inet";
    if (!routed || text_at(known, "hook") != "forward" || text_at(known, "policy") != "drop") {
      continue;
    }
    out.push_back({family, text_at(known, "table"), text_at(known, "name")});
  }
  return out;
}

bool names_our_interfaces(std::string_view table) {
  return has_our_match(parse(table));
}

Result<std::vector<DroppingChain>> forward_drops() {
  const Context context(nft_ctx_new(NFT_CTX_DEFAULT));
  if (context == nullptr) return fail(internal_error("cannot open nftables"));
  nft_ctx_buffer_error(context.get());
  nft_ctx_buffer_output(context.get());
  nft_ctx_output_set_flags(context.get(), NFT_CTX_OUTPUT_JSON);
  MUSTER_ASSIGN(const std::string chains, ask(context.get(), "list chains"));
  std::vector<DroppingChain> out;
  for (DroppingChain& chain : dropping_chains(chains)) {
    const auto table =
        ask(context.get(), fmt::format("list table {} {}", chain.family, chain.table));
    // It may be gone by now.
    if (table && !names_our_interfaces(*table)) out.push_back(std::move(chain));
  }
  return out;
}

}  // namespace muster::overlay
