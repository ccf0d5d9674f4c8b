#include "overlay/dataplane/kernel/nft_table.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "base/fnv.h"
#include "overlay/dataplane/kernel/nft.h"

namespace muster::overlay {
namespace {

namespace json = boost::json;

constexpr std::string_view kMarker = "made_";

void strip(json::value& v) {
  if (v.is_array()) {
    for (json::value& item : v.as_array()) strip(item);
    return;
  }
  if (!v.is_object()) return;
  json::object& object = v.as_object();
  object.erase("handle");
  for (auto& [key, value] : object) {
    if (key == "counter") {
      value = nullptr;
    } else {
      strip(value);
    }
  }
}

std::string text_at(const json::value& described, std::string_view key) {
  const json::value* text =
      described.is_object() ? described.as_object().if_contains(key) : nullptr;
  return text != nullptr && text->is_string() ? std::string(text->as_string()) : std::string();
}
std::string name_of(const json::value& described) {
  return text_at(described, "name");
}

// Calls `visit` with kind ("chain", "rule", "map") and description of everything listed.
template <class Visit>
Status each_object(std::string_view listing, const Visit& visit) {
  boost::system::error_code error;
  json::value root = json::parse(json::string_view(listing.data(), listing.size()), error);
  json::value* all =
      !error && root.is_object() ? root.as_object().if_contains("nftables") : nullptr;
  if (all == nullptr || !all->is_array()) return internal_error("cannot read nftables' listing");
  for (json::value& entry : all->as_array()) {
    if (!entry.is_object()) continue;
    for (auto& [kind, described] : entry.as_object()) {
      visit(std::string_view(kind.data(), kind.size()), described);
    }
  }
  return ok_status();
}

}  // namespace

Result<std::string> table_essence(std::string_view listing, PassingName passing) {
  std::string out;
  MUSTER_TRY(each_object(listing, [&](std::string_view kind, json::value& described) {
    if (kind == "metainfo" || (kind == "chain" && name_of(described).starts_with(kMarker))) return;
    const std::string where = kind == "rule" ? text_at(described, "chain") : name_of(described);
    if (kind != "table" && passing != nullptr && passing(where)) return;
    strip(described);
    if ((kind == "map" || kind == "set") && described.is_object()) {
      described.as_object().erase("elem");
    }
    out += fmt::format("{} {}\n", kind, json::serialize(described));
  }));
  return out;
}

std::string table_marker(std::string_view commands, std::string_view essence) {
  return fmt::format("{}{:016x}{:016x}", kMarker, fnv1a_64(commands), fnv1a_64(essence));
}

bool table_is_as_made(std::string_view listing, std::string_view commands, PassingName passing) {
  std::string marker;
  const Status read = each_object(listing, [&](std::string_view kind, const json::value& v) {
    if (kind == "chain" && name_of(v).starts_with(kMarker)) marker = name_of(v);
  });
  const auto essence = table_essence(listing, passing);
  return read.ok() && essence && marker == table_marker(commands, *essence);
}

Result<KeptTable> keep_table(LibNft& nft, const NftTable& table) {
  auto listing = nft.list(table.family, table.name);
  if (listing && table_is_as_made(*listing, table.commands, table.passing)) {
    return KeptTable{std::move(*listing), false};
  }
  if (!listing && listing.error().code() != StatusCode::kNotFound) return fail(listing.error());
  const bool whole = !table.contents.empty() && nft.run(table.commands + table.contents).ok();
  if (!whole) MUSTER_TRY(nft.run(table.commands));
  MUSTER_ASSIGN(std::string made, nft.list(table.family, table.name));
  MUSTER_ASSIGN(const std::string essence, table_essence(made, table.passing));
  MUSTER_TRY(nft.run(fmt::format("add chain {} {} {}\n", table.family, table.name,
                                 table_marker(table.commands, essence))));
  return KeptTable{std::move(made), true};
}

Status delete_table(LibNft& nft, std::string_view family, std::string_view name) {
  return nft.run(fmt::format("add table {0} {1}\ndelete table {0} {1}\n", family, name));
}

}  // namespace muster::overlay
